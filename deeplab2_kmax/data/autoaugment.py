"""Named augmentation policies of colour operations.

AutoAugment: Learning Augmentation Policies from Data (2019, arXiv 1805.09501). The operations follow DeepLab2's to the
grey level, its oddities included (the constant of `contrast`). Geometry and labels are untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf

from deeplab2_kmax import registry
from deeplab2_kmax.data import augment

# One (operation, probability, level).
Choice = tuple[str, float, float]

_SIMPLE: tuple[tuple[Choice, Choice], ...] = (
    (("Sharpness", 0.4, 7), ("Brightness", 0.2, 10)),
    (("Equalize", 0.0, 9), ("Contrast", 0.2, 10)),
    (("Sharpness", 0.2, 9), ("Color", 0.2, 9)),
    (("Solarize", 0.2, 7), ("Equalize", 0.6, 9)),
    (("Sharpness", 0.2, 1), ("Equalize", 0.2, 7)),
)


def _scaled(policy: Sequence[tuple[Choice, Choice]], factor: float) -> tuple[tuple[Choice, Choice], ...]:
    """The policy at other levels. Small levels are not mild: level 5 is the identity of the blending operations."""
    return tuple(tuple((name, chance, level * factor) for name, chance, level in pair) for pair in policy)  # type: ignore[misc]


POLICIES = {
    "simple_classification_policy": _SIMPLE,
    "simple_classification_policy_magnitude_scale_0.2": _scaled(_SIMPLE, 0.2),
}


def policy(name: str) -> Callable[..., tf.Tensor]:
    """The policy of that name: `apply(image [h, w, 3] uint8, seed=) -> image`.

    One pair of operations is drawn; both run in order, each with its own probability.
    """
    pairs = registry.lookup(POLICIES, name, "autoaugment policy")

    def run(image: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
        pair_seed, chance_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        pair = augment.uniform_int(pair_seed, len(pairs))
        chances = tf.random.stateless_uniform([2], chance_seed)
        for position in range(2):
            choices = [choice[position] for choice in pairs]
            probability = tf.constant([probability for _, probability, _ in choices])[pair]
            branches = [partial(apply, image, operation, level) for operation, _, level in choices]
            branch = tf.where(chances[position] < probability, pair, len(pairs))
            image = tf.switch_case(branch, [*branches, partial(tf.identity, image)])
        return image

    return run


def apply(image: tf.Tensor, operation: str, level: float) -> tf.Tensor:
    """One operation at a level from 0 to 10: uint8 [h, w, 3] -> the same."""
    result = registry.lookup(OPERATIONS, operation, "colour operation")(image, level)
    result.set_shape(image.shape)
    return result


def _auto_contrast(image: tf.Tensor, level: float) -> tf.Tensor:
    del level
    values = tf.cast(image, tf.float32)
    low, high = tf.reduce_min(values, axis=(0, 1)), tf.reduce_max(values, axis=(0, 1))
    factor = 255.0 / tf.maximum(high - low, 1.0)
    stretched = tf.cast(tf.clip_by_value(values * factor - low * factor, 0.0, 255.0), tf.uint8)
    return tf.where(high > low, stretched, image)


def _equalize(image: tf.Tensor, level: float) -> tf.Tensor:
    del level
    channels = tf.range(3)
    values = tf.cast(image, tf.int32)
    bins = values + channels * 256
    histogram = tf.reshape(tf.math.bincount(tf.reshape(bins, [-1]), minlength=768, maxlength=768), [3, 256])
    last = tf.gather_nd(
        histogram, tf.stack([channels, tf.reduce_max(values, axis=(0, 1))], axis=1)
    )  # the last not empty
    step = ((tf.reduce_sum(histogram, axis=1) - last) // 255)[:, tf.newaxis]
    table = (tf.cumsum(histogram, axis=1, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.concat([tf.zeros([3, 1], tf.int32), tf.clip_by_value(table[:, 1:], 0, 255)], axis=1)
    table = tf.where(step == 0, tf.range(256), table)
    return tf.gather(tf.cast(tf.reshape(table, [-1]), tf.uint8), bins)


def _invert(image: tf.Tensor, level: float) -> tf.Tensor:
    del level
    return 255 - image


def _posterize(image: tf.Tensor, level: float) -> tf.Tensor:
    shift = tf.constant(8 - int(level / 10 * 4), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def _solarize(image: tf.Tensor, level: float) -> tf.Tensor:
    return tf.where(tf.cast(image, tf.int32) < int(level / 10 * 256), image, 255 - image)


def _color(image: tf.Tensor, level: float) -> tf.Tensor:
    gray = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
    return _blend(gray, image, _factor(level))


def _contrast(image: tf.Tensor, level: float) -> tf.Tensor:
    # DeepLab2 averages the counts of the grey histogram and not the grey values, so the image's size decides.
    pixels = tf.cast(tf.shape(image)[0] * tf.shape(image)[1], tf.float32)
    constant = tf.cast(tf.minimum(pixels / 256.0, 255.0), tf.uint8)
    return _blend(tf.zeros_like(image) + constant, image, _factor(level))


def _brightness(image: tf.Tensor, level: float) -> tf.Tensor:
    return _blend(tf.zeros_like(image), image, _factor(level))


def _sharpness(image: tf.Tensor, level: float) -> tf.Tensor:
    values = tf.cast(image, tf.float32)[tf.newaxis]
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13.0
    kernel = tf.tile(kernel[:, :, tf.newaxis, tf.newaxis], [1, 1, 3, 1])
    smooth = tf.nn.depthwise_conv2d(values, kernel, strides=[1, 1, 1, 1], padding="VALID")[0]
    smooth = tf.cast(tf.clip_by_value(smooth, 0.0, 255.0), tf.uint8)
    inside = tf.pad(tf.ones_like(smooth, tf.bool), [[1, 1], [1, 1], [0, 0]])
    return _blend(tf.where(inside, tf.pad(smooth, [[1, 1], [1, 1], [0, 0]]), image), image, _factor(level))


def _factor(level: float) -> float:
    return level / 10 * 1.8 + 0.1


def _blend(first: tf.Tensor, second: tf.Tensor, factor: float) -> tf.Tensor:
    """first + factor * (second - first), truncated to uint8."""
    if factor == 0.0:
        return first
    if factor == 1.0:
        return second
    first, second = tf.cast(first, tf.float32), tf.cast(second, tf.float32)
    mixed = first + factor * (second - first)
    return tf.cast(tf.clip_by_value(mixed, 0.0, 255.0) if factor > 1.0 else mixed, tf.uint8)


OPERATIONS: dict[str, Callable[[tf.Tensor, float], tf.Tensor]] = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
}
