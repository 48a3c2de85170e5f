"""DeepLabV3 (2017, arXiv 1706.05587): ASPP and a 3x3 convolution on the backbone's coarsest feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import registry, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional
from deeplab2_kmax.layers import aspp, conv
from deeplab2_kmax.models import building, deeplab
from deeplab2_kmax.models import passes as multiple
from deeplab2_kmax.protos import model_pb2


def build(options: model_pb2.ModelOptions, kit: building.Kit, *, passes: Sequence[multiple.Pass]) -> DeepLabV3:
    """Builds the model that `options.deeplab_v3` and `options.decoder` describe around a backbone.

    Raises:
        ValueError: an option has no meaning here.
    """
    shared, decoder = kit.shared("relu"), options.decoder
    # DeepLab2 has a standard convolution here whatever the decoder's type; one that is asked for is given.
    conv_type = decoder.decoder_conv_type if decoder.HasField("decoder_conv_type") else "standard_conv"
    make = registry.lookup(convolutional.CONV_TYPES, conv_type, "decoder_conv_type")
    return DeepLabV3(
        feature=decoder.feature_key,
        aspp=aspp.build(decoder, **shared),
        classifier=make(decoder.decoder_channels, 3, **shared),
        num_classes=options.deeplab_v3.num_classes,
        backbone=kit.backbone,
        passes=passes,
        postprocess=kit.postprocess,
    )


class DeepLabV3(deeplab.DeepLab):
    """Images [B, H, W, 3] with values 0..255 -> DeepLabOutput with classes alone, from one feature of the backbone."""

    def __init__(
        self,
        *,
        feature: str,
        aspp: keras.layers.Layer,
        classifier: keras.layers.Layer,
        num_classes: int,
        name: str = "deeplab_v3",
        **parts: Any,
    ):
        super().__init__(name=name, **parts)
        self.feature = structures.pyramid_field(feature, "feature_key")
        self.aspp = aspp
        self.classifier = classifier
        self.last = conv.Conv(num_classes, use_bias=True, dtype="float32")

    def decode(
        self, features: structures.Pyramid, training: bool | None, pool_scale: float = 1.0
    ) -> dict[str, tf.Tensor]:
        x = self.aspp(getattr(features, self.feature), training=training, pool_scale=pool_scale)
        return {deeplab.LOGITS: self.last(self.classifier(x, training=training))}
