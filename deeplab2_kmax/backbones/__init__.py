"""Backbones by name: image in [-1, 1] -> Pyramid. Look names up in lower case."""

from collections.abc import Callable

from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import (
    axial_resnet,
    convnext,
    efficientnet_lite,
    fixed_options,
    max_deeplab,
    moat,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    stacked_decoder,
    swidernet,
    xception,
)

_FAMILIES = (
    resnet,
    swidernet,
    axial_resnet,
    stacked_decoder,
    convnext,
    efficientnet_lite,
    moat,
    mobilenet_v2,
    mobilenet_v3,
    xception,
)

BACKBONES: dict[str, Callable[..., keras.Model]] = {
    # kMaX-DeepLab takes every backbone that has its output stride.
    **{
        f"kmax_{name}": resnet.kmax(build, f"kmax_{name}")
        for family in _FAMILIES
        for name, build in family.VARIANTS.items()
        if 32 in family.FIXED_OPTIONS.get("output_stride", (32,))
    },
    **{name: build for family in _FAMILIES for name, build in family.VARIANTS.items()},
    **resnet.KMAX_VARIANTS,
    # These bring a mask transformer of their own.
    **max_deeplab.VARIANTS,
}

# Options of which a backbone has few values, by its name.
FIXED_OPTIONS: dict[str, fixed_options.Allowed] = {
    **{name: family.FIXED_OPTIONS for family in _FAMILIES for name in family.VARIANTS},
    **{name: axial_resnet.STEMLESS_OPTIONS for name in axial_resnet.VARIANTS if name.startswith("full_")},
    **max_deeplab.FIXED_OPTIONS,
}
FIXED_OPTIONS.update(
    {
        name: fixed_options.with_kmax(FIXED_OPTIONS.get(name.removeprefix("kmax_"), resnet.FIXED_OPTIONS))
        for name in BACKBONES
        if name.startswith("kmax_")
    }
)
# Only these can be passes of a recursive feature pyramid, see `recursive`.
_RECURSIVE = {name for family in (resnet, swidernet, axial_resnet) for name in family.VARIANTS}
FIXED_OPTIONS.update({name: {**FIXED_OPTIONS[name], "rfp_steps": (1,)} for name in BACKBONES if name not in _RECURSIVE})
