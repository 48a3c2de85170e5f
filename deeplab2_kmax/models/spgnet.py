"""SPGNet: Semantic Prediction Guidance for Scene Parsing (2019, arXiv 1908.09798): two networks, one behind the other.

Each is an encoder and a decoder; what the first one says of the classes guides its features on the way to the second.
Where the paper leaves more than one form, docs/spgnet.md says which it is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import resnet
from deeplab2_kmax.layers import activations, conv
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.models import building, deeplab
from deeplab2_kmax.models import passes as multiple
from deeplab2_kmax.pixel_decoders import spgnet as pixel_decoders
from deeplab2_kmax.protos import model_pb2

GUIDE = "guide_logits"


def build(options: model_pb2.ModelOptions, kit: building.Kit, *, passes: Sequence[multiple.Pass]) -> SPGNet:
    """Builds the model that `options.spgnet` describes around a backbone.

    Raises:
        ValueError: the backbone is no plain ResNet, or an option has no meaning here.
    """
    own = options.spgnet
    if type(kit.backbone) is not resnet.ResNet:
        raise ValueError(
            f"model_options.backbone: spgnet takes a backbone of the ResNet family, for example 'resnet50', without "
            f"rfp_steps, but got {options.backbone.name!r}."
        )
    return SPGNet(
        num_classes=own.num_classes,
        num_stages=own.num_stages,
        channels=own.decoder_channels,
        backbone=kit.backbone,
        passes=passes,
        postprocess=kit.postprocess,
        **kit.shared("relu"),
    )


class SPGNet(deeplab.DeepLab):
    """Images [B, H, W, 3] with values 0..255 -> DeepLabOutput with the classes of both stages, told at stride 4.

    Args:
        num_classes: channels of both.
        num_stages: 2; or 1 for one encoder and decoder, without `guide_logits`.
        channels: of the decoders, a multiple of 4.

    Raises:
        ValueError: another number of stages, or channels that do not split.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_stages: int,
        channels: int,
        norm: norms.Norm,
        activation: activations.Activation,
        name: str = "spgnet",
        **parts: Any,
    ):
        super().__init__(name=name, **parts)
        if num_stages not in (1, 2):
            raise ValueError(f"SPGNet has 1 or 2 stages, but got {num_stages}.")
        shared: dict[str, Any] = {"norm": norm, "activation": activation}
        self.decoder = pixel_decoders.UpwardDecoder(channels, **shared)
        self.guide = self.second = self.fuse = None
        if num_stages == 2:
            self.guide = pixel_decoders.Guide(channels, num_classes, **shared)
            self.second = SecondStage(self.backbone, channels, **shared)
            self.fuse = conv.ConvNormAct(channels, **shared)
        self.last = conv.Conv(num_classes, use_bias=True, dtype="float32")

    def decode(
        self, features: structures.Pyramid, training: bool | None, pool_scale: float = 1.0
    ) -> dict[str, tf.Tensor]:
        del pool_scale  # whole maps are pooled
        encoded = (features.res2, features.res3, features.res4, features.res5)
        decoded = self.decoder(encoded, training=training)
        if self.guide is None or self.second is None or self.fuse is None:
            return {deeplab.LOGITS: self.last(decoded[0], training=training)}
        guided, guide_logits = self.guide(decoded[0], training=training)
        finest = self.second(guided, encoded, decoded, training=training)
        x = self.fuse(tf.concat([guided, finest], axis=-1), training=training)
        return {deeplab.LOGITS: self.last(x, training=training), GUIDE: guide_logits}


class SecondStage(keras.layers.Layer):
    """The second encoder, a ResNet without a stem, and its decoder.

    Guided features [B, h, w, C] of stride 4, and the levels 2 to 5 of the first stage's encoder and decoder -> the
    finest features of the second decoder, [B, h, w, channels]. Each stage of the encoder adds projections of both
    behind its first block.
    """

    def __init__(
        self,
        first: resnet.ResNet,
        channels: int,
        *,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.stages = list(first.further_stages())
        self.from_encoder = [conv.ConvNormAct(width, norm=norm) for width in first.channels[1:]]
        self.from_decoder = [conv.ConvNormAct(width, norm=norm) for width in first.channels[1:]]
        self.decoder = pixel_decoders.UpwardDecoder(channels, norm=norm, activation=activation)
        self.activation = first.activation

    def call(
        self,
        x: tf.Tensor,
        encoded: pixel_decoders.Levels,
        decoded: pixel_decoders.Levels,
        training: bool | None = False,
    ) -> tf.Tensor:
        levels = []
        for index, stage in enumerate(self.stages):
            added = self.from_encoder[index](encoded[index], training=training)
            added += self.from_decoder[index](decoded[index], training=training)
            x = stage(x, training=training, added=added)
            levels.append(self.activation(x))
        return self.decoder(tuple(levels), training=training)[0]
