"""Losses of single pixels, and how they become one number per example: the hardest pixels, averaged if not zero.

Keeping the hardest pixels only: The Devil is in the Details (2018, arXiv 1802.05591) and DeeperLab (2019, arXiv
1902.05093).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf


def softmax_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, *, ignore_label: int) -> tf.Tensor:
    """Cross-entropy of every pixel: [..., C] logits, [...] integer labels -> [...] float32, 0 where ignored."""
    kept = labels != ignore_label
    flat = tf.reshape(tf.cast(logits, tf.float32), [-1, logits.shape[-1]])
    losses = tf.reshape(_cross_entropy(flat, tf.reshape(tf.where(kept, labels, 0), [-1])), tf.shape(labels))
    return losses * tf.cast(kept, tf.float32)  # Not tf.where: a NaN must stay visible.


@tf.custom_gradient
def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """[P, C], [P] -> [P], without keeping the [P, C] of TensorFlow's own for the gradient: they are computed again."""
    compute = functools.partial(tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits, labels=labels)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        # Waits for the incoming gradient, or graph optimisation would find the two calls equal.
        with tf.control_dependencies([upstream]):
            again = tf.identity(logits)
        return compute(features=again).backprop * upstream[:, None], None

    return compute(features=logits).loss, gradient


def reduce(losses: tf.Tensor, *, top_k_percent: float = 1.0) -> tf.Tensor:
    """The mean of the losses that are not zero, among the hardest `top_k_percent`: [B, P] -> [B].

    Zero where all are zero. The number of pixels kept, `top_k_percent * P`, is rounded half to even.
    """
    if top_k_percent < 1.0:
        losses = hardest(losses, top_k_percent)
    num_counted = tf.cast(tf.math.count_nonzero(losses, axis=1), losses.dtype)  # A NaN counts: it must stay visible.
    return tf.math.divide_no_nan(tf.reduce_sum(losses, axis=1), num_counted)


def hardest(losses: tf.Tensor, top_k_percent: float) -> tf.Tensor:
    """The largest `round(top_k_percent * P)` of [B, P] losses; a NaN counts as the largest."""
    # In float32, where 0.7 * 425 is exactly half-way, as in DeepLab2.
    if losses.shape[1] is None:
        num_kept = tf.cast(tf.round(top_k_percent * tf.cast(tf.shape(losses)[1], tf.float32)), tf.int32)
    else:
        num_kept = int(np.round(np.float32(top_k_percent) * np.float32(losses.shape[1])))
    ranks = tf.where(tf.math.is_nan(losses), np.inf, tf.stop_gradient(losses))
    return tf.gather(losses, tf.math.top_k(ranks, num_kept, sorted=False).indices, batch_dims=1)
