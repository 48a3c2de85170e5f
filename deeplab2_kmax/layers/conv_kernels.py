"""Plain convolutions whose gradients are fast on processors; forward numbers are those of TensorFlow's operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax.layers import shapes


def depthwise(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A plain depthwise convolution with an odd kernel; on processors its kernel's gradient is a convolution too.

    TensorFlow's own operation for that gradient takes five to ten times as long there, more in bfloat16.
    """
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME")

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_x = tf.nn.depthwise_conv2d_backprop_input(tf.shape(x), kernel, upstream, [1, 1, 1, 1], "SAME")
            return of_x, _correlation(x, upstream, kernel.shape[0])

        return tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME"), gradient

    return convolve(x, kernel)


def is_wide(size: Sequence[int | None], dilation: int) -> bool:
    """Whether most taps of a kernel with this dilation meet little of a map of this size."""
    known = [side for side in size if side is not None]
    return dilation > 1 and len(known) == len(size) and 4 * dilation >= min(known)


def sum_of_taps(x: tf.Tensor, kernel: tf.Tensor, dilation: int) -> tf.Tensor:
    """A dilated convolution of a map of known size: a product for each tap, with the part of the map that it meets."""
    size, channels, filters = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    height, width = x.shape[1:3]
    parts = []
    # Unstacked, because the gradient of a slice would be a whole kernel for each.
    for index, tap in enumerate(tf.unstack(tf.reshape(kernel, [size * size, 1, 1, channels, filters]))):
        down, right = ((place - size // 2) * dilation for place in divmod(index, size))
        if abs(down) >= height or abs(right) >= width:
            continue
        part = x[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
        part = tf.nn.conv2d(part, tap, 1, "VALID")
        around = [[max(-shift, 0), max(shift, 0)] for shift in (down, right)]
        parts.append(tf.pad(part, [[0, 0], *around, [0, 0]]))
    return tf.add_n(parts)


def _correlation(x: tf.Tensor, y: tf.Tensor, size: int) -> tf.Tensor:
    """[size, size, C, 1]: sums of x times y over all positions, x moved by up to size // 2. Both [B, H, W, C]."""
    batch, height, width, channels = shapes.of(x)
    reach = size // 2
    # The images one below the other, so far apart that they do not meet.
    x = tf.pad(x, [[0, 0], [reach, reach], [reach, reach], [0, 0]])
    x = tf.reshape(x, [1, batch * (height + 2 * reach), width + 2 * reach, channels])
    y = tf.reshape(tf.pad(y, [[0, 0], [0, 2 * reach], [0, 0], [0, 0]]), [-1, width, channels, 1])
    y = y[: batch * (height + 2 * reach) - 2 * reach]
    return tf.reshape(tf.nn.depthwise_conv2d(x, y, [1, 1, 1, 1], "VALID"), [size, size, channels, 1])
