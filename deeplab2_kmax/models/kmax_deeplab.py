"""kMaX-DeepLab (2022, arXiv 2207.04044): k-means mask transformer for panoptic segmentation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.models import building, mask_transformer
from deeplab2_kmax.pixel_decoders import kmax as pixel_decoders
from deeplab2_kmax.protos import model_pb2
from deeplab2_kmax.transformer_decoders import clusters
from deeplab2_kmax.transformer_decoders import kmax as transformer_decoders

# Chance to keep a residual update of the transformer decoder where the config does not say.
_KEEP_PROBABILITY = 0.8
# Blocks of which ReMaX (2023, arXiv 2306.17319) relaxes the masks: the first four of six.
_NUM_RELAXED = 4


def build(options: model_pb2.ModelOptions, kit: building.Kit) -> KMaXDeepLab:
    """Builds the model that `options.max_deeplab` describes around a backbone; unset sizes are the paper's.

    Raises:
        ValueError: an option has no meaning here.
    """
    sizes = options.max_deeplab.kmax
    shared = kit.shared("gelu")
    make_predictor = mask_transformer.make_predictor(options, kit.classes, **shared)
    blocks = tuple(sizes.transformer_decoder_blocks) or clusters.BLOCKS
    make_head = functools.partial(mask_transformer.semantic_head, options, **shared)
    num_blocks = sum(blocks)
    relaxed = _relaxed(options.max_deeplab, num_blocks)
    return KMaXDeepLab(
        backbone=kit.backbone,
        pixel_decoder=pixel_decoder(options.max_deeplab, **shared),
        transformer_decoder=transformer_decoders.KMaXTransformerDecoder(
            sizes.num_mask_slots or 128,
            make_predictor=make_predictor,
            blocks=blocks,
            cluster_channels=sizes.cluster_channels,
            make_semantic_head=make_head,
            semantic_blocks=relaxed,
            recompute=sizes.recompute_transformer_decoder,
            block_options=block_options(options.max_deeplab),
            **shared,
        ),
        mask_predictor=make_predictor(recompute=sizes.recompute_heads),
        semantic_decoder=mask_transformer.semantic_decoder(options, recompute=sizes.recompute_heads, **shared),
        semantic_head=mask_transformer.semantic_head(options, recompute=sizes.recompute_heads, **shared),
        final_semantic_head=make_head() if num_blocks in relaxed else None,
        normalize_auxiliary_features=sizes.normalize_auxiliary_features,
        postprocess=kit.postprocess,
    )


def pixel_decoder(
    family: model_pb2.ModelOptions.MaXDeepLabOptions, *, norm: norms.Norm, activation: activations.Activation
) -> pixel_decoders.KMaXPixelDecoder:
    """The pixel decoder of the sizes in `family.kmax`.

    Raises:
        ValueError: an option has no meaning here.
    """
    sizes = family.kmax
    finest = sizes.highest_stride or 4
    if finest not in (2, 4):
        raise ValueError(f"max_deeplab.kmax.highest_stride is 2 or 4, but got {finest}.")
    num_levels = 4 if finest == 4 else 5
    blocks = tuple(sizes.pixel_decoder_blocks) or pixel_decoders.BLOCKS[:num_levels]
    if len(blocks) != num_levels:
        raise ValueError(
            f"max_deeplab.kmax.pixel_decoder_blocks: highest_stride {finest} takes {num_levels} entries, "
            f"but got {list(blocks)}."
        )
    return pixel_decoders.KMaXPixelDecoder(
        blocks=blocks,
        width_multiplier=sizes.pixel_decoder_width_multiplier,
        axial_beyond_stride=sizes.pixel_decoder_axial_beyond_stride,
        dilation=sizes.pixel_decoder_dilation,
        num_heads=sizes.num_heads,
        recompute=sizes.recompute_pixel_decoder,
        norm=norm,
        activation=activation,
    )


def block_options(family: model_pb2.ModelOptions.MaXDeepLabOptions) -> dict[str, Any]:
    """The sizes of a block of the transformer decoder."""
    keep = _KEEP_PROBABILITY
    if family.HasField("transformer_decoder_drop_path_keep_prob"):
        keep = family.transformer_decoder_drop_path_keep_prob
    return {
        "filters": family.kmax.transformer_decoder_filters,
        "hidden": family.kmax.transformer_decoder_feed_forward_channels,
        "num_heads": family.kmax.num_heads,
        "drop_path": 1.0 - keep,
    }


class KMaXDeepLab(mask_transformer.MaskTransformer):
    """Images [B, H, W, 3] with values 0..255 -> MaskTransformerOutput; masks at the pixel decoder's finest stride.

    `final_semantic_head` reads the finest pixel feature in training, where ReMaX relaxes the final masks too.
    """

    def __init__(
        self, *, final_semantic_head: keras.layers.Layer | None = None, name: str = "kmax_deeplab", **parts: Any
    ):
        super().__init__(name=name, **parts)
        self.final_semantic_head = final_semantic_head

    def decode(self, features: structures.Pyramid, training: bool | None) -> structures.MaskTransformerOutput:
        decoded = self.pixel_decoder(features, training=training)
        clusters = self.transformer_decoder(decoded[:3], predict=False, training=training)
        prediction = self.mask_predictor(
            decoded[-1], clusters.class_features, clusters.mask_features, training=training
        )
        auxiliary = tuple(step.prediction for step in clusters.steps if step.prediction is not None)
        semantic_logits = [step.semantic_logits for step in clusters.steps] + [self._final_semantics(decoded, training)]
        return structures.MaskTransformerOutput(
            prediction,
            auxiliary=auxiliary,
            block_semantic_logits=tuple(semantic_logits) if any(x is not None for x in semantic_logits) else (),
        )

    @building.plain_python
    def cluster_maps(self, images: tf.Tensor) -> list[tf.Tensor]:
        """The cluster that every pixel chose in each block of the transformer decoder, [B, h, w] int32. Inference."""
        pyramid = self.backbone(building.normalize(images), training=False)
        return [step.assignment for step in self.clusters(pyramid).steps]

    def clusters(
        self, pyramid: structures.Pyramid, predict: bool = False, training: bool = False
    ) -> transformer_decoders.Clusters:
        """The transformer decoder's view of a backbone's features, with the blocks' own predictions if `predict`."""
        features = self.pixel_decoder(pyramid, training=training)
        return self.transformer_decoder(features[:3], predict=predict, training=training)

    def _final_semantics(self, decoded: Sequence[tf.Tensor], training: bool | None) -> tf.Tensor | None:
        if self.final_semantic_head is None:
            return None
        # Inference does not call it, but its variables belong to the model.
        conv.build_child(self.final_semantic_head, decoded[-1].shape)
        return self.final_semantic_head(decoded[-1], training=True) if training else None


def _relaxed(family: model_pb2.ModelOptions.MaXDeepLabOptions, num_blocks: int) -> tuple[int, ...]:
    """The transformer blocks of which ReMaX relaxes the masks; `num_blocks` is the final prediction."""
    if not family.HasField("remax") or not family.remax.remask:
        return ()
    if not family.auxiliary_semantic_head.output_channels:
        raise ValueError("max_deeplab.remax.remask needs max_deeplab.auxiliary_semantic_head.")
    relaxed = tuple(family.remax.remask_blocks) or tuple(range(min(_NUM_RELAXED, num_blocks)))
    if max(relaxed) > num_blocks or min(relaxed) < 0:
        raise ValueError(f"max_deeplab.remax.remask_blocks are 0 to {num_blocks}, but got {list(relaxed)}.")
    return relaxed
