"""MobileNetV2 (2018, arXiv 1801.04381), as TensorFlow's public models have it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options, strides
from deeplab2_kmax.layers import activations, conv, inverted_residual
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers.inverted_residual import make_divisible

# Ratio of the inner channels to those of the input, channels, blocks, stride of the first one (the paper's table 2).
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# Blocks whose depthwise outputs are the features of levels 1 to 4; level 5 is the output of the last block.
DEPTHWISE_FEATURES = (1, 3, 6, 13)
FIXED_OPTIONS: fixed_options.Allowed = {**fixed_options.COMMON, **fixed_options.PLAIN}
INITIALIZER = {"class_name": "TruncatedNormal", "config": {"stddev": 0.09}}


class MobileNetV2(keras.Model):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid, in which `stage{n}` and `res{n}` are the same.

    Levels 1 to 4 are activated outputs of depthwise convolutions; level 5 is the last block's linear output.

    Args:
        output_stride: 4, 8, 16 or 32; blocks that would stride further dilate instead.
        backbone_width_multiplier: factor on all channels, rounded to multiples of 8.
        norm: factory of the norms; if None, batch norm with momentum 0.997 and epsilon 1e-3.
        others: options that have one value here, see FIXED_OPTIONS.

    Raises:
        ValueError: an option has a value that this family does not have.
    """

    def __init__(
        self,
        *,
        output_stride: int = 32,
        backbone_width_multiplier: float = 1.0,
        norm: norms.Norm | None = None,
        name: str = "mobilenet_v2",
        **others: Any,
    ):
        super().__init__(name=name)
        fixed_options.check(name, others, FIXED_OPTIONS)
        shared: dict[str, Any] = {
            "norm": norm or norms.batch_norm(momentum=0.997, epsilon=1e-3),
            "activation": activations.get("relu6"),
            "kernel_initializer": INITIALIZER,
        }
        rows = [
            (ratio, filters, stride if index == 0 else 1)
            for ratio, filters, count, stride in STAGES
            for index in range(count)
        ]
        plan = strides.dilate([2, *(stride for _, _, stride in rows)], output_stride, name)
        channels = make_divisible(32 * backbone_width_multiplier)
        layers: list[keras.layers.Layer] = [
            conv.ConvNormAct(channels, 3, stride=plan[0][0], dilation=plan[0][1], **shared)
        ]
        inner = []
        for (ratio, filters, spec_stride), (stride, dilation) in zip(rows, plan[1:]):
            inner.append(make_divisible(channels * ratio) if ratio > 1 else channels)
            width = make_divisible(filters * backbone_width_multiplier)
            layers.append(
                inverted_residual.InvertedResidual(
                    width,
                    expanded=inner[-1] if ratio > 1 else None,
                    stride=stride,
                    dilation=dilation,
                    # A stride that became dilation still means that the block has no shortcut.
                    residual=spec_stride == 1 and channels == width,
                    depthwise_initializer=INITIALIZER,
                    **shared,
                )
            )
            channels = width
        self.blocks = layers
        self.channels: tuple[int, ...] = (*(inner[number - 1] for number in DEPTHWISE_FEATURES), channels)
        self.strides: tuple[int, ...] = strides.of_levels(output_stride)

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.Pyramid:
        first, *blocks = self.blocks
        x = first(images, training=training)
        features = []
        for number, block in enumerate(blocks, start=1):
            x, depthwise = block(x, training=training)
            if number in DEPTHWISE_FEATURES:
                features.append(depthwise)
        features.append(x)
        return structures.Pyramid(*features, *features, x)  # type: ignore[call-arg]


VARIANTS: dict[str, Callable[..., MobileNetV2]] = {
    "mobilenet_v2": functools.partial(MobileNetV2, name="mobilenet_v2"),
}
