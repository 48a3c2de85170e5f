"""Instance discrimination: pixels of one mask get similar features, pixels of others different ones.

`to_masks` contrasts pixels with masks (MaX-DeepLab, 2021, arXiv 2012.00759, equation 14), `between_pixels` sampled
pixels with each other (CMT-DeepLab, 2022, arXiv 2206.08948; used by kMaX-DeepLab).
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from deeplab2_kmax.losses import pixelwise
from deeplab2_kmax.matching import similarity

TEMPERATURE = 0.3
_IMPOSSIBLE = -99999.0  # Logit of masks that do not exist.
_ROWS = 1024  # Samples whose products with as many others are computed at a time.


def to_masks(
    features: tf.Tensor,
    rows: tf.Tensor,
    areas: tf.Tensor,
    is_real: tf.Tensor,
    is_thing: tf.Tensor,
    *,
    top_k_percent: float = 1.0,
) -> tf.Tensor:
    """Every thing pixel should be nearest to the mean feature of its own mask.

    Args:
        features: [B, P, D] float32, unit length.
        rows: [B, P] int32, the ground-truth mask of each pixel, -1 for none.
        areas: [B, M] float32, pixels of each ground-truth mask.
        is_real: [B, M] bool, the masks that exist.
        is_thing: [B, P] bool, pixels of instances.
        top_k_percent: the share of the hardest pixels that is kept.

    Returns:
        [B].
    """
    means = similarity.segment_sum(features, rows, areas.shape[1]) / tf.maximum(areas, 1)[..., None]
    centers = tf.math.l2_normalize(means, axis=-1, epsilon=1e-12)
    logits = tf.einsum("bpd,bmd->bpm", features, centers) / TEMPERATURE
    logits = tf.where(is_real[:, None], logits, _IMPOSSIBLE)
    losses = pixelwise.softmax_cross_entropy(logits, tf.where(is_thing, rows, -1), ignore_label=-1)
    return pixelwise.reduce(losses, top_k_percent=top_k_percent)


def between_pixels(features: tf.Tensor, rows: tf.Tensor, num_rows: int, *, top_k_percent: float = 1.0) -> tf.Tensor:
    """Every sampled pixel should be as near to all samples of its own mask, and to no other.

    The cross-entropy to a target that is uniform over the samples of the same mask is a log-sum-exp over all samples
    minus the mean over the mask's, so no [B, k, k] target is ever made.

    Args:
        features: [B, k, D] float32, unit length, those of the sampled pixels.
        rows: [B, k] int32, the ground-truth mask of each sample, -1 for none; those serve as negatives only.
        num_rows: M, more than any row.
        top_k_percent: the share of the hardest samples that is kept.

    Returns:
        [B].
    """
    counts = similarity.segment_sum(tf.ones_like(features[..., :1]), rows, num_rows)
    means = similarity.segment_sum(features, rows, num_rows) / tf.maximum(counts, 1)  # [B, M, D]
    own_mean = tf.gather(means, tf.maximum(rows, 0), batch_dims=1)
    attraction = tf.reduce_sum(features * own_mean, axis=-1) / TEMPERATURE
    losses = (_log_sum_exp_of_products(features) - attraction) * tf.cast(rows >= 0, features.dtype)
    return pixelwise.reduce(losses, top_k_percent=top_k_percent)


@tf.custom_gradient
def _log_sum_exp_of_products(features: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """log(sum_j exp(f_i . f_j / TEMPERATURE)): [B, k, D] -> [B, k], without keeping [B, k, k] for the gradient.

    The products are symmetric, so that blocks on and above the diagonal do, each small enough for the processor's
    cache. For features of unit length their exponentials cannot overflow; what they are divided by keeps them near 1
    for features of any one length.
    """
    # Products are at most the largest square, by Cauchy and Schwarz.
    largest = tf.reduce_max(tf.reduce_sum(features**2, axis=-1), axis=-1)[:, None, None] / TEMPERATURE
    blocks = _split(features)

    scaled = [block / TEMPERATURE for block in blocks]

    def exponentials(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        return tf.exp(tf.matmul(rows, columns, transpose_b=True) - largest)

    sums: list[list[tf.Tensor]] = [[] for _ in blocks]
    for row, column in _upper_triangle(len(blocks)):
        values = exponentials(scaled[row], blocks[column])
        sums[row].append(tf.reduce_sum(values, axis=2))
        if row != column:
            sums[column].append(tf.reduce_sum(values, axis=1))
    result = tf.math.log(tf.concat([tf.add_n(parts) for parts in sums], axis=1)) + largest[..., 0]

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        # The exponentials are computed again, not before they are needed. The other factor is the scaled one, so that
        # graph optimisation does not find the two equal and keep the first ones after all.
        with tf.control_dependencies([upstream]):
            again = [tf.identity(block) for block in blocks]
        # A product counts in the sum of its row and in that of its column.
        shares = _split(upstream * tf.exp(largest[..., 0] - result))
        parts: list[list[tf.Tensor]] = [[] for _ in blocks]
        for row, column in _upper_triangle(len(blocks)):
            weights = exponentials(again[row], scaled[column]) * (shares[row][:, :, None] + shares[column][:, None])
            parts[row].append(tf.matmul(weights, scaled[column]))
            if row != column:
                parts[column].append(tf.matmul(weights, scaled[row], transpose_a=True))
        return tf.concat([tf.add_n(each) for each in parts], axis=1)

    return result, gradient


def _upper_triangle(size: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(size) for column in range(row, size)]


def _split(values: tf.Tensor) -> list[tf.Tensor]:
    """[B, k, ...] as blocks of _ROWS, the last one smaller; as one block if k is unknown."""
    num_rows = values.shape[1]
    if num_rows is None or num_rows <= _ROWS:
        return [values]
    sizes = [_ROWS] * (num_rows // _ROWS) + ([num_rows % _ROWS] if num_rows % _ROWS else [])
    return tf.split(values, sizes, axis=1)
