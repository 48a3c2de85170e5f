"""Atrous spatial pyramid pooling (DeepLabv3, 2017, arXiv 1706.05587)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, drop_path, shapes
from deeplab2_kmax.layers import norm as norms


class ASPP(keras.layers.Layer):
    """[B, h, w, C] -> [B, h, w, channels]: 1x1, three dilated 3x3 and the image's mean, concatenated and projected."""

    def __init__(
        self,
        channels: int = 256,
        *,
        atrous_rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.1,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if len(atrous_rates) != 3:
            raise ValueError(f"ASPP takes three atrous rates, but got {list(atrous_rates)}.")
        first, second, third = atrous_rates

        def branch(kernel_size: int, dilation: int) -> conv.ConvNormAct:
            return conv.ConvNormAct(channels, kernel_size, dilation=dilation, norm=norm, activation=activation)

        self.conv0 = branch(1, 1)
        self.conv1 = branch(3, first)
        self.conv2 = branch(3, second)
        self.conv3 = branch(3, third)
        self.pool = branch(1, 1)
        self.project = branch(1, 1)
        self.dropout = drop_path.Dropout(dropout)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        pooled = self.pool(tf.reduce_mean(x, [1, 2], keepdims=True), training=training)
        branches = [branch(x, training=training) for branch in (self.conv0, self.conv1, self.conv2, self.conv3)]
        branches.append(tf.broadcast_to(pooled, shapes.of(x)[:3] + [pooled.shape[-1]]))
        y = self.project(tf.concat(branches, axis=-1), training=training)
        return self.dropout(y, training=training)
