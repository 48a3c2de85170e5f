"""The clustering transformer decoder of CMT-DeepLab (2022, arXiv 2206.08948).

Unlike kMaX-DeepLab, pixels belong to clusters softly and change too: what a layer adds to them is in the features that
the pixel decoder makes of them. Where the paper leaves room: queries and keys are the projections of the layer's own
predictor, so that its mask logits are the assignment logits; the sums over pixels are normalized by a batch norm; the
residual path carries the products of queries and keys alone, so that the latest reference masks count once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, attention, conv, reference_masks, resize, shapes, soft_assignment
from deeplab2_kmax.layers import drop_path as drop_paths
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation

# Layers on the pixel features of strides 32, 16 and 8.
BLOCKS = (2, 2, 2)


class Residual(enum.Enum):
    """What becomes of the logits of the layer before."""

    ADD = 0
    GATED = 1  # times a learned number, at first 1
    NONE = 2


class Clusters(NamedTuple):
    """The clusters between two layers."""

    centers: tf.Tensor  # [B, N, C]
    logits: tf.Tensor | None  # [B, h, w, N] float32, products of queries and keys; None before the first layer
    references: tf.Tensor | None  # [B, N, 4] float32, None without reference masks


class CMTStep(NamedTuple):
    """What one layer said about its pixels."""

    prediction: structures.MaskPrediction  # mask_logits are the assignment logits
    references: tf.Tensor | None  # [B, N, 4]


class CMTBlock(keras.layers.Layer):
    """One step of soft clustering, one of self-attention among the centres, a feed-forward network; pixels change too.

    pixels [B, h, w, D] un-activated, Clusters -> pixels [B, h, w, D], Clusters, CMTStep.

    Args:
        pixel_channels: D.
        predictor: a heads.masks.MaskPredictor of this layer's own.
        residual: what becomes of the logits of the layer before.
        coordinates: whether pixels and clusters know their places.
        references: whether clusters have reference masks.
        filters: keys of the self-attention have `filters` channels, values and bottlenecks twice as many.
        hidden: channels of the feed-forward network.
        drop_path: chance to leave out each of the updates, drawn separately.
    """

    def __init__(
        self,
        *,
        pixel_channels: int,
        predictor: Any,
        residual: Residual = Residual.ADD,
        coordinates: bool = True,
        references: bool = True,
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
        self.residual = residual
        self.coordinates = coordinates
        self.split = [filters, filters, 2 * filters]
        width = 2 * filters
        dense, retrieval = conv.DenseNormAct, soft_assignment.Retrieval
        self.memory_conv1 = dense(width, norm=norm, activation=activation)
        self.pixel_conv1 = dense(width, norm=norm, activation=activation)
        self.memory_qkv = dense(4 * filters, norm=norm, kernel_initializer=_scaled(width))
        self.pixel_value = dense(width, norm=norm, kernel_initializer=_scaled(width))
        self.predictor = predictor
        self.reference_head = None
        if references:
            small = keras.initializers.TruncatedNormal(stddev=0.01)
            self.reference_head = conv.Dense(4, kernel_initializer=small, dtype="float32")
        self.pixel_attention = retrieval(cluster_channels, norm=norm, activation=activation)
        self.clustering = retrieval(cluster_channels, norm=norm)
        self.memory_attention = attention.MultiHeadAttention(
            filters, width, num_heads=num_heads, norm=norm, activation=activation
        )
        self.memory_conv3 = dense(cluster_channels, norm=norm, gamma=0.0)
        self.feed_forward = attention.FeedForward(cluster_channels, hidden, norm=norm, activation=activation)
        self.pixel_update = retrieval(pixel_channels, norm=norm, activation=activation)
        self.clustering_drop_path = drop_paths.DropPath(drop_path)
        self.memory_drop_path = drop_paths.DropPath(drop_path)
        self.feed_forward_drop_path = drop_paths.DropPath(drop_path)
        self.pixel_drop_path = drop_paths.DropPath(drop_path)

    def build(self, input_shape: Any) -> None:
        self.gate = None
        if self.residual is Residual.GATED:
            self.gate = self.add_weight(
                "gate", shape=[], initializer="ones", dtype="float32", experimental_autocast=False
            )
        self.built = True

    def call(
        self, pixels: tf.Tensor, clusters: Clusters, training: bool | None = False
    ) -> tuple[tf.Tensor, Clusters, CMTStep]:
        batch, height, width, channels = shapes.of(pixels)
        centers, references = tf.cast(clusters.centers, pixels.dtype), clusters.references
        hidden, memory = self.activation(pixels), centers
        if self.coordinates:
            places = tf.cast(2.0 * reference_masks.coordinates(height, width) - 1.0, pixels.dtype)
            hidden = tf.concat([hidden, tf.tile(places[tf.newaxis], [batch, 1, 1, 1])], axis=-1)
            if references is not None:
                places = tf.cast(2.0 * reference_masks.centers(references) - 1.0, pixels.dtype)
                memory = tf.concat([memory, places], axis=-1)
        hidden = self.pixel_conv1(hidden, training=training)
        memory = self.memory_conv1(memory, training=training)
        query, key, value = tf.split(self.memory_qkv(memory, training=training), self.split, axis=-1)
        pixel_value = self.pixel_value(hidden, training=training)

        prediction = self.predictor(hidden, memory, memory, training=training)
        logits = prediction.mask_logits
        if clusters.logits is not None and self.residual is not Residual.NONE:
            before = resize.bilinear(clusters.logits, (height, width))
            logits += before if self.gate is None else self.gate * before
        assignment_logits = logits
        if self.reference_head is not None:
            references += self.reference_head(tf.cast(memory, tf.float32))
            assignment_logits += reference_masks.log_gaussian(references, height, width)
        step = CMTStep(prediction._replace(mask_logits=assignment_logits), references)

        flat = tf.reshape(assignment_logits, [batch, height * width, logits.shape[-1]])
        pixel_value = tf.reshape(pixel_value, [batch, height * width, pixel_value.shape[-1]])
        assignment = soft_assignment.over_clusters(flat)
        looks = tf.transpose(soft_assignment.over_pixels(flat), [0, 2, 1])
        update = self.pixel_attention(pixel_value, looks, training=training)
        update += self.clustering(pixel_value, tf.transpose(assignment, [0, 2, 1]), training=training)
        update = self.clustering_drop_path(update, training=training)
        attended = self.memory_attention(query, key, value, training=training)
        attended = self.memory_conv3(attended, training=training)
        centers = self.activation(centers + update + self.memory_drop_path(attended, training=training))
        update = self.feed_forward(centers, training=training)
        centers = self.activation(centers + self.feed_forward_drop_path(update, training=training))

        # With the values of the centres as they came, as in MaX-DeepLab's dual path.
        update = tf.reshape(self.pixel_update(value, assignment, training=training), [batch, height, width, channels])
        pixels += self.pixel_drop_path(update, training=training)
        return pixels, Clusters(centers, logits, references), step


class CMTTransformerDecoder(keras.layers.Layer):
    """Runs the layers of one level: un-activated pixels, Clusters or None -> pixels, Clusters, the CMTSteps.

    A pixel decoder calls it on strides 32, 16 and 8 in turn, each time with the clusters that came of the last.

    Args:
        num_clusters: N, the mask slots.
        pixel_channels: of the three features.
        make_predictor: makes the mask predictor of a layer.
        blocks: layers on each of the features.
        recompute: training computes the layers again for their gradients, to save memory.
        block_options: as for CMTBlock.

    Raises:
        ValueError: `blocks` are not three counts of which the sum is positive.
    """

    def __init__(
        self,
        num_clusters: int = 128,
        *,
        pixel_channels: Sequence[int],
        make_predictor: Callable[[], Any],
        blocks: Sequence[int] = BLOCKS,
        cluster_channels: int = 256,
        references: bool = True,
        recompute: bool = False,
        norm: norms.Norm,
        activation: activations.Activation,
        block_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if len(blocks) != 3 or min(blocks) < 0 or sum(blocks) == 0:
            raise ValueError(f"transformer_decoder_blocks has 3 counts, not all 0, but got {list(blocks)}.")
        self.num_clusters = num_clusters
        self.cluster_channels = cluster_channels
        self.references = references
        self.recompute = recompute
        # Index of the feature that each layer reads.
        self.levels = [level for level, count in enumerate(blocks) for _ in range(count)]
        self.blocks = [
            CMTBlock(
                pixel_channels=pixel_channels[level],
                predictor=make_predictor(),
                references=references,
                cluster_channels=cluster_channels,
                norm=norm,
                activation=activation,
                **(block_options or {}),
            )
            for level in self.levels
        ]
        self.class_projection = conv.DenseNormAct(cluster_channels, norm=norm, activation=activation)
        self.mask_projection = conv.DenseNormAct(cluster_channels, norm=norm, activation=activation)

    def build(self, input_shape: Any) -> None:
        self.cluster_centers = self.add_weight(
            "cluster_centers",
            shape=[1, self.num_clusters, self.cluster_channels],
            initializer=keras.initializers.TruncatedNormal(stddev=1.0),
            dtype="float32",
            experimental_autocast=False,
        )
        self.built = True

    def call(
        self, pixels: tf.Tensor, clusters: Clusters | None = None, level: int = 0, training: bool | None = False
    ) -> tuple[tf.Tensor, Clusters, tuple[CMTStep, ...]]:
        if clusters is None:
            batch = tf.shape(pixels)[0]
            centers = tf.tile(tf.cast(self.cluster_centers, pixels.dtype), [batch, 1, 1])
            references = tf.zeros([batch, self.num_clusters, 4]) if self.references else None
            clusters = Clusters(centers, None, references)
        steps = []
        for own_level, block in zip(self.levels, self.blocks):
            if own_level == level:
                if training and self.recompute:
                    pixels, clusters, step = _recomputed(block, pixels, clusters)
                else:
                    pixels, clusters, step = block(pixels, clusters, training=training)
                steps.append(step)
        return pixels, clusters, tuple(steps)

    def embeddings(self, clusters: Clusters, training: bool | None = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Class and mask features of the clusters behind the last layer, two [B, N, cluster_channels]."""
        return (
            self.class_projection(clusters.centers, training=training),
            self.mask_projection(clusters.centers, training=training),
        )


def _recomputed(block: CMTBlock, pixels: tf.Tensor, clusters: Clusters) -> tuple[tf.Tensor, Clusters, CMTStep]:
    def step(pixels: tf.Tensor, *tensors: tf.Tensor) -> Any:
        values = iter(tensors)
        return block(pixels, Clusters(*[None if x is None else next(values) for x in clusters]), training=True)

    return recomputation.call(step, pixels, *[x for x in clusters if x is not None])


def _scaled(inputs: int) -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=inputs**-0.5)
