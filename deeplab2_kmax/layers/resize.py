"""Bilinear resizing with aligned corners: output row i samples input row i * (h_in - 1) / (h_out - 1)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def scaled_side(side: int | tf.Tensor, scale: float) -> int | tf.Tensor:
    """A side of something scaled, which keeps sides of the form k * stride + 1: 65 at 0.5 is 33."""
    if isinstance(side, int):
        return int((side - 1) * scale + 1.0)
    return tf.cast(tf.cast(side - 1, tf.float32) * scale + 1.0, tf.int32)


def bilinear(x: tf.Tensor, size: tuple[Any, Any]) -> tf.Tensor:
    """Resizes [B, h, w, C] to `size` (ints or scalar tensors) in the same dtype; the same size changes nothing."""
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    y = tf.raw_ops.ResizeBilinear(images=x, size=tf.stack(size), align_corners=True)
    y = tf.cast(y, x.dtype)
    y.set_shape([x.shape[0]] + [s if isinstance(s, int) else None for s in size] + [x.shape[3]])
    return y
