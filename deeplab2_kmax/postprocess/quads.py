"""Pixels of an image among the places of a network's coarser grid, whose corners are those of the image.

Between four places that agree there is often nothing to compute: bilinear values are means of the four.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


class Side(NamedTuple):
    """Where the pixels along one side of an image lie on the grid."""

    before: tf.Tensor  # [pixels] int32, the place at or before each
    after: tf.Tensor  # [pixels] int32, the next one; `before` itself on a place
    part: tf.Tensor  # [pixels] float32, how far it is on from the one to the other, below 1
    of_places: tf.Tensor  # [places] int32, the pixel at or before each place
    step: tf.Tensor  # [] float32, pixels from a place to the next; 0 if there is but one place


def side(places: tf.Tensor | int, pixels: tf.Tensor | int) -> Side:
    """One side, in float32 as the resize kernel computes it: the two never disagree between which places a pixel is."""
    gaps, length = tf.cast(places - 1, tf.float32), tf.cast(pixels - 1, tf.float32)
    position = tf.cast(tf.range(pixels), tf.float32) * (gaps / tf.maximum(length, 1.0))
    before = tf.minimum(tf.cast(position, tf.int32), places - 1)
    part = position - tf.cast(before, tf.float32)
    step = length / tf.maximum(gaps, 1.0)
    return Side(
        before=before,
        # On a place itself the next one has no say.
        after=tf.where(part > 0.0, tf.minimum(before + 1, places - 1), before),
        part=part,
        of_places=tf.minimum(tf.cast(tf.cast(tf.range(places), tf.float32) * step, tf.int32), pixels - 1),
        step=step,
    )


def sides(grid: tf.Tensor, size: tuple[Any, Any]) -> tuple[Side, Side]:
    """Both sides of an image of `size` (H, W) on a grid [h, w]."""
    height, width = tf.unstack(tf.shape(grid))
    return side(height, size[0]), side(width, size[1])


def spread(grid: tf.Tensor, y: Side, x: Side) -> tf.Tensor:
    """The value of the place at or before every pixel: [h, w] -> [H, W]."""
    # Whole rows are gathered much faster than single numbers: hence both times along the first axis.
    columns = tf.gather(tf.transpose(grid), x.before)
    return tf.gather(tf.transpose(columns), y.before)


def sample(image: tf.Tensor, y: Side, x: Side) -> tf.Tensor:
    """The value of the pixel at or before every place: [H, W] -> [h, w]."""
    return tf.gather(tf.gather(image, y.of_places), x.of_places, axis=1)


def differ(grid: tf.Tensor) -> tf.Tensor:
    """Whether the four places from each one to the next below and behind have different values: [h, w] bool."""
    padded = tf.pad(grid, [[0, 1], [0, 1]], "SYMMETRIC")
    others = padded[1:, :-1], padded[:-1, 1:], padded[1:, 1:]
    return tf.reduce_any([other != grid for other in others], axis=0)


def around(marks: tf.Tensor) -> tf.Tensor:
    """Marked places and their neighbours, slanting ones too: [h, w] bool."""
    height, width = tf.unstack(tf.shape(marks))
    padded = tf.pad(marks, [[1, 1], [1, 1]])
    return tf.reduce_any([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
