"""Multi-head attention of the mask transformers (MaX-DeepLab, 2021, arXiv 2012.00759).

Batch norms follow the similarities (one scale per head) and the retrieved values (one per head and channel); nothing is
scaled by 1/sqrt(d).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, shapes
from deeplab2_kmax.layers import norm as norms


class MultiHeadAttention(keras.layers.Layer):
    """queries [B, L, K], keys [B, M, K], values [B, M, V] -> activated [B, L, V]. It has no projections.

    Raises:
        ValueError: the channels do not split into `num_heads` heads evenly.
    """

    def __init__(
        self,
        key_channels: int,
        value_channels: int,
        *,
        num_heads: int = 8,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        for what, channels in (("key", key_channels), ("value", value_channels)):
            if channels % num_heads:
                raise ValueError(f"{channels} {what} channels do not split into {num_heads} attention heads evenly.")
        self.value_channels = value_channels
        self.num_heads = num_heads
        self.activation = activation
        self.similarity_norm = norm(axes=(1,))
        self.retrieved_norm = norm(axes=(1, 3))

    def build(self, input_shape: tf.TensorShape) -> None:
        conv.build_child(self.similarity_norm, [None, self.num_heads, None, None])
        conv.build_child(self.retrieved_norm, [None, self.num_heads, None, self.value_channels // self.num_heads])
        self.built = True

    def call(self, queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        # Keras casts the first argument only.
        q, k, v = (self._split_heads(tf.cast(x, queries.dtype)) for x in (queries, keys, values))
        if training:
            logits = self.similarity_norm(tf.einsum("blnd,bmnd->bnlm", q, k), training=True)
        else:
            # The norm's offset is the same for all keys, so softmax drops it.
            scale, _ = self.similarity_norm.affine()
            logits = tf.einsum("blnd,bmnd->bnlm", q * tf.cast(scale[:, tf.newaxis], q.dtype), k)
        weights = tf.cast(tf.nn.softmax(tf.cast(logits, tf.float32)), v.dtype)
        retrieved = self.retrieved_norm(tf.einsum("bnlm,bmnd->bnld", weights, v), training=training)
        merged = tf.transpose(self.activation(retrieved), [0, 2, 1, 3])
        return tf.reshape(merged, shapes.of(queries)[:2] + [self.value_channels])

    def _split_heads(self, x: tf.Tensor) -> tf.Tensor:
        batch, length, channels = shapes.of(x)
        return tf.reshape(x, [batch, length, self.num_heads, channels // self.num_heads])


class FeedForward(keras.layers.Layer):
    """[B, N, C] -> [B, N, channels]: to `hidden` channels, activated, to `channels`. The last norm starts at 0."""

    def __init__(
        self, channels: int, hidden: int, *, norm: norms.Norm, activation: activations.Activation, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.conv1 = conv.DenseNormAct(hidden, norm=norm, activation=activation)
        self.conv2 = conv.DenseNormAct(channels, norm=norm, gamma=0.0)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        return self.conv2(self.conv1(x, training=training), training=training)
