"""How well every predicted mask fits every ground-truth mask: soft Dice and class probability.

MaX-DeepLab: End-to-End Panoptic Segmentation with Mask Transformers (2021, arXiv 2012.00759), equations 8 and 9.
Ground-truth masks do not overlap, so they come as one map of row numbers instead of M binary masks.
"""

from __future__ import annotations

import tensorflow as tf

_EPSILON = 1e-5


def dice(mask_probabilities: tf.Tensor, rows: tf.Tensor, areas: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Soft Dice of ground-truth and predicted masks.

    Args:
        mask_probabilities: [B, P, N] float32, per pixel a distribution over slots.
        rows: [B, P] int32, the ground-truth mask of each pixel, -1 for none.
        areas: [B, M] float32, pixels of each ground-truth mask.
        counted: [B, P] bool, the pixels that count as area of a predicted mask (those with a label).

    Returns:
        [B, M, N] float32 in [0, 1].
    """
    counted_probabilities = mask_probabilities * tf.cast(counted, mask_probabilities.dtype)[..., None]
    overlaps = segment_sum(counted_probabilities, rows, areas.shape[1])
    predicted_areas = tf.reduce_sum(counted_probabilities, axis=1)
    return overlaps / ((areas[:, :, None] + predicted_areas[:, None, :]) / 2 + _EPSILON)


def class_probability(class_logits: tf.Tensor, class_outputs: tf.Tensor) -> tf.Tensor:
    """The probability that each slot gives to the class of each ground-truth mask.

    Args:
        class_logits: [B, N, K + 1]; void takes part in the soft-max.
        class_outputs: [B, M] int32, for each ground-truth mask the number of its class in the class head.

    Returns:
        [B, M, N] in [0, 1].
    """
    probabilities = tf.transpose(tf.nn.softmax(class_logits), [0, 2, 1])  # [B, K + 1, N]
    return tf.gather(probabilities, class_outputs, batch_dims=1)


def void_ratio(mask_probabilities: tf.Tensor, labelled: tf.Tensor) -> tf.Tensor:
    """The share of each predicted mask that lies on void pixels: [B, P, N], [B, P] bool -> [B, N] in [0, 1]."""
    on_void = tf.reduce_sum(mask_probabilities * tf.cast(~labelled, mask_probabilities.dtype)[..., None], axis=1)
    return on_void / (tf.reduce_sum(mask_probabilities, axis=1) + _EPSILON)


def segment_sum(values: tf.Tensor, segments: tf.Tensor, num_segments: int) -> tf.Tensor:
    """Sums values by segment number, within each example; number -1 is left out.

    [B, P, D], [B, P] int32 -> [B, num_segments, D]. Unlike a product with one-hot segments it needs no
    [B, P, num_segments] tensor.
    """
    batch = tf.shape(values)[0]
    first = tf.range(batch)[:, None] * num_segments
    numbers = tf.where(segments >= 0, segments + first, -1)
    sums = tf.math.unsorted_segment_sum(values, numbers, batch * num_segments)
    return tf.reshape(sums, [batch, num_segments, *values.shape[2:]])
