"""Atrous spatial pyramid pooling (DeepLabv3, 2017, arXiv 1706.05587)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, drop_path, pooling, resize, shapes
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.protos import model_pb2

_ATROUS_RATES = (6, 12, 18)


class ASPP(keras.layers.Layer):
    """[B, h, w, C] -> [B, h, w, channels]: 1x1, three dilated 3x3 and the image's mean, concatenated and projected.

    `pool_size`: height and width of a window whose means, one per position where it fits, take the place of the image's
    mean; resized to the map. None: the whole map. The window of a scaled image is scaled by `pool_scale`.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        atrous_rates: Sequence[int] = _ATROUS_RATES,
        dropout: float = 0.1,
        pool_size: tuple[int, int] | None = None,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if len(atrous_rates) != 3:
            raise ValueError(f"ASPP takes three atrous rates, but got {list(atrous_rates)}.")
        first, second, third = atrous_rates
        self.pool_size = pool_size

        def branch(kernel_size: int, dilation: int) -> conv.ConvNormAct:
            return conv.ConvNormAct(channels, kernel_size, dilation=dilation, norm=norm, activation=activation)

        self.conv0 = branch(1, 1)
        self.conv1 = branch(3, first)
        self.conv2 = branch(3, second)
        self.conv3 = branch(3, third)
        self.pool = branch(1, 1)
        self.project = branch(1, 1)
        self.dropout = drop_path.Dropout(dropout)

    def call(self, x: tf.Tensor, training: bool | None = False, pool_scale: float = 1.0) -> tf.Tensor:
        branches = [branch(x, training=training) for branch in (self.conv0, self.conv1, self.conv2, self.conv3)]
        batch, height, width, _ = shapes.of(x)
        pooled = self.pool(pooling.window_means(x, self.pool_size, scale=pool_scale), training=training)
        if pooled.shape[1] == pooled.shape[2] == 1:
            branches.append(tf.broadcast_to(pooled, [batch, height, width, pooled.shape[-1]]))
        else:
            branches.append(resize.bilinear(pooled, (height, width)))
        y = self.project(tf.concat(branches, axis=-1), training=training)
        return self.dropout(y, training=training)


class Projection(conv.ConvNormAct):
    """A 1x1 convolution in the place of ASPP, for features that have seen the whole image already."""

    def call(self, x: tf.Tensor, training: bool | None = False, pool_scale: float = 1.0) -> tf.Tensor:
        del pool_scale  # nothing is pooled
        return super().call(x, training=training)


def build(
    options: model_pb2.DecoderOptions, *, norm: norms.Norm, activation: activations.Activation, name: str = "aspp"
) -> ASPP | Projection:
    """The ASPP that a decoder's options ask for."""
    if options.aspp_use_only_1x1_proj_conv:
        return Projection(options.aspp_channels, norm=norm, activation=activation, name=name)
    return ASPP(
        options.aspp_channels,
        atrous_rates=tuple(options.atrous_rates) or _ATROUS_RATES,
        pool_size=tuple(options.aspp_pool_size) or None,  # type: ignore[arg-type]
        norm=norm,
        activation=activation,
        name=name,
    )
