"""A model's outputs under the names that DeepLab2 gives them."""

from __future__ import annotations

import tensorflow as tf

from deeplab2_kmax import structures


def deeplab2_outputs(output: structures.MaskTransformerOutput) -> dict[str, tf.Tensor]:
    """Names what `output` holds as DeepLab2 does; what is None is left out, auxiliary predictions too."""
    named = {
        "transformer_class_logits": output.prediction.class_logits,
        "pixel_space_mask_logits": output.prediction.mask_logits,
        "pixel_space_normalized_feature": output.prediction.pixel_features,
        "semantic_logits": output.semantic_logits,
        "semantic_probs": output.semantic_probabilities,
    }
    if output.maps is not None:
        named.update(
            panoptic_pred=output.maps.panoptic,
            semantic_pred=output.maps.semantic,
            instance_pred=output.maps.instance,
            semantic_scores=output.maps.semantic_scores,
            instance_scores=output.maps.instance_scores,
        )
    return {name: value for name, value in named.items() if value is not None}
