"""Random brightness, contrast, saturation, hue and blur: every draw a pure function of a seed."""

from __future__ import annotations

import functools
import importlib
import types
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deeplab2_kmax.protos import dataset_pb2

BLUR_PROBABILITY = 0.5


class ColorJitter(NamedTuple):
    """Strengths, see ColorJitterOptions in protos/dataset.proto; the operations run in the order of the fields."""

    probability: float = 0.8
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur_sigma: float = 0.0

    def draw(self, seed: tf.Tensor) -> tf.Tensor:
        """What will happen, [5] float32: three factors, a part of the circle, and whether to blur."""
        draws = tf.random.stateless_uniform([6], seed)
        strengths = [self.brightness, self.contrast, self.saturation]
        low = tf.constant([max(1 - strength, 0.0) for strength in strengths])
        high = tf.constant([1 + strength for strength in strengths])
        factors = low + draws[:3] * (high - low)
        hue = (2.0 * draws[3] - 1.0) * self.hue
        blurred = tf.cast(draws[4] < BLUR_PROBABILITY, tf.float32)
        none = tf.constant([1.0, 1.0, 1.0, 0.0, 0.0])
        return tf.where(draws[5] < self.probability, tf.concat([factors, [hue, blurred]], axis=0), none)

    def apply(self, image: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        """Changes the colours of float32 [h, w, 3], 0..255, as drawn."""
        brightness, contrast, saturation, hue, blurred = tf.unstack(drawn)
        if self.brightness:
            image = _clip(image * brightness)
        if self.contrast:
            image = _clip(_mix(tf.reduce_mean(tf.image.rgb_to_grayscale(image)), image, contrast))
        if self.saturation:
            image = _clip(_mix(tf.image.rgb_to_grayscale(image), image, saturation))
        if self.hue:
            image = tf.image.adjust_hue(image / 255.0, hue) * 255.0
        if self.blur_sigma:
            image = tf.cond(blurred > 0.0, lambda: blur(image, self.blur_sigma), lambda: image)
        return image


def build(options: dataset_pb2.DatasetOptions.ColorJitterOptions) -> ColorJitter:
    """The jitter of a config.

    Raises:
        ValueError: a strength out of range.
    """
    jitter = ColorJitter(*(getattr(options, name) for name in ColorJitter._fields))
    limits = {"probability": 1.0, "hue": 0.5}
    for name, value in jitter._asdict().items():
        if not 0.0 <= value <= limits.get(name, float("inf")):
            expected = f"0 to {limits[name]:g}" if name in limits else "0 or more"
            raise ValueError(f"color_jitter.{name}: expected {expected}, found {value:g}")
    return jitter


def blur(image: tf.Tensor, sigma: float) -> tf.Tensor:
    """Gaussian blur of float32 [h, w, 3], cut off beyond 3 sigma; the image is mirrored at its borders.

    tensorflow-addons does it where it can be imported; where not, `plain_blur` gives the same.
    """
    addons = _addons()
    if addons is None:
        return plain_blur(image, sigma)
    side = 2 * _radius(sigma) + 1
    return tf.ensure_shape(addons.image.gaussian_filter2d(image, (side, side), float(sigma)), image.shape)


def plain_blur(image: tf.Tensor, sigma: float) -> tf.Tensor:
    """`blur` with TensorFlow alone: one pass over the columns, one over the rows."""
    radius = _radius(sigma)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2.0 * sigma**2))
    kernel = np.tile((weights / weights.sum()).astype(np.float32)[:, None, None, None], [1, 1, 3, 1])
    padded = tf.pad(image, [[radius, radius], [radius, radius], [0, 0]], mode="REFLECT")[tf.newaxis]
    for axis in (0, 1):
        one = tf.constant(np.moveaxis(kernel, 0, axis))
        padded = tf.nn.depthwise_conv2d(padded, one, strides=[1, 1, 1, 1], padding="VALID")
    return tf.ensure_shape(padded[0], image.shape)


@functools.cache
def _addons() -> types.ModuleType | None:
    try:
        return importlib.import_module("tensorflow_addons")
    except Exception:  # noqa: BLE001 - not installed, or one that does not fit this TensorFlow: many kinds of error
        return None


def _radius(sigma: float) -> int:
    return int(np.ceil(3 * sigma))


def _mix(first: tf.Tensor, second: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return first + factor * (second - first)


def _clip(image: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(image, 0.0, 255.0)
