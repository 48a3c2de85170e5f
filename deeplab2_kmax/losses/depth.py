"""The loss of depth: scale-invariant logarithmic error and relative squared error (ViP-DeepLab, 2021, 2012.05258)."""

from __future__ import annotations

import tensorflow as tf

_LEAST_DEPTH = 1e-6  # of predictions, metres: where the logarithm ends


def depth_loss(depth: tf.Tensor, target: tf.Tensor, *, ignore_depth: float = 0.0) -> tf.Tensor:
    """Predicted and true depth [B, P] in metres -> [B]; 0 where no pixel has a true one.

    mean(d^2) - mean(d)^2 + sqrt(mean((error / true)^2)) with d the difference of logarithms.
    """
    known = target != ignore_depth
    weights = tf.cast(known, tf.float32)
    count = tf.reduce_sum(weights, axis=1)
    target = tf.where(known, tf.cast(target, tf.float32), 1.0)
    depth = tf.cast(depth, tf.float32)

    def mean(values: tf.Tensor) -> tf.Tensor:
        return tf.math.divide_no_nan(tf.reduce_sum(values * weights, axis=1), count)

    away = tf.math.log(target) - tf.math.log(tf.maximum(depth, _LEAST_DEPTH))
    relative = mean(tf.square((target - depth) / target))
    # The root's slope is infinite at 0, which is where nothing is known or all is right.
    root = tf.where(relative > 0.0, tf.sqrt(tf.where(relative > 0.0, relative, 1.0)), 0.0 * relative)
    return mean(tf.square(away)) - tf.square(mean(away)) + root
