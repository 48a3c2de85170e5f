"""The location of clusters in CMT-DeepLab (2022, arXiv 2206.08948): coordinates, and a soft elliptic mask per cluster.

A reference [..., 4] is (x, y, log sx, log sy): the sigmoids of x and y are the centre, in shares of the image's width
and height, and sx and sy are standard deviations in the same units. All 0 is a wide mask in the middle.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Standard deviations stay between about 1/150 and 20 sides of the image; beyond that no gradient passes.
_LOG_EXTENTS = (-5.0, 3.0)


def coordinates(height: Any, width: Any) -> tf.Tensor:
    """Where the points of a grid are, x before y, corners at 0 and 1: [height, width, 2] float32."""
    x, y = tf.meshgrid(_axis(width), _axis(height))
    return tf.stack([x, y], axis=-1)


def centers(references: tf.Tensor) -> tf.Tensor:
    """The centres, x before y, of references [B, N, 4]: [B, N, 2]."""
    return tf.sigmoid(references[..., :2])


def log_gaussian(references: tf.Tensor, height: Any, width: Any) -> tf.Tensor:
    """The logarithm of every reference's mask: [B, N, 4] -> [B, height, width, N] float32, at most 0."""
    references = tf.cast(references, tf.float32)
    precisions = tf.exp(-2.0 * tf.clip_by_value(references[..., 2:], *_LOG_EXTENTS))
    center = centers(references)
    of_columns, of_rows = (
        -0.5
        * tf.square(axis[tf.newaxis, :, tf.newaxis] - center[:, tf.newaxis, :, i])
        * precisions[:, tf.newaxis, :, i]
        for i, axis in enumerate((_axis(width), _axis(height)))
    )
    return of_rows[:, :, tf.newaxis] + of_columns[:, tf.newaxis]


def _axis(size: Any) -> tf.Tensor:
    points = tf.cast(tf.range(size), tf.float32)
    return points / tf.cast(tf.maximum(size - 1, 1), tf.float32)
