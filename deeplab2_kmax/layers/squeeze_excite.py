"""Squeeze-and-excite, channels scaled by what their means say (2017, arXiv 1709.01507), in full and simplified."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv


class SimplifiedSqueezeExcite(keras.layers.Layer):
    """Scales the channels of [B, H, W, C] by a hard sigmoid of one dense layer on their means.

    From SWideRNet (2020, arXiv 2011.11675).
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        initializer = keras.initializers.VarianceScaling()
        channels = tf.TensorShape(input_shape)[-1]
        self.conv = conv.Conv(channels, use_bias=True, kernel_initializer=initializer, name="conv")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * activations.hard_sigmoid(self.conv(tf.reduce_mean(x, [1, 2], keepdims=True)))


class SqueezeExcite(keras.layers.Layer):
    """Scales the channels of [B, H, W, C] by a gate: means -> `squeezed` channels -> `activation` -> C -> `gate`.

    Both layers are 1x1 convolutions with a bias.
    """

    def __init__(
        self,
        squeezed: int,
        *,
        gate: str | activations.Activation = "sigmoid",
        activation: str | activations.Activation = "relu",
        kernel_initializer: Any = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.gate = activations.get(gate)
        self.activation = activations.get(activation)
        self.kernel_initializer = kernel_initializer
        self.reduce = conv.Conv(squeezed, use_bias=True, kernel_initializer=kernel_initializer, name="reduce")

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = tf.TensorShape(input_shape)[-1]
        self.expand = conv.Conv(channels, use_bias=True, kernel_initializer=self.kernel_initializer, name="expand")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        means = tf.reduce_mean(x, [1, 2], keepdims=True)
        return x * self.gate(self.expand(self.activation(self.reduce(means))))
