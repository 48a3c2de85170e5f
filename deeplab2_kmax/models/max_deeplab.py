"""MaX-DeepLab (2021, arXiv 2012.00759): panoptic segmentation by a memory of mask slots beside the pixels.

Differences from the paper, all DeepLab2's: see docs/max_deeplab.md.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.models import building, mask_transformer
from deeplab2_kmax.protos import model_pb2


def memory_sizes(options: model_pb2.ModelOptions) -> dict[str, Any]:
    """The sizes in `options.max_deeplab.memory` as a backbone with a memory takes them."""
    sizes = options.max_deeplab.memory
    found: dict[str, Any] = {
        "num_mask_slots": sizes.num_mask_slots,
        "transformer_filters": sizes.transformer_filters,
        "feed_forward_channels": sizes.feed_forward_channels,
        "num_heads": sizes.num_heads,
    }
    if sizes.HasField("channels"):
        found["memory_channels"] = sizes.channels
    return found


def build(options: model_pb2.ModelOptions, kit: building.Kit) -> MaXDeepLab:
    """Builds the model that `options.max_deeplab` describes around a backbone; unset sizes are the paper's.

    Raises:
        ValueError: an option has no meaning here.
    """
    shared = kit.shared("relu")
    semantic_decoder = None
    if not kit.backbone.semantic_step:  # a step of the decoder is as fine as the masks already
        semantic_decoder = mask_transformer.semantic_decoder(options, feature_semantic="res5", **shared)
    return MaXDeepLab(
        backbone=kit.backbone,
        mask_predictor=mask_transformer.make_predictor(options, kit.classes, **shared)(),
        semantic_decoder=semantic_decoder,
        semantic_head=mask_transformer.semantic_head(options, **shared),
        postprocess=kit.postprocess,
    )


class MaXDeepLab(mask_transformer.MaskTransformer):
    """Images [B, H, W, 3] with values 0..255 -> MaskTransformerOutput; masks at stride 4, no auxiliary predictions."""

    def __init__(self, *, name: str = "max_deeplab", **parts: Any):
        super().__init__(name=name, **parts)

    def decode(self, features: structures.MemoryPyramid, training: bool | None) -> structures.MaskTransformerOutput:
        """The prediction from the backbone's finest feature and its memory."""
        prediction = self.mask_predictor(
            features.feature_panoptic, features.class_features, features.mask_features, training=training
        )
        return structures.MaskTransformerOutput(prediction)

    def semantic_features(self, features: structures.MemoryPyramid) -> tf.Tensor:
        """What the semantic head reads where there is no semantic decoder."""
        return features.feature_semantic

    def call(
        self, images: tf.Tensor, training: bool | None = False, seed: tf.Tensor | None = None
    ) -> structures.MaskTransformerOutput:
        """Everything the mode computes; inference adds the semantic head's probabilities."""
        output = super().call(images, training=training, seed=seed)
        if not training and output.semantic_logits is not None:
            output = output._replace(semantic_probabilities=tf.nn.softmax(output.semantic_logits))
        return output
