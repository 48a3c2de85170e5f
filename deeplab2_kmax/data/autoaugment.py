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


class Policy:
    """Pairs of operations. One pair is drawn; both run in order, each with its own probability."""

    # How many pixels around a pixel can change what the operations of a pair make of it (unless they need the whole).
    MARGIN = 2

    def __init__(self, pairs: Sequence[tuple[Choice, Choice]]):
        self._pairs = pairs

    def draw(self, seed: tf.Tensor) -> tf.Tensor:
        """What will run, [2] int32: for both positions the number of the pair, or of no pair."""
        pair_seed, chance_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        pair = augment.uniform_int(pair_seed, len(self._pairs))
        chances = tf.random.stateless_uniform([2], chance_seed)
        probabilities = tf.constant([[probability for _, probability, _ in choices] for choices in self._pairs])[pair]
        return tf.where(chances < probabilities, pair, len(self._pairs))

    def needs_whole(self, drawn: tf.Tensor) -> tf.Tensor:
        """Whether an operation drawn looks at the whole image, bool: then a part of it would come out differently."""
        table = [[operation in _NEEDS_WHOLE for operation, _, _ in choices] for choices in [*zip(*self._pairs)]]
        table = tf.constant([[*row, False] for row in table])
        return table[0, drawn[0]] | table[1, drawn[1]]

    def apply(self, image: tf.Tensor, drawn: tf.Tensor, *, num_pixels: tf.Tensor | None = None) -> tf.Tensor:
        """Runs what was drawn on uint8 [h, w, 3], which may be a part of an image of `num_pixels` pixels."""
        for position in range(2):
            branches = [
                partial(apply, image, operation, level, num_pixels=num_pixels)
                for operation, _, level in (choices[position] for choices in self._pairs)
            ]
            image = tf.switch_case(drawn[position], [*branches, partial(tf.identity, image)])
        return image


def policy(name: str) -> Policy:
    """The policy of that name."""
    return Policy(registry.lookup(POLICIES, name, "autoaugment policy"))


def apply(image: tf.Tensor, operation: str, level: float, *, num_pixels: tf.Tensor | None = None) -> tf.Tensor:
    """One operation at a level from 0 to 10: uint8 [h, w, 3] -> the same.

    Args:
        num_pixels: of the whole image, where only a part is given; `Contrast` depends on it.
    """
    function = registry.lookup(OPERATIONS, operation, "colour operation")
    result = _contrast(image, level, num_pixels) if operation == "Contrast" else function(image, level)
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
    channels, width = tf.range(3), tf.shape(image)[1]
    values = tf.cast(image, tf.int32)
    # Offsets of a whole row: adding three numbers over the last axis is far slower.
    bins = values + tf.reshape(tf.tile(channels * 256, [width]), [width, 3])
    histogram = tf.reshape(tf.math.bincount(tf.reshape(bins, [-1]), minlength=768, maxlength=768), [3, 256])
    highest = tf.reduce_max(tf.where(histogram > 0, tf.range(256), 0), axis=1)
    last = tf.gather_nd(histogram, tf.stack([channels, highest], axis=1))  # the last not empty
    step = ((tf.reduce_sum(histogram, axis=1) - last) // 255)[:, tf.newaxis]
    table = (tf.cumsum(histogram, axis=1, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.concat([tf.zeros([3, 1], tf.int32), tf.clip_by_value(table[:, 1:], 0, 255)], axis=1)
    table = tf.where(step == 0, tf.range(256), table)
    return tf.gather_nd(tf.cast(tf.reshape(table, [-1]), tf.uint8), bins[..., tf.newaxis])


def _invert(image: tf.Tensor, level: float) -> tf.Tensor:
    del level
    return 255 - image


def _posterize(image: tf.Tensor, level: float) -> tf.Tensor:
    shift = tf.constant(8 - int(level / 10 * 4), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def _solarize(image: tf.Tensor, level: float) -> tf.Tensor:
    threshold = int(level / 10 * 256)
    if threshold > 255:
        return image
    return tf.bitwise.bitwise_xor(image, tf.cast(image >= tf.constant(threshold, tf.uint8), tf.uint8) * 255)


def _color(image: tf.Tensor, level: float) -> tf.Tensor:
    gray = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
    return _blend(gray, image, _factor(level))


def _contrast(image: tf.Tensor, level: float, num_pixels: tf.Tensor | None = None) -> tf.Tensor:
    # DeepLab2 averages the counts of the grey histogram and not the grey values, so the image's size decides.
    if num_pixels is None:
        num_pixels = tf.shape(image)[0] * tf.shape(image)[1]
    constant = tf.cast(tf.minimum(tf.cast(num_pixels, tf.float32) / 256.0, 255.0), tf.uint8)
    return _blend(constant, image, _factor(level))


def _brightness(image: tf.Tensor, level: float) -> tf.Tensor:
    return _blend(tf.constant(0, tf.uint8), image, _factor(level))


def _sharpness(image: tf.Tensor, level: float) -> tf.Tensor:
    """Blends with [1 1 1; 1 5 1; 1 1 1] / 13; the border of the image stays as it is."""
    values = tf.cast(image, tf.int16)
    rows = values[:-2] + values[1:-1] + values[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * values[1:-1, 1:-1]
    smooth = tf.cast(tf.cast(total, tf.float32) / 13.0, tf.uint8)
    inner = _blend(smooth, image[1:-1, 1:-1], _factor(level))
    return tf.concat([image[:1], tf.concat([image[1:-1, :1], inner, image[1:-1, -1:]], axis=1), image[-1:]], axis=0)


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
_NEEDS_WHOLE = ("AutoContrast", "Equalize")
