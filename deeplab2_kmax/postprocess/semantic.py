"""The most probable class of every pixel.

Works on blocks, so that the upsampled logits of a whole image never exist at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from deeplab2_kmax.postprocess import mask_merging, quads
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import MaskClasses, SemanticMaps

LOGITS, PROBABILITIES = "semantic_logits", "semantic_probs"
BLOCK_NUMBERS = 500_000  # values of pixels at borders held at a time
_LEAST_GAIN = 3  # times as many pixels must there be as lie at borders


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
    values = tf.cast(maps[PROBABILITIES if are_probabilities else LOGITS], tf.float32)

    def highest(pixels: tf.Tensor) -> tuple[tf.Tensor]:
        top = tf.reduce_max(pixels, axis=-1)
        # The largest of the softmax, of which the others are not needed.
        return (top if are_probabilities else tf.exp(top - tf.reduce_logsumexp(pixels, axis=-1)),)

    def scores(one: tf.Tensor) -> tf.Tensor:
        return mask_merging.by_row_blocks(highest, one, size, dtypes=(tf.float32,))[0]

    # Apart, so that a graph that asks for no scores does not compute them.
    found = SemanticMaps(
        _each(lambda one: most_probable(one, size), values, tf.int32), _each(scores, values, tf.float32)
    )
    shape = [values.shape[0], *(tf.get_static_value(side) for side in size)]
    return SemanticMaps(*(tf.ensure_shape(m, shape) for m in found))


def most_probable(values: tf.Tensor, size: mask_merging.Size) -> tf.Tensor:
    """The class that is highest in the bilinearly resized values [h, w, C], [H, W] int32; of equal ones the lowest.

    Between four places where one class is the highest it is so everywhere, because bilinear values are means of the
    four: only pixels at borders are computed.
    """
    best = tf.argmax(values, axis=-1, output_type=tf.int32)
    down, across = quads.sides(best, size)
    found, differs = (quads.spread(low, down, across) for low in (best, quads.differ(best)))
    # The first pixel is among them, so that there is one.
    border = tf.concat([[0], tf.cast(tf.where(tf.reshape(differs, [-1]))[:, 0], tf.int32)], axis=0)  # [P]
    flat = tf.reshape(values, [-1, values.shape[-1]])
    width, low_width = tf.shape(found)[1], tf.shape(best)[1]

    def pixels(places: tf.Tensor) -> tf.Tensor:
        y, x = places // width, places % width

        def line(row: tf.Tensor) -> tuple[tf.Tensor, ...]:
            begin = tf.gather(row, y) * low_width
            return tuple(tf.gather(flat, begin + tf.gather(column, x)) for column in (across.before, across.after))

        part = tf.gather(down.part, y)[:, tf.newaxis]
        first, last = (upper * (1.0 - part) + lower * part for upper, lower in zip(line(down.before), line(down.after)))
        between = first + (last - first) * tf.gather(across.part, x)[:, tf.newaxis]
        return tf.argmax(between, axis=-1, output_type=tf.int32)

    def some() -> tf.Tensor:
        count = tf.shape(border)[0]
        block_rows = tf.maximum(1, BLOCK_NUMBERS // values.shape[-1])
        blocks = tf.map_fn(
            # The last block repeats the last pixel, to be as large as the others.
            lambda start: pixels(tf.gather(border, tf.minimum(start + tf.range(block_rows), count - 1))),
            tf.range(0, count, block_rows),
            fn_output_signature=tf.int32,
            parallel_iterations=1 if tf.executing_eagerly() else mask_merging.PARALLEL_BLOCKS,
        )
        made = tf.tensor_scatter_nd_update(
            tf.reshape(found, [-1]), border[:, tf.newaxis], tf.reshape(blocks, [-1])[:count]
        )
        return tf.reshape(made, tf.shape(found))

    def all_pixels() -> tf.Tensor:
        def block(pixels: tf.Tensor) -> tuple[tf.Tensor]:
            return (tf.argmax(pixels, axis=-1, output_type=tf.int32),)

        return mask_merging.by_row_blocks(block, values, size, dtypes=(tf.int32,))[0]

    # Row by row is faster where there is little to leave out.
    return tf.cond(tf.shape(border)[0] * _LEAST_GAIN > tf.size(found), all_pixels, some)


def _each(function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`function` of every image of a batch."""
    if values.shape[0] == 1:
        return function(values[0])[tf.newaxis]
    return tf.map_fn(function, values, fn_output_signature=dtype)
