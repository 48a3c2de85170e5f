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
from deeplab2_kmax.layers import activations, conv, reference_masks, resize, shapes, soft_assignment
from deeplab2_kmax.layers import drop_path as drop_paths
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation
from deeplab2_kmax.transformer_decoders import clusters as shared


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


class CMTBlock(shared.ClusterBlock):
    """One step of soft clustering, one of self-attention among the centres, a feed-forward network; pixels change too.

    pixels [B, h, w, D] un-activated, Clusters -> pixels [B, h, w, D], Clusters, CMTStep.

    Args:
        pixel_channels: D.
        residual: what becomes of the logits of the layer before.
        coordinates: whether pixels and clusters know their places.
        references: whether clusters have reference masks.
        Others: as for ClusterBlock.
    """

    def __init__(
        self,
        *,
        pixel_channels: int,
        residual: Residual = Residual.ADD,
        coordinates: bool = True,
        references: bool = True,
        cluster_channels: int = 256,
        norm: norms.Norm,
        activation: activations.Activation,
        drop_path: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(
            cluster_channels=cluster_channels, norm=norm, activation=activation, drop_path=drop_path, **kwargs
        )
        self.residual = residual
        self.coordinates = coordinates
        self.reference_head = None
        if references:
            small = keras.initializers.TruncatedNormal(stddev=0.01)
            self.reference_head = conv.Dense(4, kernel_initializer=small, dtype="float32")
        retrieval = soft_assignment.Retrieval
        self.pixel_attention = retrieval(cluster_channels, norm=norm, activation=activation)
        self.clustering = retrieval(cluster_channels, norm=norm)
        self.pixel_update = retrieval(pixel_channels, norm=norm, activation=activation)
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
        query, key, value = self.project(memory, training)
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
        centers = self.updated(centers, update, query, key, value, training)

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
        blocks: Sequence[int] = shared.BLOCKS,
        cluster_channels: int = 256,
        references: bool = True,
        recompute: bool = False,
        norm: norms.Norm,
        activation: activations.Activation,
        block_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_clusters = num_clusters
        self.cluster_channels = cluster_channels
        self.references = references
        self.recompute = recompute
        self.levels = shared.levels(blocks)
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
