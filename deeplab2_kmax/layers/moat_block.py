"""The blocks of MOAT: mobile convolution, alone or with attention behind it (2022, arXiv 2210.01820)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, squeeze_excite, window_attention
from deeplab2_kmax.layers import drop_path as drop_paths
from deeplab2_kmax.layers import norm as norms

# Of all convolutions; a config rather than an instance, which would give every variable the same numbers.
INITIALIZER: dict[str, Any] = {"class_name": "RandomNormal", "config": {"stddev": 0.02}}

_EXPANSION = 4
_SQUEEZE = 0.25
_EPSILON = 1e-5


class MBConv(keras.layers.Layer):
    """Norm, 1x1 to four times `channels`, depthwise 3x3, squeeze-and-excite, 1x1 to `channels`; plus a shortcut.

    [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), channels]. With a stride the shortcut is an average over
    `pool_size` x `pool_size` cells, padded ones left out; with other channels a 1x1 convolution follows.
    """

    def __init__(
        self,
        channels: int,
        *,
        stride: int = 1,
        pool_size: int = 3,
        squeeze_and_excite: bool = True,
        drop_path: float = 0.0,
        norm: norms.Norm,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        inner = _EXPANSION * channels
        self.channels = channels
        self.stride = stride
        self.pool_size = pool_size
        self.pre_norm = norm()
        self.expand = conv.ConvNormAct(inner, norm=norm, activation=activations.gelu, kernel_initializer=INITIALIZER)
        self.depthwise = conv.DepthwiseNormAct(
            3,
            stride=stride,
            padding="same",
            norm=norm,
            activation=activations.gelu,
            depthwise_initializer=INITIALIZER,
        )
        self.squeeze_excite = None
        if squeeze_and_excite:
            self.squeeze_excite = squeeze_excite.SqueezeExcite(
                max(1, int(channels * _SQUEEZE)), activation="swish", kernel_initializer=INITIALIZER
            )
        self.shrink = conv.Conv(channels, use_bias=True, kernel_initializer=INITIALIZER)
        self.drop_path = drop_paths.DropPath(drop_path)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.shortcut = None
        if tf.TensorShape(input_shape)[-1] != self.channels:
            self.shortcut = conv.Conv(self.channels, use_bias=True, kernel_initializer=INITIALIZER, name="shortcut")
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        shortcut = x
        if self.stride > 1:
            shortcut = tf.nn.avg_pool2d(shortcut, self.pool_size, self.stride, "SAME")
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut)
        y = self.expand(self.pre_norm(x, training=training), training=training)
        y = self.depthwise(y, training=training)
        if self.squeeze_excite is not None:
            y = self.squeeze_excite(y)
        return self.drop_path(self.shrink(y), training=training) + shortcut


class MoatBlock(keras.layers.Layer):
    """MBConv without squeeze-and-excite, then attention on its normed output, added. Shapes as MBConv's.

    Training drops the two branches independently. `window` and `position_span` are those of WindowAttention.
    """

    def __init__(
        self,
        channels: int,
        *,
        stride: int = 1,
        pool_size: int = 3,
        window: int = 0,
        position_span: int = 0,
        drop_path: float = 0.0,
        norm: norms.Norm,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.mbconv = MBConv(
            channels,
            stride=stride,
            pool_size=pool_size,
            squeeze_and_excite=False,
            drop_path=drop_path,
            norm=norm,
        )
        self.attention_norm = norms.LayerNorm(epsilon=_EPSILON)
        self.attention = window_attention.WindowAttention(window=window, position_span=position_span)
        self.drop_path = drop_paths.DropPath(drop_path)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        x = self.mbconv(x, training=training)
        return x + self.drop_path(self.attention(self.attention_norm(x)), training=training)
