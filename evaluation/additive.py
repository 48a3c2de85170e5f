"""What all metrics share: states that only ever add up, so that batches, replicas and processes can be joined.

States are float64: exact for counts below 2^53, and unlike int64 they survive the division by the number of replicas
that a checkpoint's restore makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import tensorflow as tf

from deeplab2_kmax._keras import keras
from evaluation import segments

# States that count images which could not be scored, and what to say about them.
FAULTS = {
    "overflow": "images have more segments than max_segments allows: raise it.",
    "invalid": "images hold labels that are neither of a class nor void: check num_classes and the label divisor.",
}


class AdditiveMetric(keras.metrics.Metric):
    """A metric whose results are functions of sums alone."""

    def __init__(self, name: str):
        super().__init__(name=name, dtype=tf.float64)

    def add_total(self, name: str, shape: tuple[int, ...] = ()) -> tf.Variable:
        """A sum that starts at zero."""
        return self.add_weight(name=name, shape=shape, dtype=tf.float64, initializer="zeros")

    def reset_state(self) -> None:
        """Sets every sum to zero."""
        for variable in self.variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def merge_state(self, metrics: Iterable[AdditiveMetric]) -> None:
        """Adds the sums of other metrics of the same kind and options, for instance those of other processes.

        Raises:
            ValueError: another kind, or other options.
        """
        metrics = list(metrics)
        for other in metrics:
            ours, theirs = self._options(), other._options()
            if type(other) is not type(self) or ours != theirs:
                raise ValueError(
                    f"Expected metrics of type {type(self).__name__} with {ours}, "
                    f"got {type(other).__name__} with {theirs}."
                )
        for index, variable in enumerate(self.variables):
            # An assignment, because replicated variables do not add outside of a replica.
            variable.assign(tf.add_n([tf.convert_to_tensor(m.variables[index]) for m in [self, *metrics]]))

    def add_images(
        self,
        image: Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]],
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        strict: bool,
    ) -> None:
        """Adds `image(ground truth [H, W], prediction [H, W])` of every image to the states of the same names.

        The names `overflow` and `invalid` are the image's faults; with `strict` they raise
        tf.errors.InvalidArgumentError (not under XLA, which leaves assertions out).
        """
        y_true, y_pred = as_batch(y_true, y_pred)
        if y_true.shape[0] == 1:
            totals = image(y_true[0], y_pred[0])
        else:
            zeros = {v.name.split(":")[0]: tf.zeros(v.shape, v.dtype) for v in self.variables}
            _, totals = tf.while_loop(
                lambda index, _: index < tf.shape(y_true)[0],
                lambda index, sums: (
                    index + 1,
                    tf.nest.map_structure(tf.add, sums, image(y_true[index], y_pred[index])),
                ),
                (tf.constant(0), zeros),
                parallel_iterations=1,
            )
        if strict:
            for name in FAULTS.keys() & totals.keys():
                tf.debugging.assert_equal(totals[name], tf.zeros_like(totals[name]), message=FAULTS[name])
        for name, value in totals.items():
            getattr(self, name).assign_add(value)

    def _options(self) -> dict:
        return {key: value for key, value in self.get_config().items() if key != "name"}


def as_batch(y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Two integer maps [H, W] or [B, H, W] of the same shape as [B, H, W] int32.

    Raises:
        ValueError: not integers, another rank, or shapes that differ.
    """
    y_true, y_pred = segments.as_int32(y_true), segments.as_int32(y_pred)
    if y_true.shape.rank not in (2, 3) or not y_true.shape.is_compatible_with(y_pred.shape):
        raise ValueError(
            f"Expected two label maps [H, W] or [B, H, W] of the same shape, got {y_true.shape} (ground truth) and "
            f"{y_pred.shape} (prediction). Bring the prediction to the size of the ground truth first."
        )
    if not (y_true.shape.is_fully_defined() and y_pred.shape.is_fully_defined()):
        tf.debugging.assert_equal(
            tf.shape(y_true), tf.shape(y_pred), message="Ground truth and prediction differ in shape."
        )
    if y_true.shape.rank == 2:
        y_true, y_pred = y_true[tf.newaxis], y_pred[tf.newaxis]
    return y_true, y_pred
