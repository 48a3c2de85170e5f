"""Resize, crop and pad to the network's input size, and back to the original size.

Sizes follow DeepLab2 to the pixel, in float32: a side can come out one pixel short of its target, and that is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

FILL = 127.5  # what images are padded with: zero after x / 127.5 - 1


class Sides(NamedTuple):
    """Height and width."""

    height: int
    width: int


def parse_sides(values: Sequence[int], name: str) -> Sides | None:
    """A size option: one value means both sides, none or any value <= 0 means not set."""
    values = list(values)
    if len(values) > 2:
        raise ValueError(f"{name}: expected one or two values (height, width), found {values}")
    if not values or min(values) <= 0:
        return None
    return Sides(values[0], values[-1])


def resized_size(
    height: tf.Tensor | int,
    width: tf.Tensor | int,
    *,
    min_size: Sides | None = None,
    max_size: Sides | None = None,
    factor: int = 0,
) -> tf.Tensor:
    """The size [2] int32 (height, width) an image is resized to.

    Args:
        height, width: of the image.
        min_size: enlarge or shrink until both sides reach these, one of them exactly.
        max_size: then shrink until neither side exceeds these.
        factor: > 0: then enlarge each side to a multiple of it plus 1.
    """
    size = tf.cast(tf.stack([height, width]), tf.float32)
    if min_size is not None:
        size = tf.floor(size * tf.reduce_max(tf.constant(min_size, tf.float32) / size))
    if max_size is not None:
        limits = [side - (side - 1) % factor for side in max_size] if factor > 0 else max_size
        scale = tf.minimum(tf.reduce_min(tf.constant(limits, tf.float32) / size), 1.0)
        size = tf.floor(size * scale)
    size = tf.cast(size, tf.int32)
    if factor > 0:
        size += (factor - (size - 1) % factor) % factor
    return size


def resize_image(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Bilinear, corners aligned, no antialiasing: [h, w, C] -> [*size, C] float32."""
    return tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=size, align_corners=True)[0]


def resize_label(label: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Nearest, corners aligned, halves away from zero: [h, w, C] -> [*size, C] of the same type."""
    return tf.raw_ops.ResizeNearestNeighbor(images=label[tf.newaxis], size=size, align_corners=True)[0]


def nearest_index(index: tf.Tensor, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Which of `old` rows (or columns) each of some rows of `resize_label` to `new` rows shows; int32."""
    steps = tf.where(new > 1, tf.cast(old - 1, tf.float32) / tf.cast(tf.maximum(new - 1, 1), tf.float32), 0.0)
    place = tf.cast(index, tf.float32) * steps
    below = tf.floor(place)
    # Halves away from zero, as the kernel does; tf.round would take the even one.
    rounded = tf.cast(below, tf.int32) + tf.cast(place - below >= 0.5, tf.int32)
    return tf.minimum(rounded, old - 1)


def pad(values: tf.Tensor, size: Sides, fill: float, *, offset: tf.Tensor | tuple[int, int] = (0, 0)) -> tf.Tensor:
    """Pads [h, w, C] to at least `size`, with `offset` (y, x) rows and columns before it and the rest after."""
    shape = tf.shape(values)
    before = tf.convert_to_tensor(offset, tf.int32)
    after = tf.maximum(tf.constant(size, tf.int32) - shape[:2], 0) - before
    padding = tf.concat([tf.stack([before, after], axis=1), [[0, 0]]], axis=0)
    # Not tf.pad with a constant: on integers it could not hold the float fill, which is truncated as in DeepLab2.
    padded = tf.pad(values, padding, constant_values=tf.cast(fill, values.dtype))
    padded.set_shape([None, None, values.shape[-1]])
    return padded


def undo(values: tf.Tensor, kept: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Takes predictions back to the raw image: cuts the padding off, then resizes.

    Args:
        values: [B, H, W] or [B, H, W, C]; integers by nearest neighbour, floats bilinearly, corners aligned.
        kept: (height, width) of the resized image inside the padded one, at its top left.
        size: (height, width) of the raw image.
    """
    resize = tf.raw_ops.ResizeNearestNeighbor if values.dtype.is_integer else tf.raw_ops.ResizeBilinear
    flat = values.shape.rank == 3
    values = values[:, : kept[0], : kept[1]]
    values = values[..., tf.newaxis] if flat else values
    resized = resize(images=values, size=tf.convert_to_tensor(size, tf.int32), align_corners=True)
    return resized[..., 0] if flat else resized
