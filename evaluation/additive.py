"""What all metrics share: states that only ever add up, so that batches, replicas and processes can be joined.

States are float64: exact for counts below 2^53, and unlike int64 they survive the division by the number of replicas
that a checkpoint's restore makes.
"""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from deeplab2_kmax._keras import keras
from evaluation import segments


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
                    f"Expected metrics of type {type(self).__name__} with {ours}, got {type(other).__name__} with {theirs}."
                )
        for index, variable in enumerate(self.variables):
            # An assignment, because replicated variables do not add outside of a replica.
            variable.assign(tf.add_n([tf.convert_to_tensor(m.variables[index]) for m in [self, *metrics]]))

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


def assert_none(count: tf.Tensor, message: str) -> None:
    """Raises tf.errors.InvalidArgumentError where images were left out. XLA leaves assertions out."""
    tf.debugging.assert_equal(count, tf.zeros_like(count), message=message)
