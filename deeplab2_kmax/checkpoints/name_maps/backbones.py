"""Names of the variables of every backbone that DeepLab2 has, ours -> DeepLab2's below `encoder/`."""

from __future__ import annotations

from deeplab2_kmax.checkpoints.name_maps import convnext, max_deeplab, moat, mobilenet_v3, resnet

TABLE = {**resnet.TABLE, **max_deeplab.TABLE, **convnext.TABLE, **moat.TABLE, **mobilenet_v3.TABLE}

# Which convolutions have a switch depends on the output stride. Without one, or at its start, they are plain.
OPTIONAL = (r".*/_?switch/(kernel|bias)",)
