"""The k-means transformer decoder of kMaX-DeepLab (2022, arXiv 2207.04044)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, kmeans_attention
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation
from deeplab2_kmax.transformer_decoders import clusters


class ClusterStep(NamedTuple):
    """What one block did."""

    centers: tf.Tensor  # [B, N, C], after the block
    assignment: tf.Tensor  # [B, h, w] int32, the cluster that every pixel chose
    prediction: structures.MaskPrediction | None  # of the block's own predictor, where it was asked for
    semantic_logits: tf.Tensor | None = None  # [B, h, w, classes] in training, of blocks that have a semantic head


class Clusters(NamedTuple):
    """What the decoder found."""

    class_features: tf.Tensor  # [B, N, C]
    mask_features: tf.Tensor  # [B, N, C]
    steps: tuple[ClusterStep, ...]  # one per block


class KMaXBlock(clusters.ClusterBlock):
    """One k-means step and one self-attention step of the cluster centres, then a feed-forward network.

    pixels [B, h, w, D] un-activated, centers [B, N, cluster_channels] -> ClusterStep. With `predict` the block's
    predictor says all it can; without it, in inference, only what the assignment needs.

    Args:
        semantic_head: a heads.convolutional.ConvHead that training alone uses (ReMaX), or None.
        Others: as for ClusterBlock.
    """

    def __init__(
        self,
        num_clusters: int,
        *,
        semantic_head: Any = None,
        cluster_channels: int = 256,
        norm: norms.Norm,
        **kwargs: Any,
    ):
        super().__init__(cluster_channels=cluster_channels, norm=norm, **kwargs)
        self.semantic_head = semantic_head
        self.kmeans = kmeans_attention.KMeansUpdate(num_clusters, cluster_channels, norm=norm)

    def build(self, input_shape: Any) -> None:
        # Inference calls neither the whole predictor nor the semantic head, but their variables belong to the model.
        self.predictor.build_variables(self.pixel_conv1.conv.filters)
        if self.semantic_head is not None:
            conv.build_child(self.semantic_head, [None, None, None, self.pixel_conv1.conv.filters])
        self.built = True

    def call(
        self, pixels: tf.Tensor, centers: tf.Tensor, predict: bool = False, training: bool | None = False
    ) -> ClusterStep:
        centers = tf.cast(centers, pixels.dtype)  # Keras casts the first argument only.
        memory = self.memory_conv1(centers, training=training)
        pixels = self.pixel_conv1(self.activation(pixels), training=training)
        query, key, value = self.project(memory, training)

        prediction = None
        if predict or training:
            prediction = self.predictor(pixels, memory, memory, training=training)
            mask_logits = prediction.mask_logits
        else:
            mask_logits = self.predictor.assignment_logits(pixels, memory)
        semantic_logits = None
        if training and self.semantic_head is not None:
            semantic_logits = self.semantic_head(pixels, training=training)
        # No gradient passes the arg-max: the masks learn from their own loss.
        assignment = kmeans_attention.assign(mask_logits)

        update = self.kmeans(self.pixel_value(pixels, training=training), assignment, training=training)
        centers = self.updated(centers, update, query, key, value, training)
        return ClusterStep(centers, assignment, prediction, semantic_logits)


class KMaXTransformerDecoder(keras.layers.Layer):
    """Un-activated pixel features of strides 32, 16 and 8 -> Clusters.

    Args:
        num_clusters: N, the mask slots.
        make_predictor: makes the mask predictor of a block.
        blocks: blocks on each of the features.
        make_semantic_head: makes the semantic head of a block.
        semantic_blocks: blocks, from 0, that have a semantic head.
        recompute: training computes the blocks again for their gradients, to save memory.
        Others: as for KMaXBlock.

    Raises:
        ValueError: `blocks` are not three counts of which the sum is positive.
    """

    def __init__(
        self,
        num_clusters: int = 128,
        *,
        make_predictor: Callable[[], Any],
        blocks: Sequence[int] = clusters.BLOCKS,
        make_semantic_head: Callable[[], Any] | None = None,
        semantic_blocks: Sequence[int] = (),
        recompute: bool = False,
        cluster_channels: int = 256,
        norm: norms.Norm,
        activation: activations.Activation,
        block_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.recompute = recompute
        self.num_clusters = num_clusters
        self.cluster_channels = cluster_channels
        self.levels = clusters.levels(blocks)
        self.blocks = [
            KMaXBlock(
                num_clusters,
                predictor=make_predictor(),
                semantic_head=make_semantic_head() if make_semantic_head and index in semantic_blocks else None,
                cluster_channels=cluster_channels,
                norm=norm,
                activation=activation,
                **(block_options or {}),
            )
            for index in range(len(self.levels))
        ]
        self.class_projection = conv.DenseNormAct(cluster_channels, norm=norm, activation=activation)
        self.mask_projection = conv.DenseNormAct(cluster_channels, norm=norm, activation=activation)

    def build(self, input_shape: Any) -> None:
        self.cluster_centers = self.add_weight(
            "cluster_centers",
            shape=[1, self.num_clusters, self.cluster_channels],
            initializer=keras.initializers.TruncatedNormal(stddev=1.0),
        )
        self.built = True

    def call(self, features: Sequence[tf.Tensor], predict: bool = False, training: bool | None = False) -> Clusters:
        centers = tf.tile(tf.cast(self.cluster_centers, features[0].dtype), [tf.shape(features[0])[0], 1, 1])
        steps = []
        for level, block in zip(self.levels, self.blocks):
            step: Callable[..., ClusterStep] = functools.partial(block.__call__, predict=predict, training=training)
            inputs = (features[level], centers)
            steps.append(recomputation.call(step, *inputs) if training and self.recompute else step(*inputs))
            centers = steps[-1].centers
        class_features = self.class_projection(centers, training=training)
        mask_features = self.mask_projection(centers, training=training)
        return Clusters(class_features, mask_features, tuple(steps))
