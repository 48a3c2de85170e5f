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
        features: [B, k, D] float32, those of the sampled pixels.
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
    """log(sum_j exp(f_i . f_j / TEMPERATURE)): [B, k, D] -> [B, k], without keeping [B, k, k] for the gradient."""

    # The gradient computes the products again. It scales the other factor, so that graph optimisation does not find
    # the two equal and keep the first ones after all.
    scaled = features / TEMPERATURE
    result = tf.reduce_logsumexp(tf.matmul(features, scaled, transpose_b=True), axis=-1)

    def gradient(upstream):
        shares = tf.exp(tf.matmul(scaled, features, transpose_b=True) - result[..., None])
        shares *= (upstream / TEMPERATURE)[..., None]
        return tf.matmul(shares, features) + tf.matmul(shares, features, transpose_a=True)

    return result, gradient
