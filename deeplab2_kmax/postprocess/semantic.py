"""The most probable class of every pixel.

Works on blocks of rows, so that the upsampled logits of a whole image never exist at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from deeplab2_kmax.postprocess import mask_merging
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import MaskClasses, SemanticMaps

LOGITS, PROBABILITIES = "semantic_logits", "semantic_probs"


def build(
    options: evaluator_pb2.EvaluatorOptions, classes: MaskClasses
) -> Callable[[Mapping[str, tf.Tensor], mask_merging.Size], SemanticMaps]:
    """The post-processing of models that tell classes alone: no option changes it."""
    del options, classes
    return classify


def classify(maps: Mapping[str, tf.Tensor], size: mask_merging.Size) -> SemanticMaps:
    """Classes and their probabilities at `size` (H, W); the lowest class where several are as probable.

    `maps` has `semantic_probs`, or else `semantic_logits`, [B, h, w, C].
    """
    are_probabilities = PROBABILITIES in maps
    values = maps[PROBABILITIES if are_probabilities else LOGITS]

    def block(pixels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        best = tf.argmax(pixels, axis=-1, output_type=tf.int32)
        if are_probabilities:
            return best, tf.reduce_max(pixels, axis=-1)
        # The largest of the softmax, of which the others are not needed.
        return best, tf.exp(tf.reduce_max(pixels, axis=-1) - tf.reduce_logsumexp(pixels, axis=-1))

    def image(one: tf.Tensor) -> SemanticMaps:
        return SemanticMaps(*mask_merging.by_row_blocks(block, one, size, dtypes=(tf.int32, tf.float32)))

    values = tf.cast(values, tf.float32)
    if values.shape[0] == 1:
        found = SemanticMaps(*(m[tf.newaxis] for m in image(values[0])))
    else:
        found = tf.map_fn(image, values, fn_output_signature=SemanticMaps(tf.int32, tf.float32))
    shape = [values.shape[0], *(tf.get_static_value(side) for side in size)]
    return SemanticMaps(*(tf.ensure_shape(m, shape) for m in found))
