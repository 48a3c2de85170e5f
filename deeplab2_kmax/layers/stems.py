"""The first layers of a ResNet: image -> un-activated features at stride 2. There is no max pooling."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv
from deeplab2_kmax.layers import norm as norms


class ConvStem(conv.ConvNormAct):
    """One convolution with stride 2 and its norm, 7x7 in ResNet (2015, arXiv 1512.03385). It needs no activation.

    [B, H, W, 3] -> [B, ceil(H / 2), ceil(W / 2), 64 * width_multiplier].
    """

    def __init__(
        self,
        width_multiplier: float = 1.0,
        *,
        kernel_size: int = 7,
        norm: norms.Norm,
        activation: activations.OptionalActivation = None,
        **kwargs: Any,
    ):
        del activation
        super().__init__(int(round(64 * width_multiplier)), kernel_size, stride=2, norm=norm, **kwargs)
        self.channels = self.conv.filters


class InceptionStem(keras.layers.Layer):
    """Three 3x3 convolutions in place of the 7x7 (Inception v4, 2016, arXiv 1602.07261); "beta" in backbone names.

    [B, H, W, 3] -> [B, ceil(H / 2), ceil(W / 2), 128 * width_multiplier].
    """

    def __init__(
        self, width_multiplier: float = 1.0, *, norm: norms.Norm, activation: activations.Activation, **kwargs: Any
    ):
        super().__init__(**kwargs)
        narrow, wide = int(64 * width_multiplier), int(128 * width_multiplier)
        self.channels = wide
        self.conv1 = conv.ConvNormAct(narrow, 3, stride=2, norm=norm, activation=activation)
        self.conv2 = conv.ConvNormAct(narrow, 3, norm=norm, activation=activation)
        self.conv3 = conv.ConvNormAct(wide, 3, norm=norm)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        x = self.conv1(x, training=training)
        x = self.conv2(x, training=training)
        return self.conv3(x, training=training)
