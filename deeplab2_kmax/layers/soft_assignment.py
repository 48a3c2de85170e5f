"""Soft clustering of CMT-DeepLab (2022, arXiv 2206.08948): one table of logits, read along both of its axes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv
from deeplab2_kmax.layers import norm as norms


def over_clusters(logits: tf.Tensor) -> tf.Tensor:
    """How much of every pixel belongs to each cluster: [B, M, N] -> [B, M, N] float32, sum 1 over N."""
    return tf.nn.softmax(tf.cast(logits, tf.float32))


def over_pixels(logits: tf.Tensor) -> tf.Tensor:
    """How much every cluster looks at each pixel: [B, M, N] -> [B, M, N] float32, sum 1 over M."""
    return tf.nn.softmax(tf.cast(logits, tf.float32), axis=1)


class Retrieval(keras.layers.Layer):
    """Sums of values by given weights, normalized and projected; the last norm starts at 0.

    values [B, M, C], weights [B, L, M] -> [B, L, channels]. The weights need not sum to 1: the first norm absorbs that.
    """

    def __init__(
        self,
        channels: int,
        *,
        norm: norms.Norm,
        activation: activations.OptionalActivation = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.retrieved_norm = norm()
        self.activation = activations.get(activation)
        self.project = conv.DenseNormAct(channels, norm=norm, gamma=0.0)

    def build(self, input_shape: Any) -> None:
        conv.build_child(self.retrieved_norm, input_shape)
        conv.build_child(self.project, input_shape)
        self.built = True

    def call(self, values: tf.Tensor, weights: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        retrieved = tf.linalg.matmul(tf.cast(weights, values.dtype), values)
        retrieved = self.activation(self.retrieved_norm(retrieved, training=training))
        return self.project(retrieved, training=training)
