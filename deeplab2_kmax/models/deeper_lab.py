"""DeeperLab (2019, arXiv 1902.05093): classes, keypoints of instances, and offsets to and between them.

Keypoints are the corners of an instance's box and its centre of mass (structures.KEYPOINTS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional
from deeplab2_kmax.layers import aspp
from deeplab2_kmax.models import building, deeplab
from deeplab2_kmax.models import passes as multiple
from deeplab2_kmax.pixel_decoders import deeper_lab as pixel_decoders
from deeplab2_kmax.protos import model_pb2

# By the fields of DeepLabOutput: channels.
MAPS = {
    "keypoint_heatmap": len(structures.KEYPOINTS),
    "short_offset_map": 2 * len(structures.KEYPOINTS),
    "middle_offset_map": 2 * len(structures.KEYPOINT_PAIRS),
    "long_offset_map": 2 * len(structures.KEYPOINTS),
}


def build(options: model_pb2.ModelOptions, kit: building.Kit, *, passes: Sequence[multiple.Pass]) -> DeeperLab:
    """Builds the model that `options.deeper_lab` and `options.decoder` describe around a backbone.

    Raises:
        ValueError: an option has no meaning here.
    """
    shared, own, decoder = kit.shared("relu"), options.deeper_lab, options.decoder

    def head(channels: int, outputs: int) -> convolutional.ConvHead:
        return convolutional.ConvHead(
            channels,
            outputs,
            kernel_size=pixel_decoders.KERNEL,
            conv_type=own.semantic_head.head_conv_type,
            **shared,
        )

    return DeeperLab(
        decoder=pixel_decoders.DeeperLabDecoder(
            aspp.build(decoder, **shared),
            feature=decoder.feature_key,
            low_level=(own.low_level.feature_key, own.low_level.channels_project),
            factor=building.stride_of(kit.backbone, decoder.feature_key)
            // building.stride_of(kit.backbone, own.low_level.feature_key),
            channels=decoder.decoder_channels,
            conv_type=decoder.decoder_conv_type,
            **shared,
        ),
        semantic_head=head(own.semantic_head.head_channels, own.semantic_head.output_channels),
        keypoint_heads={name: head(own.keypoint_head_channels, channels) for name, channels in MAPS.items()},
        backbone=kit.backbone,
        passes=passes,
        postprocess=kit.postprocess,
    )


class DeeperLab(deeplab.DeepLab):
    """Images [B, H, W, 3] with values 0..255 -> DeepLabOutput with classes and the maps of MAPS."""

    def __init__(
        self,
        *,
        decoder: keras.layers.Layer,
        semantic_head: keras.layers.Layer,
        keypoint_heads: Mapping[str, keras.layers.Layer],
        name: str = "deeper_lab",
        **parts: Any,
    ):
        super().__init__(name=name, **parts)
        self.decoder = decoder
        self.semantic_head = semantic_head
        self.keypoint_heads = dict(keypoint_heads)

    def decode(
        self, features: structures.Pyramid, training: bool | None, pool_scale: float = 1.0
    ) -> dict[str, tf.Tensor]:
        x = self.decoder(features, training=training, pool_scale=pool_scale)
        heads = {deeplab.LOGITS: self.semantic_head, **self.keypoint_heads}
        return {name: head(x, training=training) for name, head in heads.items()}
