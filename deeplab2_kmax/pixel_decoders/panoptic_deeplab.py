"""The decoder of Panoptic-DeepLab (2020, arXiv 1911.10194): ASPP, then finer features one after the other.

Its semantic and its instance branch have one each; as the semantic branch of a mask transformer it helps to train.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import registry, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional
from deeplab2_kmax.layers import activations, aspp, conv, resize, shapes
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation
from deeplab2_kmax.protos import model_pb2


def build(
    options: model_pb2.DecoderOptions,
    low_levels: Iterable[model_pb2.LowLevelOptions],
    *,
    feature: str | None = None,
    recompute: bool = False,
    norm: norms.Norm,
    activation: activations.Activation,
) -> PanopticDeepLabDecoder:
    """The decoder that the options ask for; `feature` takes the place of their `feature_key`.

    Raises:
        ValueError: an option has no meaning here.
    """
    return PanopticDeepLabDecoder(
        aspp.build(options, norm=norm, activation=activation),
        feature=feature or options.feature_key,
        low_levels=[(low.feature_key, low.channels_project) for low in low_levels],
        channels=options.decoder_channels,
        conv_type=options.decoder_conv_type,
        recompute=recompute,
        norm=norm,
        activation=activation,
    )


class PanopticDeepLabDecoder(keras.layers.Layer):
    """ASPP on the coarsest feature, then merged with finer features: Pyramid -> [B, h, w, channels].

    Args:
        aspp: an ASPP, or what takes its place.
        feature: name of the Pyramid's field that ASPP reads.
        low_levels: name of a Pyramid's field and channels of its projection, from coarse to fine.
        recompute: training computes what follows ASPP again for its gradients, to save memory.

    Raises:
        ValueError: a feature's name is not a field of Pyramid.
    """

    def __init__(
        self,
        aspp: keras.layers.Layer,
        *,
        feature: str = "stage5",
        low_levels: Sequence[tuple[str, int]] = (("res3", 64), ("res2", 32)),
        channels: int = 256,
        conv_type: str = "depthwise_separable_conv",
        recompute: bool = False,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.recompute = recompute
        self.feature = structures.pyramid_field(feature, "feature_key")
        self.low_features = [structures.pyramid_field(name, "feature_key of a low level") for name, _ in low_levels]
        make = registry.lookup(convolutional.CONV_TYPES, conv_type, "decoder_conv_type")
        self.aspp = aspp
        self.projections = [conv.ConvNormAct(width, norm=norm, activation=activation) for _, width in low_levels]
        self.fusions = [make(channels, 5, norm=norm, activation=activation) for _ in low_levels]

    def call(
        self,
        pyramid: structures.Pyramid,
        training: bool | None = False,
        pool_scale: float = 1.0,
        high: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """`high` takes the place of the feature that ASPP reads.

        Raises:
            ValueError: a low level is coarser than what it is merged with.
        """
        high = getattr(pyramid, self.feature) if high is None else high
        x = self.aspp(high, training=training, pool_scale=pool_scale)
        for index, name in enumerate(self.low_features):
            fuse = functools.partial(self._fuse, index, training)
            low = getattr(pyramid, name)
            x = recomputation.call(fuse, x, low) if training and self.recompute else fuse(x, low)
        return x

    def _fuse(self, index: int, training: bool | None, x: tf.Tensor, low: tf.Tensor) -> tf.Tensor:
        low = self.projections[index](low, training=training)
        height, width = shapes.of(low)[1:3]
        if any(isinstance(new, int) and new < (old or 0) for new, old in zip((height, width), x.shape[1:3])):
            raise ValueError(
                f"Low levels go from coarse to fine, but {self.low_features[index]!r} has {height}x{width} places "
                f"where what came before it has {x.shape[1]}x{x.shape[2]}: put the coarser one first, or leave it out."
            )
        x = tf.concat([resize.bilinear(x, (height, width)), low], axis=-1)
        return self.fusions[index](x, training=training)
