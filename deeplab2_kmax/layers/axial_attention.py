"""Attention along one axis at a time with learned relative positions (Axial-DeepLab, 2020, arXiv 2003.07853).

Spans are global: a pixel attends to its whole column, then to its whole row, whatever the size of the call. The
similarities are not scaled by 1/sqrt(d); batch norms do that.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import conv, shapes
from deeplab2_kmax.layers import norm as norms

# Relative offsets beyond this many pixels share the outermost embedding.
_SPAN = 254


class RelativePositions(keras.layers.Layer):
    """Embeddings of the offsets between the positions of an axis: [b, L, C] -> [L, L, channels], by shape alone."""

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, input_shape: Any) -> None:
        self.embeddings = self.add_weight(
            "embeddings",
            shape=[2 * _SPAN + 1, self.channels],
            initializer=keras.initializers.TruncatedNormal(stddev=1.0),
            dtype="float32",
            experimental_autocast=False,
        )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.between(shapes.of(x)[1], x.dtype)

    def between(self, length: Any, dtype: tf.DType) -> tf.Tensor:
        """[length, length, channels]: entry [l, m] embeds the offset m - l."""
        # Only the rows in use: the slice also turns the gather's sparse gradient into a dense one.
        reach = tf.minimum(length - 1, _SPAN)
        rows = self.embeddings[_SPAN - reach : _SPAN + reach + 1]
        positions = tf.range(length)
        offsets = positions[tf.newaxis, :] - positions[:, tf.newaxis]
        return tf.gather(tf.cast(rows, dtype), tf.clip_by_value(offsets, -reach, reach) + reach)


class AxialAttention1D(keras.layers.Layer):
    """Attention within sequences: [b, L, C] -> [b, L, value_channels]."""

    def __init__(self, key_channels: int, value_channels: int, *, num_heads: int = 8, norm: norms.Norm, **kwargs: Any):
        super().__init__(**kwargs)
        for what, channels in (("key", key_channels), ("value", value_channels)):
            if channels % num_heads:
                raise ValueError(f"{channels} {what} channels do not split into {num_heads} heads evenly.")
        self.key_channels = key_channels
        self.value_channels = value_channels
        self.num_heads = num_heads
        self.qkv_norm = norm()
        self.similarity_norm = norm(axes=(0, 2))
        self.retrieved_norm = norm(axes=(0, 2, 4))
        self.query_positions = RelativePositions(key_channels // num_heads)
        self.key_positions = RelativePositions(key_channels // num_heads)
        self.value_positions = RelativePositions(value_channels // num_heads)

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = tf.TensorShape(input_shape)[-1]
        total = 2 * self.key_channels + self.value_channels
        self.qkv_kernel = self.add_weight(
            "qkv_kernel",
            shape=[channels, total],
            initializer=keras.initializers.TruncatedNormal(stddev=channels**-0.5),
            dtype="float32",
            experimental_autocast=False,
        )
        for positions in (self.query_positions, self.key_positions, self.value_positions):
            conv.build_child(positions, input_shape)
        conv.build_child(self.qkv_norm, [None, None, total])
        conv.build_child(self.similarity_norm, [3, None, self.num_heads, None, None])
        conv.build_child(self.retrieved_norm, [2, None, self.num_heads, None, self.value_channels // self.num_heads])
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        batch, length, _ = shapes.of(x)
        q, k, v = self._project(x, training)
        query_positions = self.query_positions.between(length, x.dtype)
        key_positions = self.key_positions.between(length, x.dtype)
        value_positions = self.value_positions.between(length, x.dtype)
        if training:
            similarity = [
                tf.einsum("blnd,bmnd->bnlm", q, k),
                tf.einsum("blnd,lmd->bnlm", q, query_positions),
                tf.einsum("bmnd,lmd->bnlm", k, key_positions),
            ]
            logits = tf.reduce_sum(self.similarity_norm(tf.stack(similarity), training=True), axis=0)
            weights = tf.cast(tf.nn.softmax(tf.cast(logits, tf.float32)), x.dtype)
            retrieved = [
                tf.einsum("bnlm,bmnd->bnld", weights, v),
                tf.einsum("bnlm,lmd->bnld", weights, value_positions),
            ]
            y = tf.reduce_sum(self.retrieved_norm(tf.stack(retrieved), training=True), axis=0)
            return tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [batch, length, self.value_channels])
        # The norms' scales go to the small operands; their offsets are the same for all keys, so softmax drops them.
        scale, _ = self.similarity_norm.affine()
        scale = tf.cast(tf.reshape(scale, [3, self.num_heads, 1]), x.dtype)
        logits = tf.einsum("blnd,bmnd->bnlm", q * scale[0], k)
        logits += tf.einsum("blnd,lmd->bnlm", q * scale[1], query_positions)
        logits += tf.einsum("bmnd,lmd->bnlm", k * scale[2], key_positions)
        weights = tf.cast(tf.nn.softmax(tf.cast(logits, tf.float32)), x.dtype)
        scale, offset = self.retrieved_norm.affine()
        scale = tf.cast(tf.reshape(scale, [2, self.num_heads, -1]), x.dtype)
        offset = tf.cast(tf.reshape(tf.reduce_sum(offset, axis=0), [self.num_heads, -1]), x.dtype)
        y = tf.einsum("bnlm,bmnd->blnd", weights, v * scale[0]) + offset
        y += tf.einsum("bnlm,lmd->blnd", weights, value_positions) * scale[1]
        return tf.reshape(y, [batch, length, self.value_channels])

    def _project(self, x: tf.Tensor, training: bool | None) -> list[tf.Tensor]:
        if training:
            y = conv.dense(x, self.qkv_kernel, None, tf.identity)
            y = self.qkv_norm(y, training=True)
        else:
            scale, offset = self.qkv_norm.affine()
            y = conv.dense(x, self.qkv_kernel * scale, offset, tf.identity)
        parts = tf.split(y, [self.key_channels, self.key_channels, self.value_channels], axis=-1)
        return [tf.reshape(p, shapes.of(p)[:-1] + [self.num_heads, p.shape[-1] // self.num_heads]) for p in parts]


class AxialAttention(keras.layers.Layer):
    """Columns, then rows: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), value_channels]."""

    def __init__(
        self,
        key_channels: int,
        value_channels: int,
        *,
        stride: int = 1,
        num_heads: int = 8,
        norm: norms.Norm,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.stride = stride
        self.height_axis = AxialAttention1D(key_channels, value_channels, num_heads=num_heads, norm=norm)
        self.width_axis = AxialAttention1D(key_channels, value_channels, num_heads=num_heads, norm=norm)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        columns = tf.transpose(x, [0, 2, 1, 3])
        columns = _along_last_axis(self.height_axis, columns, training)
        rows = tf.transpose(columns[:, :, :: self.stride], [0, 2, 1, 3])
        return _along_last_axis(self.width_axis, rows, training)[:, :, :: self.stride]


def _along_last_axis(attention: AxialAttention1D, x: tf.Tensor, training: bool | None) -> tf.Tensor:
    batch, lines, length, channels = shapes.of(x)
    y = attention(tf.reshape(x, [batch * lines, length, channels]), training=training)
    return tf.reshape(y, [batch, lines, length, attention.value_channels])
