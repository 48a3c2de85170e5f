"""Names of the variables of every backbone that DeepLab2 has, ours -> DeepLab2's below `encoder/`."""

from __future__ import annotations

from deeplab2_kmax.checkpoints.name_maps import convnext, moat, mobilenet_v3, resnet

TABLE = {**resnet.TABLE, **convnext.TABLE, **moat.TABLE, **mobilenet_v3.TABLE}
