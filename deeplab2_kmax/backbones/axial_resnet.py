"""ResNets with axial attention in all blocks or in the deep ones (Axial-DeepLab, 2020, arXiv 2003.07853)."""

from __future__ import annotations

import functools
from collections.abc import Callable

from deeplab2_kmax.backbones import fixed_options, resnet

FIXED_OPTIONS: fixed_options.Allowed = resnet.FIXED_OPTIONS

# What a config says instead of it replaces the width, as in DeepLab2.
_WIDTHS = {"s": 0.5, "m": 0.75, "l": 1.0, "xl": 2.0}

_deep = functools.partial(resnet.ResNet, stem="inception", axial_beyond_stride=16)

VARIANTS: dict[str, Callable[..., resnet.ResNet]] = {
    **{
        f"{name}_{size}": functools.partial(
            resnet.ResNet,
            stem=stem,
            axial_beyond_stride=axial_beyond_stride,
            backbone_width_multiplier=width,
            name=f"{name}_{size}",
        )
        for name, stem, axial_beyond_stride in (
            ("axial_resnet", "plain", 2),
            ("axial_deeplab", "inception", 2),
            ("full_axial_resnet", "none", 1),
        )
        for size, width in _WIDTHS.items()
    },
    "max_deeplab_s_backbone": functools.partial(_deep, name="max_deeplab_s_backbone"),
}

# For kMaX-DeepLab alone: the network that its paper calls MaX-S, with GELU.
KMAX_VARIANTS: dict[str, Callable[..., resnet.ResNet]] = {
    "kmax_axial_resnet50": resnet.kmax(functools.partial(_deep, activation="gelu"), "kmax_axial_resnet50"),
}
