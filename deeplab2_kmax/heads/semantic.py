"""The semantic branch that helps a mask transformer train: ASPP decoder of DeepLabv3+ (2018, arXiv 1802.02611)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import registry, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional
from deeplab2_kmax.layers import activations, aspp, conv, resize, shapes
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation


class SemanticDecoder(keras.layers.Layer):
    """ASPP on the coarsest feature, then merged with finer features: Pyramid -> [B, h, w, channels].

    Args:
        feature: name of the Pyramid's field that ASPP reads.
        low_levels: name of a Pyramid's field and channels of its projection, from coarse to fine.
        aspp_only_1x1: one 1x1 convolution in the place of ASPP.
        recompute: training computes what follows ASPP again for its gradients, to save memory.
        aspp_pool_size: window of ASPP's image pooling, the whole map if None.

    Raises:
        ValueError: a feature's name is not a field of Pyramid.
    """

    def __init__(
        self,
        *,
        feature: str = "stage5",
        low_levels: Sequence[tuple[str, int]] = (("res3", 64), ("res2", 32)),
        channels: int = 256,
        aspp_channels: int = 256,
        atrous_rates: Sequence[int] = (6, 12, 18),
        conv_type: str = "depthwise_separable_conv",
        aspp_only_1x1: bool = False,
        aspp_pool_size: tuple[int, int] | None = None,
        recompute: bool = False,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.recompute = recompute
        fields = {name: name for name in structures.Pyramid._fields}
        self.feature = registry.lookup(fields, feature, "feature_key")
        self.low_features = [registry.lookup(fields, name, "feature_key of a low level") for name, _ in low_levels]
        make = registry.lookup(convolutional.CONV_TYPES, conv_type, "decoder_conv_type")
        if aspp_only_1x1:
            self.aspp = conv.ConvNormAct(aspp_channels, norm=norm, activation=activation, name="aspp")
        else:
            self.aspp = aspp.ASPP(
                aspp_channels,
                atrous_rates=atrous_rates,
                pool_size=aspp_pool_size,
                norm=norm,
                activation=activation,
                name="aspp",
            )
        self.projections = [conv.ConvNormAct(width, norm=norm, activation=activation) for _, width in low_levels]
        self.fusions = [make(channels, 5, norm=norm, activation=activation) for _ in low_levels]

    def call(self, pyramid: structures.Pyramid, training: bool | None = False) -> tf.Tensor:
        x = self.aspp(getattr(pyramid, self.feature), training=training)
        for index, name in enumerate(self.low_features):
            fuse = functools.partial(self._fuse, index, training)
            low = getattr(pyramid, name)
            x = recomputation.call(fuse, x, low) if training and self.recompute else fuse(x, low)
        return x

    def _fuse(self, index: int, training: bool | None, x: tf.Tensor, low: tf.Tensor) -> tf.Tensor:
        low = self.projections[index](low, training=training)
        height, width = shapes.of(low)[1:3]
        x = tf.concat([resize.bilinear(x, (height, width)), low], axis=-1)
        return self.fusions[index](x, training=training)
