"""Switchable atrous convolution: every position blends two dilations of one kernel (DetectoRS, 2020, arXiv 2006.02334).

Differences from the paper, all DeepLab2's: both dilations have the same kernel, the switch weighs the larger one,
starts at 0 and has no sigmoid, its pooling leaves padded cells out, and kernels are not standardised.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv
from deeplab2_kmax.layers import norm as norms


class SwitchableConv(conv.Conv):
    """A convolution that blends its dilation with three times that, by a number it finds for every position.

    With a stride it is a plain convolution without a switch. At the start every position takes the plain dilation.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        self.switch = None
        if self.stride == 1:
            self.switch = conv.Conv(1, use_bias=True, kernel_initializer="zeros", name="switch")
            conv.build_child(self.switch, input_shape)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        near = super().call(x, training=training)
        if self.switch is None:
            return near
        far = self.convolve(x, self.kernel, self.bias, training=training, dilation=3 * self.dilation)
        return near + self.switch(tf.nn.avg_pool2d(x, 5, 1, "SAME")) * (far - near)


class SwitchableConvNormAct(keras.layers.Layer):
    """Context -> switchable convolution without bias -> context -> norm -> activation, as `conv.ConvNormAct`.

    A context adds a linear map of the channels' means over the whole map, zero at the start.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        *,
        norm: norms.Norm,
        activation: activations.OptionalActivation = None,
        stride: int = 1,
        dilation: int = 1,
        gamma: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.conv = SwitchableConv(filters, kernel_size, stride=stride, dilation=dilation, name="conv")
        self.post_context = conv.Conv(filters, use_bias=True, kernel_initializer="zeros", name="post_context")
        self.norm = norm(gamma=gamma, name="norm")
        self.activation = activations.get(activation)

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = tf.TensorShape(input_shape)[-1]
        self.pre_context = conv.Conv(channels, use_bias=True, kernel_initializer="zeros", name="pre_context")
        conv.build_child(self.pre_context, input_shape)
        conv.build_child(self.conv, input_shape)
        for child in (self.post_context, self.norm):
            conv.build_child(child, [None, None, None, self.conv.filters])
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        x = x + self.pre_context(tf.reduce_mean(x, [1, 2], keepdims=True))
        y = self.conv(x, training=training)
        y = y + self.post_context(tf.reduce_mean(y, [1, 2], keepdims=True))
        return self.activation(self.norm(y, training=training))
