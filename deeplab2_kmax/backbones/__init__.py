"""Backbones by name: image in [-1, 1] -> Pyramid. Look names up in lower case."""

from collections.abc import Callable

from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import (
    axial_resnet,
    convnext,
    efficientnet_lite,
    fixed_options,
    moat,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    xception,
)

BACKBONES: dict[str, Callable[..., keras.Model]] = {
    **resnet.VARIANTS,
    **axial_resnet.VARIANTS,
    **convnext.VARIANTS,
    **efficientnet_lite.VARIANTS,
    **moat.VARIANTS,
    **mobilenet_v2.VARIANTS,
    **mobilenet_v3.VARIANTS,
    **xception.VARIANTS,
}

# Options of which a backbone has few values, by its name. Of the others all have `fixed_options.COMMON`.
FIXED_OPTIONS: dict[str, fixed_options.Allowed] = {
    name: {
        option: values
        for option, values in family.FIXED_OPTIONS.items()
        # For kMaX-DeepLab drop path grows linearly whatever the config says, as in DeepLab2.
        if not (name.startswith("kmax_") and option == "drop_path_schedule")
    }
    for family in (convnext, efficientnet_lite, moat, mobilenet_v2, mobilenet_v3, xception)
    for name in family.VARIANTS
}
