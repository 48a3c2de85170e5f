"""The decoder of DeeperLab (2019, arXiv 1902.05093): all convolutions on the coarse grid, with many channels."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax import registry, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional
from deeplab2_kmax.layers import activations, conv, shapes
from deeplab2_kmax.layers import norm as norms

KERNEL = 7


class DeeperLabDecoder(keras.layers.Layer):
    """ASPP on a coarse feature beside a fine one whose cells became channels: Pyramid -> [B, h, w, channels], fine.

    Space-to-depth brings a projection of the fine feature to the coarse grid, two 7x7 convolutions follow there, and
    depth-to-space brings their `factor`^2 times `channels` back.

    Args:
        aspp: an ASPP, or what takes its place.
        feature: name of the Pyramid's field that ASPP reads.
        low_level: name of the fine field and channels of its projection.
        factor: how much finer it is.
        channels: of the result.
        conv_type: of the 7x7 convolutions.

    Raises:
        ValueError: a feature's name is not a field of Pyramid.
    """

    def __init__(
        self,
        aspp: keras.layers.Layer,
        *,
        feature: str = "res5",
        low_level: tuple[str, int] = ("res2", 32),
        factor: int = 4,
        channels: int = 256,
        conv_type: str = "depthwise_separable_conv",
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.feature = structures.pyramid_field(feature, "feature_key")
        self.low_feature = structures.pyramid_field(low_level[0], "feature_key of the low level")
        self.factor = factor
        self.aspp = aspp
        self.projection = conv.ConvNormAct(low_level[1], norm=norm, activation=activation)
        make = registry.lookup(convolutional.CONV_TYPES, conv_type, "decoder_conv_type")
        self.fusions = [make(factor**2 * channels, KERNEL, norm=norm, activation=activation) for _ in range(2)]

    def call(self, pyramid: structures.Pyramid, training: bool | None = False, pool_scale: float = 1.0) -> tf.Tensor:
        x = self.aspp(getattr(pyramid, self.feature), training=training, pool_scale=pool_scale)
        low = self.projection(getattr(pyramid, self.low_feature), training=training)
        height, width = shapes.of(low)[1:3]
        coarse = shapes.of(x)[1:3]
        # Cell i of the coarse grid lies on cell i * factor of the fine one, so the last one is not complete.
        missing = [[0, self.factor * many - few] for many, few in zip(coarse, (height, width))]
        low = tf.nn.space_to_depth(tf.pad(low, [[0, 0], *missing, [0, 0]]), self.factor)
        x = tf.concat([x, low], axis=-1)
        for fusion in self.fusions:
            x = fusion(x, training=training)
        return tf.nn.depth_to_space(x, self.factor)[:, :height, :width]
