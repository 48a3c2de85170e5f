"""Random scale, crop and flip of an image and its label. Every draw is a pure function of a seed."""

from __future__ import annotations

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


def scale(image: tf.Tensor, label: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes float32 [h, w, 3] and int32 [h, w, 1] by one factor; sides are truncated."""
    size = tf.cast(tf.cast(tf.shape(image)[:2], tf.float32) * factor, tf.int32)
    return tf.cond(
        factor == 1.0,
        lambda: (image, label),
        lambda: (preprocess.resize_image(image, size), preprocess.resize_label(label, size)),
    )


def pad_and_crop(
    image: tf.Tensor, label: tf.Tensor, size: preprocess.Sides, *, seed: tf.Tensor, label_fill: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pads short sides and cuts long ones, both at random places, to exactly `size`."""
    pad_seed, crop_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    wanted = tf.constant(size, tf.int32)
    missing = tf.maximum(wanted - tf.shape(image)[:2], 0)
    # DeepLab2 never puts all of the padding first, hence missing and not missing + 1 places.
    offset = _uniform_place(pad_seed, tf.maximum(missing, 1))
    image = preprocess.pad(image, size, preprocess.FILL, offset=offset)
    label = preprocess.pad(label, size, label_fill, offset=offset)
    y, x = tf.unstack(_uniform_place(crop_seed, tf.shape(image)[:2] - wanted + 1))
    image = image[y : y + size.height, x : x + size.width]
    label = label[y : y + size.height, x : x + size.width]
    return tf.ensure_shape(image, [*size, 3]), tf.ensure_shape(label, [*size, 1])


def flip(image: tf.Tensor, label: tf.Tensor, *, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors left and right with probability 0.5."""
    mirrored = tf.random.stateless_uniform([], seed) < FLIP_PROBABILITY
    return tf.cond(mirrored, lambda: (tf.reverse(image, [1]), tf.reverse(label, [1])), lambda: (image, label))


def uniform_int(seed: tf.Tensor, bound: tf.Tensor | int) -> tf.Tensor:
    """One integer, uniform in {0 .. bound - 1}, int32 scalar."""
    return tf.random.stateless_uniform([], seed, minval=0, maxval=bound, dtype=tf.int32)


def _uniform_place(seed: tf.Tensor, bounds: tf.Tensor) -> tf.Tensor:
    """(y, x) below two bounds."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    return tf.stack([uniform_int(seeds[0], bounds[0]), uniform_int(seeds[1], bounds[1])])
