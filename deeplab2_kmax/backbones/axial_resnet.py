"""ResNets whose deep blocks use axial attention (Axial-DeepLab, 2020, arXiv 2003.07853)."""

from __future__ import annotations

import functools
from collections.abc import Callable

from deeplab2_kmax.backbones import resnet

_axial = functools.partial(resnet.ResNet, axial_beyond_stride=16, stem="inception")

VARIANTS: dict[str, Callable[..., resnet.ResNet]] = {
    "max_deeplab_s_backbone": functools.partial(_axial, drop_path_keep_prob=0.8, name="max_deeplab_s_backbone"),
    "kmax_axial_resnet50": resnet.kmax(
        functools.partial(_axial, activation="gelu", name="kmax_axial_resnet50"), "kmax_axial_resnet50"
    ),
}
