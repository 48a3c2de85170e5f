"""Targets of geometry: metres and surface normals, and what a resize of the image means for them."""

from __future__ import annotations

import tensorflow as tf

STEPS_PER_METRE = 256.0  # of a stored depth


def metres(depth: tf.Tensor) -> tf.Tensor:
    """Stored steps int32 -> metres float32."""
    return tf.cast(depth, tf.float32) / STEPS_PER_METRE


def scale_depth(depth: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Enlarging an image by `factor` brings the scene as much closer: stored steps, truncated."""
    return tf.cast(tf.cast(depth, tf.float32) / factor, tf.int32)


def scale_normals(normals: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """The same for normals [H, W, 3]: depth shrinks by `factor`, so their third component grows, at length 1."""
    return tf.math.l2_normalize(normals * tf.stack([1.0, 1.0, factor]), axis=-1)


def flip_normals(normals: tf.Tensor) -> tf.Tensor:
    """Of a mirrored image: x, the first component, points the other way."""
    return normals * tf.constant([-1.0, 1.0, 1.0])
