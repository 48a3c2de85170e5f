"""Angles between predicted and true surface normals.

"PolyMaX: General Dense Prediction with Mask Transformer", Yang et al., 2023, arXiv 2311.05770.
"""

from __future__ import annotations

import math

import tensorflow as tf

from evaluation import additive

THRESHOLDS = (11.25, 22.5, 30.0)  # degrees
_BINS_PER_DEGREE = 100
_NUM_BINS = 180 * _BINS_PER_DEGREE


class SurfaceNormalErrors(additive.AdditiveMetric):
    """Mean, median and root mean square of the angle, and shares of small angles, over all known pixels of all images.

    The median comes from a histogram with bins of 0.01 degrees. Vectors may have any length; a true one of length 0
    is unknown. An image is left out if a prediction at a known pixel has length 0 or is not finite; the result
    `not_finite` counts such images.
    """

    def __init__(self, *, name: str = "surface_normal_errors"):
        """Makes the metric."""
        super().__init__(name=name)
        self.histogram = self.add_total("histogram", (_NUM_BINS,))
        self.angle_sums = self.add_total("angle_sums", (2,))  # of the angle, of its square
        self.small = self.add_total("small", (len(THRESHOLDS),))
        self.not_finite = self.add_total("not_finite")

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, *, strict: bool = False) -> None:
        """Adds normals of one image [H, W, 3] or several [B, H, W, 3].

        Raises:
            ValueError: other shapes.
            tf.errors.InvalidArgumentError: `strict`, and a prediction has no direction (not under XLA).
        """
        maps = additive.as_float_batch(y_true, y_pred, "maps of normals", "H, W, 3")
        if maps[0].shape[-1] != 3:
            raise ValueError(f"Expected normals of 3 numbers in the last axis, got shape {maps[0].shape}.")
        self.add_frames(lambda scratch, *image: (scratch, self._image(*image)), maps, strict)

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64, 0 without any known pixel.

        `mean, median, rmse` in degrees, `below_11_25, below_22_5, below_30` as fractions of the `n_pixels` known
        pixels, `not_finite` the number of images left out.
        """
        histogram = tf.convert_to_tensor(self.histogram)
        count = tf.reduce_sum(histogram)
        mean, mean_square = tf.unstack(tf.math.divide_no_nan(tf.convert_to_tensor(self.angle_sums), count))
        shares = tf.unstack(additive.ratio(tf.convert_to_tensor(self.small), count))
        return {
            "mean": mean,
            "median": _median(histogram, count),
            "rmse": tf.sqrt(mean_square),
            **{f"below_{limit:g}".replace(".", "_"): share for limit, share in zip(THRESHOLDS, shares)},
            "n_pixels": count,
            "not_finite": tf.convert_to_tensor(self.not_finite),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {"name": self.name}

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        true_length, pred_length = tf.norm(y_true, axis=-1), tf.norm(y_pred, axis=-1)
        known = true_length > 0.0
        cosine = tf.reduce_sum(y_true * y_pred, axis=-1) / (true_length * pred_length)
        finite = tf.math.is_finite(cosine)
        angle = tf.acos(tf.clip_by_value(tf.where(known & finite, cosine, 1.0), -1.0, 1.0)) * (180.0 / math.pi)
        counted = tf.where(known, tf.cast(tf.reduce_all(finite | ~known), tf.float64), 0.0)
        bins = tf.minimum(tf.cast(angle * _BINS_PER_DEGREE, tf.int32), _NUM_BINS - 1)
        return {
            "histogram": tf.math.unsorted_segment_sum(tf.reshape(counted, [-1]), tf.reshape(bins, [-1]), _NUM_BINS),
            "angle_sums": tf.stack([tf.reduce_sum(counted * angle), tf.reduce_sum(counted * angle**2)]),
            "small": tf.stack([tf.reduce_sum(tf.where(angle < limit, counted, 0.0)) for limit in THRESHOLDS]),
            "not_finite": tf.cast(tf.reduce_any(known & ~finite), tf.float64),
        }


def _median(histogram: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Half-way between the two middle values; values lie evenly spread in their bin, a single one in its centre."""
    up_to = tf.cumsum(histogram)

    def ordered(rank: tf.Tensor) -> tf.Tensor:  # from 1
        index = tf.minimum(tf.reduce_sum(tf.cast(up_to < rank - 0.25, tf.int32)), _NUM_BINS - 1)
        within = rank - 0.5 - (up_to[index] - histogram[index])
        share = tf.math.divide_no_nan(within, histogram[index])
        return (tf.cast(index, tf.float64) + share) / _BINS_PER_DEGREE

    middle = (ordered(tf.floor((count + 1.0) / 2.0)) + ordered(tf.floor(count / 2.0) + 1.0)) / 2.0
    return tf.where(count > 0.0, middle, 0.0)
