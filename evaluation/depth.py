"""Errors of monocular depth.

"Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", Eigen et al., 2014, arXiv 1406.2283, and
the KITTI benchmark ("Sparsity Invariant CNNs", Uhrig et al., 2017, arXiv 1708.06500).
"""

from __future__ import annotations

import math

import tensorflow as tf

from evaluation import additive

CROPS = {  # first row, end of rows, first column, end of columns: shares of the height and width, or pixels
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.03594771, 0.96405229),
    "nyu": (45, 471, 41, 601),
}
MEASURES = (
    "abs_rel",
    "sq_rel_kitti",
    "sq_rel_eigen",
    "rmse",
    "mae",
    "log10",
    "rmse_log",
    "silog",
    "log_mae",
    "irmse",
    "imae",
    "delta1",
    "delta2",
    "delta3",
)
_ROOTS = ("rmse", "rmse_log", "irmse")


class DepthErrors(additive.AdditiveMetric):
    """Errors over the pixels whose true depth is known (positive), and within the cap and crop where these are given.

    Every measure has two averages: over images (each by its own mean, as the KITTI tool does) and, with the suffix
    `_pooled`, over all pixels alike. Images without a known depth count in neither.

    An image whose prediction is not finite where it is scored is left out; the result `not_finite` counts such images.
    """

    def __init__(
        self,
        *,
        min_depth: float = 1e-3,
        max_depth: float | None = None,
        crop: str | None = None,
        name: str = "depth_errors",
    ):
        """Makes the metric.

        Args:
            min_depth: predictions are raised to it, in metres.
            max_depth: predictions are lowered to it, and true depths beyond it are not scored: 80 for the Eigen split
                of KITTI, 10 for NYU.
            crop: one of CROPS.
            name: name of the metric.

        Raises:
            ValueError: an unknown crop, or an empty range of depths.
        """
        super().__init__(name=name)
        if crop is not None and crop not in CROPS:
            raise ValueError(f"Expected crop to be one of {', '.join(CROPS)}, or None, got {crop!r}.")
        if not 0.0 < min_depth < (math.inf if max_depth is None else max_depth):
            raise ValueError(f"Expected 0 < min_depth < max_depth, got {min_depth} and {max_depth}.")
        self.min_depth = float(min_depth)
        self.max_depth = None if max_depth is None else float(max_depth)
        self.crop = crop
        self.image_means = self.add_total("image_means", (len(MEASURES),))
        self.images = self.add_total("images")
        self.pixel_sums = self.add_total("pixel_sums", (len(MEASURES) + 1,))
        self.pixels = self.add_total("pixels")
        self.not_finite = self.add_total("not_finite")

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, *, strict: bool = False) -> None:
        """Adds depth in metres of one image [H, W] or several [B, H, W]; 0 in the ground truth is unknown.

        Raises:
            ValueError: other shapes.
            tf.errors.InvalidArgumentError: `strict`, and a prediction is not finite (not under XLA).
        """
        maps = additive.as_float_batch(y_true, y_pred, "depth maps", "H, W")
        self.add_frames(lambda scratch, *image: (scratch, self._image(*image)), maps, strict)

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64: MEASURES, and each with the suffix `_pooled` (0 without any known depth).

        Lengths are in metres, `irmse` and `imae` in 1/km, `silog` is multiplied by 100; `delta1` to `delta3` and the
        relative errors are fractions. `n_images` and `n_pixels` say what they rest on, `not_finite` is the number of
        images left out.
        """
        means = tf.math.divide_no_nan(tf.convert_to_tensor(self.image_means), tf.convert_to_tensor(self.images))
        pooled = _measures(tf.convert_to_tensor(self.pixel_sums), tf.convert_to_tensor(self.pixels))
        return {
            **dict(zip(MEASURES, tf.unstack(means))),
            **{f"{name}_pooled": value for name, value in zip(MEASURES, tf.unstack(pooled))},
            "n_images": tf.convert_to_tensor(self.images),
            "n_pixels": tf.convert_to_tensor(self.pixels),
            "not_finite": tf.convert_to_tensor(self.not_finite),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {"name": self.name, "min_depth": self.min_depth, "max_depth": self.max_depth, "crop": self.crop}

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        known = (y_true > 0.0) & tf.math.is_finite(y_true)
        if self.max_depth is not None:
            known &= y_true <= self.max_depth
        if self.crop is not None:
            known &= _inside(self.crop, tf.shape(y_true))
        finite = tf.reduce_all(tf.math.is_finite(y_pred) | ~known)
        # Pixels that do not count are exact, so that none of the formulas is undefined.
        true = tf.where(known, y_true, 1.0)
        pred = tf.maximum(tf.where(known & tf.math.is_finite(y_pred), y_pred, 1.0), self.min_depth)
        if self.max_depth is not None:
            pred = tf.minimum(pred, self.max_depth)
        sums = tf.stack([tf.reduce_sum(tf.where(known, values, 0.0)) for values in _errors(true, pred)])
        count = tf.reduce_sum(tf.cast(known, tf.float64))
        scored = tf.cast(finite, tf.float64)
        return {
            "image_means": scored * _measures(sums, count),
            "images": scored * tf.cast(count > 0.0, tf.float64),
            "pixel_sums": scored * sums,
            "pixels": scored * count,
            "not_finite": 1.0 - scored,
        }


def _errors(true: tf.Tensor, pred: tf.Tensor) -> list[tf.Tensor]:
    """Per pixel what MEASURES are means of, squared where a root follows; last the logarithmic error itself."""
    error = pred - true
    log_error = tf.math.log(pred) - tf.math.log(true)
    inverse_error = 1000.0 / pred - 1000.0 / true
    relative = error / true
    factor = tf.maximum(pred / true, true / pred)
    return [
        tf.abs(relative),
        relative**2,
        error**2 / true,
        error**2,
        tf.abs(error),
        tf.abs(log_error) / math.log(10.0),
        log_error**2,
        log_error**2,
        tf.abs(log_error),
        inverse_error**2,
        tf.abs(inverse_error),
        *[tf.cast(factor < 1.25**power, tf.float64) for power in (1, 2, 3)],
        log_error,
    ]


def _measures(sums: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Sums of `_errors` over `count` pixels -> the values of MEASURES."""
    means = dict(zip((*MEASURES, "log_error"), tf.unstack(tf.math.divide_no_nan(sums, count))))
    means.update({name: tf.sqrt(means[name]) for name in _ROOTS})
    # Rounding can make the variance of near-perfect predictions negative.
    means["silog"] = 100.0 * tf.sqrt(tf.maximum(means["silog"] - means["log_error"] ** 2, 0.0))
    return tf.stack([means[name] for name in MEASURES])


def _inside(crop: str, shape: tf.Tensor) -> tf.Tensor:
    """Which pixels of a map [H, W] lie in a crop."""
    first_row, end_row, first_column, end_column = CROPS[crop]

    def edge(value: float, size: tf.Tensor) -> tf.Tensor:
        if isinstance(value, int):
            return tf.constant(value)
        return tf.cast(tf.constant(value, tf.float64) * tf.cast(size, tf.float64), tf.int32)  # rounds down

    rows, columns = tf.range(shape[0])[:, tf.newaxis], tf.range(shape[1])
    in_rows = (rows >= edge(first_row, shape[0])) & (rows < edge(end_row, shape[0]))
    return in_rows & (columns >= edge(first_column, shape[1])) & (columns < edge(end_column, shape[1]))
