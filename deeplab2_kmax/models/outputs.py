"""A model's outputs under the names that DeepLab2 gives them."""

from __future__ import annotations

import tensorflow as tf

from deeplab2_kmax import structures

CLASS_LOGITS, MASK_LOGITS = "transformer_class_logits", "pixel_space_mask_logits"
PIXEL_FEATURES = "pixel_space_normalized_feature"
# Fields of label maps.
_MAPS = {
    "panoptic": "panoptic_pred",
    "semantic": "semantic_pred",
    "instance": "instance_pred",
    "instance_centers": "instance_center_pred",
    "next_panoptic": "next_panoptic_pred",
    "concat_next_panoptic": "concat_next_panoptic_pred",
}


def deeplab2_outputs(output: structures.MaskTransformerOutput | structures.DeepLabOutput) -> dict[str, tf.Tensor]:
    """Names what `output` holds as DeepLab2 does; what is None is left out, auxiliary predictions too."""
    if isinstance(output, structures.DeepLabOutput):
        named = output._asdict()
        del named["maps"]
    else:
        named = {
            CLASS_LOGITS: output.prediction.class_logits,
            MASK_LOGITS: output.prediction.mask_logits,
            PIXEL_FEATURES: output.prediction.pixel_features,
            "semantic_logits": output.semantic_logits,
            "semantic_probs": output.semantic_probabilities,
        }
    if output.maps is not None:
        named.update({_MAPS.get(name, name): values for name, values in output.maps._asdict().items()})
    return {name: value for name, value in named.items() if value is not None}
