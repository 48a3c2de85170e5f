"""Inverted residual blocks: narrow outside, wide inside (MobileNetV2, 2018, arXiv 1801.04381)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv
from deeplab2_kmax.layers import norm as norms


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, but never less than nine tenths of it."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class InvertedResidual(keras.layers.Layer):
    """1x1 to `expanded` channels -> depthwise -> squeeze-and-excite -> 1x1 to `filters` without activation.

    [B, H, W, C] -> the block's output [B, ceil(H / stride), ceil(W / stride), filters], and the depthwise convolution's
    activated output, which some networks hand to their decoders.

    Args:
        filters: channels of the output.
        expanded: channels inside; None leaves the first convolution out.
        residual: whether the input is added to the output, which then has the same shape.
        squeeze_excite: layer on the depthwise output, or None.
        gamma: initial scale of the last norm.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        *,
        expanded: int | None = None,
        stride: int = 1,
        dilation: int = 1,
        residual: bool = False,
        squeeze_excite: keras.layers.Layer | None = None,
        norm: norms.Norm,
        activation: activations.OptionalActivation = None,
        gamma: float = 1.0,
        kernel_initializer: Any = "he_normal",
        depthwise_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.residual = residual
        self.expand = None
        if expanded is not None:
            self.expand = conv.ConvNormAct(
                expanded, norm=norm, activation=activation, kernel_initializer=kernel_initializer
            )
        self.depthwise = conv.DepthwiseNormAct(
            kernel_size,
            stride=stride,
            dilation=dilation,
            norm=norm,
            activation=activation,
            depthwise_initializer=depthwise_initializer,
        )
        self.squeeze_excite = squeeze_excite
        self.project = conv.ConvNormAct(filters, norm=norm, gamma=gamma, kernel_initializer=kernel_initializer)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tuple[tf.Tensor, tf.Tensor]:
        y = x if self.expand is None else self.expand(x, training=training)
        depthwise = y = self.depthwise(y, training=training)
        if self.squeeze_excite is not None:
            y = self.squeeze_excite(y)
        y = self.project(y, training=training)
        return (x + y if self.residual else y), depthwise
