"""Multi-head attention on a map, over all of it or within windows, with a learned bias by relative position.

As in MOAT (2022, arXiv 2210.01820); windows as in the Swin Transformer (2021, arXiv 2103.14030), without shifts.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, shapes

# Taken from the logits of padded cells: their softmax is 0 exactly.
_MASKED = 1e9


class WindowAttention(keras.layers.Layer):
    """[B, H, W, C] -> [B, H, W, C]: every position attends to those of its window.

    Args:
        window: side of the square windows, which begin at the top left; the ones that the map ends in are masked. 0 is
            one window, the map.
        head_channels: channels of a head; there are C / head_channels heads.
        position_span: side of the window for which the table of position biases is stored; it is resized to the window
            in use. 0: no position bias.

    Raises:
        ValueError: C does not split into heads of `head_channels` evenly, or `window` is negative.
    """

    def __init__(self, *, window: int = 0, head_channels: int = 32, position_span: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if window < 0:
            raise ValueError(f"An attention window has a side of 1 or more, or 0 for the whole map, but got {window}.")
        self.window = window
        self.head_channels = head_channels
        self.position_span = position_span

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = tf.TensorShape(input_shape)[-1]
        if channels % self.head_channels:
            raise ValueError(f"{channels} channels do not split into heads of {self.head_channels} evenly.")
        self.num_heads = channels // self.head_channels
        heads = [self.num_heads, self.head_channels]

        def weight(name: str, shape: list[int], initializer: Any) -> tf.Variable:
            return self.add_weight(
                name, shape=shape, initializer=initializer, dtype="float32", experimental_autocast=False
            )

        for name, inputs, outputs in (
            ("query", [channels], heads),
            ("key", [channels], heads),
            ("value", [channels], heads),
            ("output", heads, [channels]),
        ):
            kernel = weight(f"{name}_weight", inputs + outputs, keras.initializers.RandomNormal(stddev=0.02))
            setattr(self, f"{name}_weight", kernel)
            setattr(self, f"{name}_bias", weight(f"{name}_bias", outputs, "zeros"))
        self.position_bias = None
        if self.position_span:
            side = 2 * self.position_span - 1
            self.position_bias = weight(
                "position_bias", [self.num_heads, side, side], keras.initializers.RandomNormal(stddev=0.02)
            )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        batch, height, width, channels = shapes.of(x)
        side_y, side_x = (self.window, self.window) if self.window else (height, width)
        pad_y, pad_x = -height % side_y, -width % side_x
        rows, columns = (height + pad_y) // side_y, (width + pad_x) // side_x
        if self.window:
            x = tf.pad(x, [[0, 0], [0, pad_y], [0, pad_x], [0, 0]])
        tokens = _split(x, batch, rows, side_y, columns, side_x)  # [B, windows, positions, C]
        q, k, v = (self._heads(tokens, name) for name in ("query", "key", "value"))
        q = q * self.head_channels**-0.5

        logits = tf.cast(tf.einsum("bwlnd,bwmnd->bwnlm", q, k), tf.float32)
        if self.position_bias is not None:
            logits += self._bias(self.position_bias, side_y, side_x)
        if self.window and not (isinstance(pad_y, int) and isinstance(pad_x, int) and pad_y == pad_x == 0):
            real = tf.pad(tf.ones([1, height, width, 1]), [[0, 0], [0, pad_y], [0, pad_x], [0, 0]])
            real = _split(real, 1, rows, side_y, columns, side_x)  # [1, windows, positions, 1]
            logits -= _MASKED * (1.0 - tf.transpose(real, [0, 1, 3, 2])[:, :, tf.newaxis])
        weights = tf.cast(tf.nn.softmax(logits), v.dtype)
        retrieved = tf.einsum("bwnlm,bwmnd->bwlnd", weights, v)

        merged = tf.reshape(retrieved, [batch, rows, columns, side_y, side_x, channels])
        merged = tf.reshape(tf.transpose(merged, [0, 1, 3, 2, 4, 5]), [batch, height + pad_y, width + pad_x, channels])
        kernel = tf.reshape(self.output_weight, [channels, channels])
        return conv.dense(merged[:, :height, :width], kernel, self.output_bias, activations.identity)

    def _heads(self, tokens: tf.Tensor, name: str) -> tf.Tensor:
        """[B, windows, positions, C] -> [B, windows, positions, N, D]."""
        kernel, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        channels = self.num_heads * self.head_channels
        y = conv.dense(tokens, tf.reshape(kernel, [channels, channels]), tf.reshape(bias, [-1]), activations.identity)
        return tf.reshape(y, shapes.of(tokens)[:3] + [self.num_heads, self.head_channels])

    def _bias(self, table: tf.Tensor, height: Any, width: Any) -> tf.Tensor:
        """The bias between all positions of a window, row by row: [N, height * width, height * width] float32.

        From position (i, j) to (y, x) it is entry (y - i, x - j) of the table, counted from its middle.
        """
        stored = 2 * self.position_span - 1
        vertical = _interpolation(2 * height - 1, stored)
        horizontal = _interpolation(2 * width - 1, stored)
        table = tf.einsum("ps,nst,qt->npq", vertical, table, horizontal)
        table = tf.gather(table, _offsets(height), axis=1)  # [N, i, y, 2 width - 1]
        table = tf.gather(table, _offsets(width), axis=3)  # [N, i, y, j, x]
        positions = height * width
        return tf.reshape(tf.transpose(table, [0, 1, 3, 2, 4]), [self.num_heads, positions, positions])


def _split(x: tf.Tensor, batch: Any, rows: Any, height: Any, columns: Any, width: Any) -> tf.Tensor:
    """[B, rows * height, columns * width, C] -> [B, rows * columns, height * width, C]."""
    x = tf.reshape(x, [batch, rows, height, columns, width, x.shape[-1]])
    return tf.reshape(tf.transpose(x, [0, 1, 3, 2, 4, 5]), [batch, rows * columns, height * width, x.shape[-1]])


def _offsets(length: Any) -> tf.Tensor:
    """[length, length]: the offset m - l of positions l and m, as an index that starts at the smallest one."""
    positions = tf.range(length)
    return positions[tf.newaxis, :] - positions[:, tf.newaxis] + length - 1


def _interpolation(size: Any, source: int) -> tf.Tensor:
    """[size, source]: the weights of bilinear resizing with half-pixel centres."""
    centers = (tf.range(size, dtype=tf.float32) + 0.5) * (source / tf.cast(size, tf.float32)) - 0.5
    centers = tf.clip_by_value(centers, 0.0, source - 1.0)
    return tf.nn.relu(1.0 - tf.abs(centers[:, tf.newaxis] - tf.range(source, dtype=tf.float32)))
