"""MobileNetV3 (Searching for MobileNetV3, 2019, arXiv 1905.02244).

Differences from the paper, both DeepLab2's: squeeze-and-excite gates with a sigmoid rather than a hard one, and the
features of levels 2 to 4 (of all but level 5 in the large network) are the activated outputs of depthwise convolutions,
before squeeze-and-excite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options, strides
from deeplab2_kmax.layers import activations, conv, inverted_residual, squeeze_excite
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers.inverted_residual import make_divisible

FIXED_OPTIONS: fixed_options.Allowed = {
    **fixed_options.PLAIN,
    "use_squeeze_and_excite": (True,),
    "squeeze_and_excite_gate": ("sigmoid", "hard_sigmoid"),
    "window_size": ([],),
    "global_attention_at_end_of_moat_stage": (False,),
}


class Block(NamedTuple):
    """A row of the paper's tables 1 and 2. `ratio` is of the inner channels to those of the input."""

    kernel_size: int
    stride: int
    filters: int
    ratio: float
    activation: str = "hard_swish"
    squeeze: bool = True
    level: int | None = None  # of the pyramid, where the depthwise output is a feature


SMALL = (
    Block(3, 2, 16, 1, "relu", level=2),
    Block(3, 2, 24, 72 / 16, "relu", squeeze=False),
    Block(3, 1, 24, 88 / 24, "relu", squeeze=False, level=3),
    Block(5, 2, 40, 4),
    Block(5, 1, 40, 6),
    Block(5, 1, 40, 6),
    Block(5, 1, 48, 3),
    Block(5, 1, 48, 3, level=4),
    Block(5, 2, 96, 6),
    Block(5, 1, 96, 6),
    Block(5, 1, 96, 6),
)
LARGE = (
    Block(3, 1, 16, 1, "relu", squeeze=False, level=1),
    Block(3, 2, 24, 4, "relu", squeeze=False),
    Block(3, 1, 24, 3, "relu", squeeze=False, level=2),
    Block(5, 2, 40, 3, "relu"),
    Block(5, 1, 40, 3, "relu"),
    Block(5, 1, 40, 3, "relu", level=3),
    Block(3, 2, 80, 6, squeeze=False),
    Block(3, 1, 80, 2.5, squeeze=False),
    Block(3, 1, 80, 2.3, squeeze=False),
    Block(3, 1, 80, 2.3, squeeze=False),
    Block(3, 1, 112, 6),
    Block(3, 1, 112, 6, level=4),
    Block(5, 2, 160, 6),
    Block(5, 1, 160, 6),
    Block(5, 1, 160, 6),
)


class MobileNetV3(keras.Model):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid. All features are activated, so `stage{n}` and `res{n}` are the same.

    Args:
        blocks: the table of blocks between the first and the last convolution.
        last_filters: channels of the last 1x1 convolution.
        output_stride: 4, 8, 16 or 32; blocks that would stride further dilate instead.
        backbone_width_multiplier: factor on all channels, rounded to multiples of 8.
        squeeze_and_excite_gate: "sigmoid" as in DeepLab2, or "hard_sigmoid" as in the paper.
        reduce_last_block_filters: halves the channels behind level 4, as the paper does for dense prediction.
        norm: factory of the norms, `layers.norm.batch_norm()` if None.
        others: options that have one value here, see FIXED_OPTIONS: squeeze-and-excite is always on.

    Raises:
        ValueError: an option has a value that this family does not have.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[Block] = SMALL,
        last_filters: int = 576,
        output_stride: int = 32,
        backbone_width_multiplier: float = 1.0,
        squeeze_and_excite_gate: str = "sigmoid",
        reduce_last_block_filters: bool = False,
        norm: norms.Norm | None = None,
        name: str = "mobilenet_v3",
        **others: Any,
    ):
        super().__init__(name=name)
        fixed_options.check(name, {**others, "squeeze_and_excite_gate": squeeze_and_excite_gate}, FIXED_OPTIONS)
        if reduce_last_block_filters:
            blocks, last_filters = _reduced(blocks), last_filters // 2
        norm = norm or norms.batch_norm()
        act = activations.get("hard_swish")
        plan = strides.dilate([2, *(block.stride for block in blocks), 1], output_stride, name)

        def width(filters: int) -> int:
            return make_divisible(filters * backbone_width_multiplier)

        channels = width(16)
        layers: list[keras.layers.Layer] = [
            conv.ConvNormAct(channels, 3, stride=plan[0][0], dilation=plan[0][1], norm=norm, activation=act)
        ]
        by_level = {1: channels, 5: width(last_filters)}
        for block, (stride, dilation) in zip(blocks, plan[1:]):
            expanded = make_divisible(channels * block.ratio) if block.ratio > 1 else channels
            # A stride that became dilation still means that the block has no shortcut.
            residual = block.stride == 1 and channels == width(block.filters)
            channels = width(block.filters)
            squeezed = make_divisible(max(1, int(expanded * 0.25)))
            gate = squeeze_excite.SqueezeExcite(squeezed, gate=squeeze_and_excite_gate) if block.squeeze else None
            layers.append(
                inverted_residual.InvertedResidual(
                    channels,
                    block.kernel_size,
                    expanded=expanded if block.ratio > 1 else None,
                    stride=stride,
                    dilation=dilation,
                    residual=residual,
                    squeeze_excite=gate,
                    norm=norm,
                    activation=activations.get(block.activation),
                    gamma=0.0 if residual else 1.0,
                )
            )
            if block.level is not None:
                by_level[block.level] = expanded
        layers.append(conv.ConvNormAct(by_level[5], norm=norm, activation=act))
        self.blocks = layers
        self.levels = tuple(block.level for block in blocks)
        self.channels: tuple[int, ...] = tuple(by_level[level] for level in range(1, 6))
        self.strides: tuple[int, ...] = strides.of_levels(output_stride)

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.Pyramid:
        first, *blocks, last = self.blocks
        x = first(images, training=training)
        features = {1: x}
        for block, level in zip(blocks, self.levels):
            x, depthwise = block(x, training=training)
            if level is not None:
                features[level] = depthwise
        features[5] = last(x, training=training)
        ordered = [features[level] for level in range(1, 6)]
        return structures.Pyramid(*ordered, *ordered, ordered[-1])  # type: ignore[call-arg]


def _reduced(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Half the channels from the block behind level 4 on; that block, on a full input, also has half its ratio."""
    start = 1 + [block.level for block in blocks].index(4)
    first = blocks[start]._replace(ratio=blocks[start].ratio // 2)
    halved = [block._replace(filters=block.filters // 2) for block in (first, *blocks[start + 1 :])]
    return (*blocks[:start], *halved)


VARIANTS: dict[str, Callable[..., MobileNetV3]] = {
    "mobilenet_v3_small": functools.partial(MobileNetV3, blocks=SMALL, last_filters=576, name="mobilenet_v3_small"),
    "mobilenet_v3_large": functools.partial(MobileNetV3, blocks=LARGE, last_filters=960, name="mobilenet_v3_large"),
}
