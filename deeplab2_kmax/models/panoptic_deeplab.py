"""Panoptic-DeepLab (2020, arXiv 1911.10194): classes, centres of instances and offsets to them, for every pixel.

Also Axial-DeepLab (2020, arXiv 2003.07853), which is this with another backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional
from deeplab2_kmax.layers import activations
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.models import building, deeplab
from deeplab2_kmax.models import passes as multiple
from deeplab2_kmax.pixel_decoders import panoptic_deeplab as pixel_decoders
from deeplab2_kmax.protos import model_pb2


def build(options: model_pb2.ModelOptions, kit: building.Kit, *, passes: Sequence[multiple.Pass]) -> PanopticDeepLab:
    """Builds the model that `options.panoptic_deeplab` and `options.decoder` describe around a backbone.

    Raises:
        ValueError: an option has no meaning here.
    """
    shared, own = kit.shared("relu"), options.panoptic_deeplab
    return PanopticDeepLab(
        **branches(own, options.decoder, **shared),
        backbone=kit.backbone,
        passes=passes,
        postprocess=kit.postprocess,
    )


def branches(
    own: Any, decoder: model_pb2.DecoderOptions, *, norm: norms.Norm, activation: activations.Activation
) -> dict[str, Any]:
    """The decoders and heads of PanopticDeepLab, of a message of its kind."""
    shared: dict[str, Any] = {"norm": norm, "activation": activation}
    parts = {
        "semantic_decoder": pixel_decoders.build(decoder, own.low_level, **shared),
        "semantic_head": head(own.semantic_head, **shared),
    }
    if not own.instance.enable:
        return parts
    return {
        **parts,
        "instance_decoder": instance_decoder(own, decoder, **shared),
        "center_head": head(own.instance.center_head, **shared),
        "offset_head": head(own.instance.regression_head, **shared),
    }


def instance_decoder(own: Any, decoder: model_pb2.DecoderOptions, **shared: Any) -> keras.layers.Layer:
    """A new decoder with the options of the instance branch."""
    given = own.instance.instance_decoder_override
    return pixel_decoders.build(
        given if own.instance.HasField("instance_decoder_override") else decoder,
        own.instance.low_level_override or own.low_level,
        **shared,
    )


def head(
    options: model_pb2.HeadOptions, *, norm: norms.Norm, activation: activations.Activation
) -> convolutional.ConvHead:
    """The head that the options ask for."""
    return convolutional.ConvHead(
        options.head_channels,
        options.output_channels,
        conv_type=options.head_conv_type,
        norm=norm,
        activation=activation,
    )


class PanopticDeepLab(deeplab.DeepLab):
    """Images [B, H, W, 3] with values 0..255 -> DeepLabOutput; with classes alone if there is no instance decoder."""

    def __init__(
        self,
        *,
        semantic_decoder: keras.layers.Layer,
        semantic_head: keras.layers.Layer,
        instance_decoder: keras.layers.Layer | None = None,
        center_head: keras.layers.Layer | None = None,
        offset_head: keras.layers.Layer | None = None,
        name: str = "panoptic_deeplab",
        **parts: Any,
    ):
        super().__init__(name=name, **parts)
        self.semantic_decoder = semantic_decoder
        self.semantic_head = semantic_head
        self.instance_decoder: Any = instance_decoder
        self.center_head: Any = center_head
        self.offset_head: Any = offset_head

    def decode(
        self, features: structures.Pyramid, training: bool | None, pool_scale: float = 1.0
    ) -> dict[str, tf.Tensor]:
        semantic = self.semantic_decoder(features, training=training, pool_scale=pool_scale)
        maps = self.semantic_maps(semantic, training)
        if self.instance_decoder is not None:
            instance = self.instance_decoder(features, training=training, pool_scale=pool_scale)
            maps.update(self.instance_maps(instance, training))
        return maps

    def semantic_maps(self, semantic: tf.Tensor, training: bool | None) -> dict[str, tf.Tensor]:
        """What the heads say of the semantic decoder's features."""
        return {deeplab.LOGITS: self.semantic_head(semantic, training=training)}

    def instance_maps(self, instance: tf.Tensor, training: bool | None) -> dict[str, tf.Tensor]:
        """What the heads say of the instance decoder's features."""
        return {
            deeplab.HEATMAP: self.center_head(instance, training=training),
            deeplab.OFFSETS: self.offset_head(instance, training=training),
        }
