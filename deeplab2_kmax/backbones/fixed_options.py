"""Backbone options of which a family has one value only, or few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Allowed = Mapping[str, tuple[Any, ...]]  # option: the values it can have

# What only MobileNetV3 or only MOAT has otherwise.
COMMON: Allowed = {
    "squeeze_and_excite_gate": ("sigmoid",),
    "reduce_last_block_filters": (False,),
    "window_size": ([],),
    "global_attention_at_end_of_moat_stage": (False,),
}

# What MobileNets and Xception lack. Without drop path its schedule means nothing, so both are accepted.
PLAIN: Allowed = {
    "use_squeeze_and_excite": (False,),
    "drop_path_keep_prob": (1.0,),
    "drop_path_schedule": ("constant", "linear"),
    "stem_width_multiplier": (1.0,),
    "backbone_layer_multiplier": (1.0,),
    "use_sac_beyond_stride": (-1,),
    "recompute_stages": ([],),
}

# What ConvNeXt and MOAT have one kind of only; and their schedule, if one is given.
STRIDE_32: Allowed = {
    "output_stride": (32,),
    "use_squeeze_and_excite": (False,),
    "stem_width_multiplier": (1.0,),
    "backbone_width_multiplier": (1.0,),
    "backbone_layer_multiplier": (1.0,),
    "use_sac_beyond_stride": (-1,),
}
LINEAR: Allowed = {"drop_path_schedule": ("linear",)}


def with_kmax(plain: Allowed) -> Allowed:
    """What a backbone allows with kMaX-DeepLab: output stride 32, and any schedule, as drop path is linear anyway."""
    others = {option: values for option, values in plain.items() if option != "drop_path_schedule"}
    return {**others, "output_stride": (32,)}


def check(name: str, given: Mapping[str, Any], allowed: Allowed) -> None:
    """Refuses options that the backbone called `name` does not have, or has with other values only.

    Raises:
        ValueError: names the option, the value it got and the ones it can have.
    """
    for option, value in given.items():
        if option not in allowed:
            raise ValueError(f"{name} has no option {option!r}.")
        if value not in allowed[option]:
            raise ValueError(f"{name}: {option} must be {choices(allowed[option])}, but got {value!r}.")


def choices(values: tuple[Any, ...]) -> str:
    """The values as a message lists them, in the spelling of configs."""
    return " or ".join(str(value).lower() if isinstance(value, bool) else repr(value) for value in values)
