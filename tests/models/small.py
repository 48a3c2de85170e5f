"""A tiny kMaX-DeepLab for tests."""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format

from deeplab2_kmax import backbones, structures
from deeplab2_kmax.layers import norm
from deeplab2_kmax.models import building, kmax_deeplab
from deeplab2_kmax.protos import model_pb2

CLASSES = structures.MaskClasses(thing_ids=(1, 2), stuff_ids=(3, 4), ignore_label=0, label_divisor=256)
NORM = norm.batch_norm()

# Eight channels, one block a stage, attention with two heads.
OPTIONS = """
decoder { feature_key: "feature_semantic" atrous_rates: [1, 2, 3] decoder_channels: 8 aspp_channels: 8 }
max_deeplab {
  pixel_space_head { output_channels: 4 head_channels: 8 }
  auxiliary_low_level { feature_key: "res3" channels_project: 4 }
  auxiliary_low_level { feature_key: "res2" channels_project: 4 }
  auxiliary_semantic_head { output_channels: 5 head_channels: 8 }
  kmax {
    num_mask_slots: 6
    pixel_decoder_blocks: [1, 1, 1, 1]
    pixel_decoder_width_multiplier: 0.015625
    transformer_decoder_blocks: [1, 1, 1]
    cluster_channels: 8
    transformer_decoder_filters: 4
    transformer_decoder_feed_forward_channels: 8
    num_heads: 2
  }
}
"""


def options(changes: str = "") -> model_pb2.ModelOptions:
    """The tiny model's options with some of them changed."""
    message = text_format.Parse(OPTIONS, model_pb2.ModelOptions())
    changed = text_format.Parse(changes, model_pb2.ModelOptions())
    if changed.max_deeplab.kmax.pixel_decoder_blocks:
        del message.max_deeplab.kmax.pixel_decoder_blocks[:]
    message.MergeFrom(changed)
    return message


def backbone(name: str = "kmax_resnet50", **settings: Any):
    """A backbone with widths 4, 8, 16, 32, 64 and one block a stage."""
    narrow = {"stem_width_multiplier": 1 / 16, "backbone_width_multiplier": 1 / 32, "backbone_layer_multiplier": 0.34}
    return backbones.BACKBONES[name](**{"norm": NORM, **narrow, **settings})


def kit(made: Any) -> building.Kit:
    """What a model is built with around a backbone."""
    return building.Kit(made, CLASSES, NORM)


def build(changes: str = "", backbone_name: str = "kmax_resnet50", **settings: Any) -> kmax_deeplab.KMaXDeepLab:
    """The tiny model with its variables."""
    model = kmax_deeplab.build(options(changes), kit(backbone(backbone_name, **settings)))
    model.build_variables()
    return model
