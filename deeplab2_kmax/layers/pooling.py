"""Means over windows of maps whose size is known only when they are there."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax.layers import resize, shapes


def window_means(
    x: tf.Tensor, window: tuple[int, int] | None, *, scale: float = 1.0, steps: tuple[int, int] = (1, 1)
) -> tf.Tensor:
    """Means of [B, h, w, C] over the places where a window fits, from the top left in `steps`: [B, rows, columns, C].

    Args:
        x: the map.
        window: height and width in cells; a side longer than the map is the map's. None: the whole map.
        scale: of the images; that of the window follows, by `resize.scaled_side`.
        steps: down and right, in cells.
    """
    if window is not None:
        window = (resize.scaled_side(window[0], scale), resize.scaled_side(window[1], scale))
    if window is None or _covers(window, (shapes.of(x)[1], shapes.of(x)[2])):
        return tf.reduce_mean(x, [1, 2], keepdims=True)
    # Differences of running sums, because the size of a pooling operation cannot depend on the map.
    y = tf.cast(x, tf.float32)
    for axis, side in zip((1, 2), window):
        side = tf.minimum(side, tf.shape(y)[axis])
        sums = tf.cumsum(y, axis)
        sums = tf.pad(sums, [[0, 0]] + [[int(other == axis), 0] for other in (1, 2)] + [[0, 0]])
        ends, starts = (sums[:, side:], sums[:, :-side]) if axis == 1 else (sums[:, :, side:], sums[:, :, :-side])
        y = (ends - starts) / tf.cast(side, tf.float32)
    y = y if steps == (1, 1) else y[:, :: steps[0], :: steps[1]]
    return tf.cast(tf.ensure_shape(y, [x.shape[0], None, None, x.shape[3]]), x.dtype)


def _covers(window: tuple[int, int], size: tuple[Any, Any]) -> bool:
    return all(isinstance(side, int) and side <= length for side, length in zip(size, window))
