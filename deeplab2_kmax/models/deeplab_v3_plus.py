"""DeepLabV3+ (2018, arXiv 1802.02611): ASPP, merged with one fine feature of the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import registry, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional
from deeplab2_kmax.layers import aspp, conv, resize, shapes
from deeplab2_kmax.models import building, deeplab
from deeplab2_kmax.models import passes as multiple
from deeplab2_kmax.protos import model_pb2


def build(options: model_pb2.ModelOptions, kit: building.Kit, *, passes: Sequence[multiple.Pass]) -> DeepLabV3Plus:
    """Builds the model that `options.deeplab_v3_plus` and `options.decoder` describe around a backbone.

    Raises:
        ValueError: an option has no meaning here.
    """
    shared, decoder, own = kit.shared("relu"), options.decoder, options.deeplab_v3_plus
    make = registry.lookup(convolutional.CONV_TYPES, decoder.decoder_conv_type, "decoder_conv_type")
    return DeepLabV3Plus(
        feature=decoder.feature_key,
        low_feature=own.low_level.feature_key,
        aspp=aspp.build(decoder, **shared),
        projection=conv.ConvNormAct(own.low_level.channels_project, **shared),
        fusions=[make(decoder.decoder_channels, 3, **shared) for _ in range(2)],
        num_classes=own.num_classes,
        backbone=kit.backbone,
        passes=passes,
        postprocess=kit.postprocess,
    )


class DeepLabV3Plus(deeplab.DeepLab):
    """Images [B, H, W, 3] with values 0..255 -> DeepLabOutput with classes alone, from two features of the backbone."""

    def __init__(
        self,
        *,
        feature: str,
        low_feature: str,
        aspp: keras.layers.Layer,
        projection: keras.layers.Layer,
        fusions: Sequence[keras.layers.Layer],
        num_classes: int,
        name: str = "deeplab_v3_plus",
        **parts: Any,
    ):
        super().__init__(name=name, **parts)
        self.feature = structures.pyramid_field(feature, "feature_key")
        self.low_feature = structures.pyramid_field(low_feature, "feature_key of the low level")
        self.aspp = aspp
        self.projection = projection
        self.fusions = list(fusions)
        self.last = conv.Conv(num_classes, use_bias=True, dtype="float32")

    def decode(
        self, features: structures.Pyramid, training: bool | None, pool_scale: float = 1.0
    ) -> dict[str, tf.Tensor]:
        high = self.aspp(getattr(features, self.feature), training=training, pool_scale=pool_scale)
        low = self.projection(getattr(features, self.low_feature), training=training)
        height, width = shapes.of(low)[1:3]
        x = tf.concat([resize.bilinear(high, (height, width)), low], axis=-1)
        for fusion in self.fusions:
            x = fusion(x, training=training)
        return {deeplab.LOGITS: self.last(x)}
