"""What the decoders of kMaX- and CMT-DeepLab share: the parts of a block, and where its layers stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, attention, conv
from deeplab2_kmax.layers import drop_path as drop_paths
from deeplab2_kmax.layers import norm as norms

# Blocks on the pixel features of strides 32, 16 and 8.
BLOCKS = (2, 2, 2)


class ClusterBlock(keras.layers.Layer):
    """A block that updates cluster centres; a child says how they look at pixels.

    Args:
        predictor: a heads.masks.MaskPredictor of this block's own.
        filters: keys of the self-attention have `filters` channels, values and bottlenecks twice as many.
        hidden: channels of the feed-forward network.
        drop_path: chance to leave out each of the updates, drawn separately.
    """

    def __init__(
        self,
        *,
        predictor: Any,
        cluster_channels: int = 256,
        filters: int = 128,
        hidden: int = 2048,
        num_heads: int = 8,
        norm: norms.Norm,
        activation: activations.Activation,
        drop_path: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.activation = activation
        self._split = [filters, filters, 2 * filters]
        width = 2 * filters
        dense = conv.DenseNormAct
        self.memory_conv1 = dense(width, norm=norm, activation=activation)
        self.pixel_conv1 = dense(width, norm=norm, activation=activation)
        self.memory_qkv = dense(4 * filters, norm=norm, kernel_initializer=_scaled(width))
        self.pixel_value = dense(width, norm=norm, kernel_initializer=_scaled(width))
        self.predictor = predictor
        self.memory_attention = attention.MultiHeadAttention(
            filters, width, num_heads=num_heads, norm=norm, activation=activation
        )
        self.memory_conv3 = dense(cluster_channels, norm=norm, gamma=0.0)
        self.feed_forward = attention.FeedForward(cluster_channels, hidden, norm=norm, activation=activation)
        self.clustering_drop_path = drop_paths.DropPath(drop_path)
        self.memory_drop_path = drop_paths.DropPath(drop_path)
        self.feed_forward_drop_path = drop_paths.DropPath(drop_path)

    def project(self, memory: tf.Tensor, training: bool | None) -> list[tf.Tensor]:
        """Projected centres [B, N, 2 filters] -> their queries, keys and values [B, N, filters or twice as many]."""
        return tf.split(self.memory_qkv(memory, training=training), self._split, axis=-1)

    def updated(
        self,
        centers: tf.Tensor,
        update: tf.Tensor,
        query: tf.Tensor,
        key: tf.Tensor,
        value: tf.Tensor,
        training: bool | None,
    ) -> tf.Tensor:
        """Centres [B, N, C], what pixels add to them [B, N, C], then self-attention and the feed-forward network."""
        update = self.clustering_drop_path(update, training=training)
        attended = self.memory_attention(query, key, value, training=training)
        attended = self.memory_conv3(attended, training=training)
        centers = self.activation(centers + update + self.memory_drop_path(attended, training=training))
        update = self.feed_forward(centers, training=training)
        return self.activation(centers + self.feed_forward_drop_path(update, training=training))


def levels(blocks: Sequence[int]) -> list[int]:
    """Counts of blocks on each of the three features -> the index of the feature that each block reads.

    Raises:
        ValueError: not three counts of which the sum is positive.
    """
    if len(blocks) != 3 or min(blocks) < 0 or sum(blocks) == 0:
        raise ValueError(f"transformer_decoder_blocks has 3 counts, not all 0, but got {list(blocks)}.")
    return [level for level, count in enumerate(blocks) for _ in range(count)]


def _scaled(inputs: int) -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=inputs**-0.5)
