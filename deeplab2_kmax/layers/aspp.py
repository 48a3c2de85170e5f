"""Atrous spatial pyramid pooling (DeepLabv3, 2017, arXiv 1706.05587)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, drop_path, resize, shapes
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
        window = self.pool_size
        if window is not None:
            window = (resize.scaled_side(window[0], pool_scale), resize.scaled_side(window[1], pool_scale))
        if window is None or _covers(window, (height, width)):
            pooled = self.pool(tf.reduce_mean(x, [1, 2], keepdims=True), training=training)
            branches.append(tf.broadcast_to(pooled, [batch, height, width, pooled.shape[-1]]))
        else:
            pooled = self.pool(_window_means(x, window), training=training)
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


def _covers(window: tuple[int, int], size: tuple[Any, Any]) -> bool:
    return all(isinstance(side, int) and side <= length for side, length in zip(size, window))


def _window_means(x: tf.Tensor, window: tuple[int, int]) -> tf.Tensor:
    """Means over every place of a window in [B, h, w, C]; a window larger than the map is the map.

    Differences of running sums, because the size of a pooling operation cannot depend on the map.
    """
    y = tf.cast(x, tf.float32)
    for axis, side in zip((1, 2), window):
        side = tf.minimum(side, tf.shape(y)[axis])
        sums = tf.cumsum(y, axis)
        sums = tf.pad(sums, [[0, 0]] + [[int(other == axis), 0] for other in (1, 2)] + [[0, 0]])
        ends, starts = (sums[:, side:], sums[:, :-side]) if axis == 1 else (sums[:, :, side:], sums[:, :, :-side])
        y = (ends - starts) / tf.cast(side, tf.float32)
    return tf.cast(tf.ensure_shape(y, [x.shape[0], None, None, x.shape[3]]), x.dtype)
