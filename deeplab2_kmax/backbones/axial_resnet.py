"""ResNets with axial attention in every block (Axial-DeepLab, 2020, arXiv 2003.07853)."""

from __future__ import annotations

import functools
from collections.abc import Callable

from deeplab2_kmax.backbones import fixed_options, resnet

# Without 3x3 convolutions there is nothing to switch.
FIXED_OPTIONS: fixed_options.Allowed = {**resnet.FIXED_OPTIONS, "use_sac_beyond_stride": (-1, 0)}

# Of the networks without a stem.
STEMLESS_OPTIONS: fixed_options.Allowed = {**FIXED_OPTIONS, "stem_width_multiplier": (1.0,)}

# What a config says instead of it replaces the width, as in DeepLab2.
_WIDTHS = {"s": 0.5, "m": 0.75, "l": 1.0, "xl": 2.0}

VARIANTS: dict[str, Callable[..., resnet.ResNet]] = {
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
}
