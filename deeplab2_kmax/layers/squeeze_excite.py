"""Simplified squeeze-and-excite of SWideRNet (2020, arXiv 2011.11675)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv


class SimplifiedSqueezeExcite(keras.layers.Layer):
    """Scales the channels of [B, H, W, C] by a hard sigmoid of one dense layer on their means."""

    def build(self, input_shape: tf.TensorShape) -> None:
        initializer = keras.initializers.VarianceScaling()
        channels = tf.TensorShape(input_shape)[-1]
        self.conv = conv.Conv(channels, use_bias=True, kernel_initializer=initializer, name="conv")
        self.built = True

    def call(self, x: tf.Tensor, **_: Any) -> tf.Tensor:
        return x * activations.hard_sigmoid(self.conv(tf.reduce_mean(x, [1, 2], keepdims=True)))
