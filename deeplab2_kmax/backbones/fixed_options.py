"""Backbone options of which a family has one value only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What MobileNets and Xception share: no stochastic depth, no switchable atrous convolution, no scaling of stem or depth.
# The schedule of drop path means nothing without drop path, so both are accepted.
PLAIN: dict[str, tuple[Any, ...]] = {
    "use_squeeze_and_excite": (False,),
    "drop_path_keep_prob": (1.0,),
    "drop_path_schedule": ("constant", "linear"),
    "stem_width_multiplier": (1.0,),
    "backbone_layer_multiplier": (1.0,),
    "use_sac_beyond_stride": (-1,),
    "squeeze_and_excite_gate": ("sigmoid",),
    "reduce_last_block_filters": (False,),
    "pretrained_weights": ("",),
}


def check(name: str, given: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuses options that the backbone called `name` does not have, or has with other values only.

    Raises:
        ValueError: names the option, the value it got and the ones it can have.
    """
    for option, value in given.items():
        if option not in allowed:
            raise ValueError(f"{name} has no option {option!r}.")
        if value not in allowed[option]:
            choices = " or ".join(repr(choice) for choice in allowed[option])
            raise ValueError(f"{name}: {option} must be {choices}, but got {value!r}.")
