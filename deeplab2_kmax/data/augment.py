"""Random scale, crop and flip. Every draw is a pure function of a seed.

What is drawn is one `Place`, and image, label, depth and further frames are all taken from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deeplab2_kmax.data import preprocess

FLIP_PROBABILITY = 0.5


def scales(low: float, high: float, step: float) -> np.ndarray | None:
    """The scales random scaling chooses from, float32; None: any from `low` to `high`.

    As in DeepLab2 `step` decides how many there are, not their distance: 0.5 to 2 by 0.1 gives 15, 0.107 apart.
    """
    if low <= 0 or low > high:
        raise ValueError(f"min_scale_factor {low} and max_scale_factor {high}: expected 0 < min <= max")
    if step < 0:
        raise ValueError(f"scale_factor_step_size {step}: expected 0 (any scale) or more")
    if low == high:
        return np.asarray([low], np.float32)
    if step == 0:
        return None
    with tf.init_scope():  # a table of constants, even where a graph is being built
        return tf.linspace(tf.constant(low), tf.constant(high), int((high - low) / step + 1)).numpy()


def draw_scale(seed: tf.Tensor, low: float, high: float, step: float) -> tf.Tensor:
    """One scale, float32 scalar."""
    table = scales(low, high, step)
    if table is None:
        return tf.random.stateless_uniform([], seed, low, high)
    return tf.constant(table)[uniform_int(seed, len(table))]


class Place(NamedTuple):
    """Which part of an image a training crop shows. Sizes and places are (height, width) or (y, x), int32 [2].

    The image is resized to `resized`, then to `scaled`; a window of that is cut out and stands at `offset` in the
    crop, the rest of the crop is padding; last the crop is mirrored or not.
    """

    resized: tf.Tensor
    factor: tf.Tensor  # float32, of the random scale
    scaled: tf.Tensor
    begin: tf.Tensor  # of the window
    size: tf.Tensor  # of the window
    offset: tf.Tensor
    mirrored: tf.Tensor  # bool


def draw_place(
    seeds: Sequence[tf.Tensor], resized: tf.Tensor, crop: preprocess.Sides, scale_range: tuple[float, float, float]
) -> Place:
    """Draws scale, padding, crop and flip.

    Args:
        seeds: three, of scale, of padding and crop, of the flip.
        resized: size of the image before it is scaled.
        crop: size of the result. Short sides are padded and long ones cut, both at random places.
        scale_range: lowest, highest, step; see `scales`.
    """
    factor = draw_scale(seeds[0], *scale_range)
    scaled = tf.cast(tf.cast(resized, tf.float32) * factor, tf.int32)  # truncated
    scaled = tf.maximum(tf.where(factor == 1.0, resized, scaled), 1)
    pad_seed, crop_seed = tf.unstack(tf.random.experimental.stateless_split(seeds[1], 2))
    # DeepLab2 never puts all of the padding first, hence missing and not missing + 1 places.
    missing = tf.maximum(tf.constant(crop, tf.int32) - scaled, 0)
    too_long = tf.maximum(scaled - tf.constant(crop, tf.int32), 0)
    return Place(
        resized=resized,
        factor=factor,
        scaled=scaled,
        begin=_uniform_place(crop_seed, too_long + 1),
        size=tf.minimum(scaled, crop),
        offset=_uniform_place(pad_seed, tf.maximum(missing, 1)),
        mirrored=tf.random.stateless_uniform([], seeds[2]) < FLIP_PROBABILITY,
    )


def scale_window(image: tf.Tensor, place: Place, *, margin: tf.Tensor | int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    """The window of the scaled image, with up to `margin` pixels of the image around it.

    Args:
        image: float32 [*place.resized, C].
        margin: int32 scalar, in pixels.

    Returns:
        float32 [h, w, C], and where the window begins in it, [2] int32.
    """
    scaled = tf.cond(place.factor == 1.0, lambda: image, lambda: preprocess.resize_image(image, place.scaled))
    begin = tf.maximum(place.begin - margin, 0)
    end = tf.minimum(place.begin + place.size + margin, place.scaled)
    return scaled[begin[0] : end[0], begin[1] : end[1]], place.begin - begin


def finish(window: tf.Tensor, place: Place, crop: preprocess.Sides, fill: float | int) -> tf.Tensor:
    """Puts the window [h, w, C] into its crop [*crop, C], mirrored where the place says so."""
    window = tf.cond(place.mirrored, lambda: tf.reverse(window, [1]), lambda: window)
    padded = preprocess.pad(window, crop, fill, offset=_final_offset(place, crop))
    return tf.ensure_shape(padded, [*crop, window.shape[-1]])


def take_nearest(values: tf.Tensor, place: Place, crop: preprocess.Sides, fill: float | int) -> tf.Tensor:
    """The crop of a label, depth or normal map [h, w, C]: by nearest neighbour, one pixel read for each one shown."""
    raw = tf.shape(values)[:2]
    for axis in range(2):
        index = place.begin[axis] + tf.range(place.size[axis])
        index = preprocess.nearest_index(index, place.resized[axis], place.scaled[axis])
        index = preprocess.nearest_index(index, raw[axis], place.resized[axis])
        if axis == 1:
            index = tf.cond(place.mirrored, lambda: tf.reverse(index, [0]), lambda: index)  # noqa: B023
        values = tf.gather(values, index, axis=axis)
    padded = preprocess.pad(values, crop, fill, offset=_final_offset(place, crop))
    return tf.ensure_shape(padded, [*crop, values.shape[-1]])


def uniform_int(seed: tf.Tensor, bound: tf.Tensor | int) -> tf.Tensor:
    """One integer, uniform in {0 .. bound - 1}, int32 scalar."""
    return tf.random.stateless_uniform([], seed, minval=0, maxval=bound, dtype=tf.int32)


def _final_offset(place: Place, crop: preprocess.Sides) -> tf.Tensor:
    """Where the window stands in the crop after the flip."""
    y, x = tf.unstack(place.offset)
    return tf.stack([y, tf.where(place.mirrored, crop.width - place.size[1] - x, x)])


def _uniform_place(seed: tf.Tensor, bounds: tf.Tensor) -> tf.Tensor:
    """(y, x) below two bounds."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    return tf.stack([uniform_int(seeds[0], bounds[0]), uniform_int(seeds[1], bounds[1])])
