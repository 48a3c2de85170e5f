"""CMT-DeepLab (2022, arXiv 2206.08948): clustering mask transformer for panoptic segmentation.

Pixel encoder, pixel decoder, predictor and sizes are kMaX-DeepLab's; the paper builds on MaX-DeepLab's pixel path.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.layers import kmeans_attention
from deeplab2_kmax.models import building, kmax_deeplab, mask_transformer
from deeplab2_kmax.protos import model_pb2
from deeplab2_kmax.transformer_decoders import clusters
from deeplab2_kmax.transformer_decoders import cmt as transformer_decoders

# Levels of the pixel decoder that have transformer layers: strides 32, 16 and 8.
_CLUSTERED_LEVELS = 3


def build(options: model_pb2.ModelOptions, kit: building.Kit) -> CMTDeepLab:
    """Builds the model that `options.max_deeplab` describes around a backbone, with the sizes of its `kmax`.

    Raises:
        ValueError: an option has no meaning here.
    """
    sizes, own = options.max_deeplab.kmax, options.max_deeplab.cmt
    if options.max_deeplab.HasField("remax"):
        raise ValueError("max_deeplab.remax trains kMaX-DeepLab: remove it or max_deeplab.cmt.")
    shared = kit.shared("gelu")
    make_predictor = mask_transformer.make_predictor(options, kit.classes, **shared)
    pixel_decoder = kmax_deeplab.pixel_decoder(options.max_deeplab, **shared)
    return CMTDeepLab(
        backbone=kit.backbone,
        pixel_decoder=pixel_decoder,
        transformer_decoder=transformer_decoders.CMTTransformerDecoder(
            sizes.num_mask_slots or 128,
            pixel_channels=pixel_decoder.channels,
            make_predictor=make_predictor,
            blocks=tuple(sizes.transformer_decoder_blocks) or clusters.BLOCKS,
            cluster_channels=sizes.cluster_channels,
            references=own.reference_masks,
            recompute=sizes.recompute_transformer_decoder,
            block_options={
                **kmax_deeplab.block_options(options.max_deeplab),
                "residual": transformer_decoders.Residual(own.logits_residual),
                "coordinates": own.coordinates,
            },
            **shared,
        ),
        mask_predictor=make_predictor(recompute=sizes.recompute_heads),
        semantic_decoder=mask_transformer.semantic_decoder(options, recompute=sizes.recompute_heads, **shared),
        semantic_head=mask_transformer.semantic_head(options, recompute=sizes.recompute_heads, **shared),
        normalize_auxiliary_features=sizes.normalize_auxiliary_features,
        postprocess=kit.postprocess,
    )


class CMTDeepLab(mask_transformer.MaskTransformer):
    """Images [B, H, W, 3] with values 0..255 -> MaskTransformerOutput; masks at the pixel decoder's finest stride."""

    def __init__(self, *, name: str = "cmt_deeplab", **parts: Any):
        super().__init__(name=name, **parts)

    def decode(self, features: structures.Pyramid, training: bool | None) -> structures.MaskTransformerOutput:
        pixels, clusters, steps = self._cluster(features, training)
        class_features, mask_features = self.transformer_decoder.embeddings(clusters, training=training)
        prediction = self.mask_predictor(pixels, class_features, mask_features, training=training)
        if not training:
            return structures.MaskTransformerOutput(prediction)
        return structures.MaskTransformerOutput(
            prediction,
            auxiliary=tuple(step.prediction for step in steps),
            reference_masks=tuple(step.references for step in steps if step.references is not None),
        )

    @building.plain_python
    def cluster_maps(self, images: tf.Tensor) -> list[tf.Tensor]:
        """The cluster that every pixel belongs to most in each layer, [B, h, w] int32. Inference."""
        _, _, steps = self._cluster(self.backbone(building.normalize(images), training=False), training=False)
        return [kmeans_attention.assign(step.prediction.mask_logits) for step in steps]

    def _cluster(
        self, pyramid: structures.Pyramid, training: bool | None
    ) -> tuple[tf.Tensor, transformer_decoders.Clusters, list[transformer_decoders.CMTStep]]:
        """The finest pixel feature, the clusters behind the last layer, and what each layer did."""
        clusters: Any = None
        steps: list[transformer_decoders.CMTStep] = []

        def update(level: int, pixels: tf.Tensor) -> tf.Tensor:
            nonlocal clusters
            if level < _CLUSTERED_LEVELS:
                pixels, clusters, done = self.transformer_decoder(pixels, clusters, level=level, training=training)
                steps.extend(done)
            return pixels

        decoded = self.pixel_decoder(pyramid, update=update, training=training)
        return decoded[-1], clusters, steps
