"""Wide-ResNets and the networks scaled from it, with axial attention or without (SWideRNet, 2020, arXiv 2011.11675).

SWideRNet-(w1, w2, l) is `swidernet` with stem width, width and layer multiplier w1, w2 and l. Differences from the
paper, all DeepLab2's: the first block of a stage strides rather than the last one, there is no pooling, and
squeeze-and-excite is in all five stages. Wide-ResNet-38 (2016, arXiv 1611.10080) is built in the same way; 41 has
one kind of block less, and the last one three times.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from deeplab2_kmax.backbones import fixed_options, resnet

FIXED_OPTIONS: fixed_options.Allowed = resnet.FIXED_OPTIONS

WIDE: dict[str, Any] = {"stem": "small", "wide": True, "num_blocks": (3, 6, 3, 3), "drop_path_beyond_stride": 4}
AXIAL: dict[str, Any] = {
    **WIDE,
    "axial_beyond_stride": 16,
    "expansion": 4.0,
    "key_expansion": 2.0,
    "value_expansion": 4.0,
}

VARIANTS: dict[str, Callable[..., resnet.ResNet]] = {
    "wide_resnet38": functools.partial(
        resnet.ResNet, **{**WIDE, "num_blocks": (3, 6, 3, 1)}, wider_last_block=True, name="wide_resnet38"
    ),
    "wide_resnet41": functools.partial(resnet.ResNet, **WIDE, name="wide_resnet41"),
    "swidernet": functools.partial(resnet.ResNet, **WIDE, name="swidernet"),
    "axial_swidernet": functools.partial(resnet.ResNet, **AXIAL, name="axial_swidernet"),
}
