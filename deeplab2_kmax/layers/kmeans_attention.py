"""The k-means step of kMaX-DeepLab (2022, arXiv 2207.04044): cluster centres move to the pixels that chose them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import conv, shapes
from deeplab2_kmax.layers import norm as norms


def assign(mask_logits: tf.Tensor) -> tf.Tensor:
    """The cluster that every pixel chooses: [B, h, w, N] -> [B, h, w] int32; among equals the first."""
    return tf.argmax(mask_logits, axis=-1, output_type=tf.int32)


class KMeansUpdate(keras.layers.Layer):
    """The change of the cluster centres, from the pixels that chose each of them.

    values [B, h, w, C], assignment [B, h, w] int32 -> [B, num_clusters, channels]. It is a sum over pixels, not a mean;
    the batch norm behind it absorbs the size of the segment.
    """

    def __init__(self, num_clusters: int, channels: int, *, norm: norms.Norm, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_clusters = num_clusters
        self.retrieved_norm = norm()
        self.project = conv.DenseNormAct(channels, norm=norm, gamma=0.0)

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, values: tf.Tensor, assignment: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        batch, height, width, channels = shapes.of(values)
        values = tf.reshape(values, [batch, height * width, channels])
        owner = tf.reshape(assignment, [batch, height * width])
        # A product rather than a scatter: its order of summation is fixed, and bfloat16 values add up in float32.
        chosen = tf.one_hot(owner, self.num_clusters, axis=1, dtype=values.dtype)
        update = self.retrieved_norm(tf.linalg.matmul(chosen, values), training=training)
        return self.project(update, training=training)
