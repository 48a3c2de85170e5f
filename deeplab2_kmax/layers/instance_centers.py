"""Where the instances of a label map are, and heat maps of such places.

A target of training (Panoptic-DeepLab, 2020, arXiv 1911.10194) and, in inference, what a tracker hands on to the next
frame (Motion-DeepLab, 2021, arXiv 2102.11859): both must be the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Places(NamedTuple):
    """Where segments are. S segments."""

    means: tf.Tensor  # [S, 2] float32, (y, x)
    highest: tf.Tensor  # [S, 2] int32, row and column
    lowest: tf.Tensor  # [S, 2] int32, row and column


def places(index: tf.Tensor, areas: tf.Tensor, wanted: tf.Tensor) -> Places:
    """The means and the boxes of the wanted segments; numbers of the others mean nothing.

    Args:
        index: [H, W] int32, segment of each pixel.
        areas: [S] int32, pixels of each segment.
        wanted: [S] bool.
    """
    width = tf.shape(index)[1]
    flat = tf.reshape(index, [-1])
    # Instances cover a part of the image: the rest is left out before reducing.
    pixels = tf.cast(tf.where(tf.gather(wanted, flat))[:, 0], tf.int32)
    flat = tf.gather(flat, pixels)
    # A centre is the mean over all pixels in float32: sums of integers are exact, also of megapixels.
    found = tf.stack([pixels // width, pixels % width], axis=1)
    count = tf.size(areas)
    sums = tf.math.unsorted_segment_sum(tf.cast(found, tf.int64), flat, count)
    return Places(
        means=tf.cast(sums / tf.cast(tf.maximum(areas, 1), tf.int64)[:, tf.newaxis], tf.float32),
        highest=tf.math.unsorted_segment_max(found, flat, count),
        lowest=tf.math.unsorted_segment_min(found, flat, count),
    )


def heatmap(points: tf.Tensor, size: tf.Tensor, *, sigma: float, static: tf.TensorShape | None = None) -> tf.Tensor:
    """The highest of the Gaussians around `points` [I, 2], inside squares of half-width 3 sigma + 1, else 0: [H, W]."""
    side = int(6 * sigma + 3)
    reach = tf.constant(np.arange(side) - (3 * sigma + 1), tf.float32)
    gaussian = tf.exp(-(reach[:, tf.newaxis] ** 2 + reach**2) / (2.0 * sigma**2))
    margin = int(3 * sigma + 1)
    # A frame of `side` pixels around the map takes what hangs over its border.
    padded = size + 2 * side
    corners = tf.cast(points, tf.int32) - margin + side  # [I, 2]

    around = tf.stack(tf.meshgrid(tf.range(side), tf.range(side), indexing="ij"), axis=-1)
    flat = (corners[:, tf.newaxis, tf.newaxis] + around) * tf.stack([padded[1], 1])  # [I, side, side, 2]
    index = tf.reshape(tf.reduce_sum(flat, axis=-1), [-1])
    values = tf.reshape(tf.tile(gaussian[tf.newaxis], [tf.shape(corners)[0], 1, 1]), [-1])
    canvas = tf.tensor_scatter_nd_max(tf.zeros([tf.reduce_prod(padded)]), index[:, tf.newaxis], values)
    canvas = tf.reshape(canvas, padded)[side : side + size[0], side : side + size[1]]
    return canvas if static is None else tf.ensure_shape(canvas, static)
