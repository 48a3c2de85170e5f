"""What all metrics share: states that only ever add up, so that batches, replicas and processes can be joined.

States are float64: exact for counts below 2^53, and unlike int64 they survive the division by the number of replicas
that a checkpoint's restore makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf

from deeplab2_kmax._keras import keras
from evaluation import segments

# States that count images which could not be scored, and what to say about them.
FAULTS = {
    "overflow": "images or frames exceed a capacity (max_segments, max_detections, or one of sequences): raise it.",
    "invalid": "images hold labels that are neither of a class nor void: check num_classes and the label divisor.",
    "not_finite": "images have predictions that are not finite: look for nan in the model.",
}


class AdditiveMetric(keras.metrics.Metric):
    """A metric whose results are functions of sums alone."""

    def __init__(self, name: str):
        super().__init__(name=name, dtype=tf.float64)

    def add_total(self, name: str, shape: tuple[int, ...] = ()) -> tf.Variable:
        """A sum that starts at zero."""
        return self.add_weight(name=name, shape=shape, dtype=tf.float64, initializer="zeros")

    def add_scratch(self, name: str, shape: tuple[int, ...] = (), dtype: tf.DType = tf.float64) -> tf.Variable:
        """What a replica remembers of the running sequence; starts at zero and is never read by `result`."""
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer="zeros",
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def reset_state(self) -> None:
        """Sets every sum to zero, and forgets the running sequence."""
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
            if variable.aggregation == tf.VariableAggregation.ONLY_FIRST_REPLICA:
                continue  # scratch
            # An assignment, because replicated variables do not add outside of a replica.
            states = [tf.convert_to_tensor(m.variables[index]) for m in [self, *metrics]]
            variable.assign(self._join(variable.name.split(":")[0], states))

    def _join(self, name: str, states: list[tf.Tensor]) -> tf.Tensor:
        """The state of the name that stands for those of several metrics."""
        return tf.add_n(states)

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
        self.add_frames(lambda scratch, *maps: (scratch, image(*maps)), as_batch(y_true, y_pred), strict)

    # There is nothing for AutoGraph to convert here, and looking for it makes tracing several times slower.
    @tf.autograph.experimental.do_not_convert
    def add_frames(
        self,
        frame: Callable[..., tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]],
        inputs: Sequence[tf.Tensor],
        strict: bool,
    ) -> None:
        """Passes frames one after the other to `frame`, with what is remembered of the frames before.

        `frame(scratch, *inputs of a frame)` returns the scratch values after the frame, and what the frame adds to
        sums; both are dicts with the names of states. `inputs` are [B, ...] each. `strict` is as in `add_images`.
        """
        zeros, scratch = self._states()
        if inputs[0].shape[0] == 1:
            scratch, totals = frame(scratch, *[each[0] for each in inputs])
        else:

            def body(index: tf.Tensor, scratch: dict, sums: dict) -> tuple[tf.Tensor, dict, dict]:
                scratch, totals = frame(scratch, *[each[index] for each in inputs])
                return index + 1, scratch, {name: sums[name] + totals.get(name, 0.0) for name in sums}

            _, scratch, totals = tf.while_loop(
                lambda index, *_: index < tf.shape(inputs[0])[0],
                body,
                (tf.constant(0), scratch, zeros),
                parallel_iterations=1,
            )
        self._assert_sound(totals, strict)
        self._add(totals, scratch)

    @tf.autograph.experimental.do_not_convert
    def end_sequence(
        self, end: Callable[[dict[str, tf.Tensor]], tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]]
    ) -> None:
        """Passes what is remembered to `end`, which returns what is left of it and what the sequence adds to sums."""
        scratch, totals = end(self._states()[1])
        self._add(totals, scratch)

    def _states(self) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Zeros like all sums, and what is remembered of the running sequence."""
        zeros, scratch = {}, {}
        for variable in self.variables:
            name = variable.name.split(":")[0]
            if variable.aggregation == tf.VariableAggregation.ONLY_FIRST_REPLICA:
                scratch[name] = tf.convert_to_tensor(variable)
            else:
                zeros[name] = tf.zeros(variable.shape, variable.dtype)
        return zeros, scratch

    def _add(self, totals: dict[str, tf.Tensor], scratch: dict[str, tf.Tensor]) -> None:
        for name, value in totals.items():
            getattr(self, name).assign_add(value)
        for name, value in scratch.items():
            getattr(self, name).assign(value)

    def _assert_sound(self, totals: dict[str, tf.Tensor], strict: bool) -> None:
        if strict:
            for name in FAULTS.keys() & totals.keys():
                tf.debugging.assert_equal(totals[name], tf.zeros_like(totals[name]), message=FAULTS[name])

    def faults(self) -> dict[str, tf.Tensor]:
        """How many images or frames were left out, by reason: those of FAULTS that this metric knows."""
        return {name: tf.convert_to_tensor(getattr(self, name)) for name in FAULTS if hasattr(self, name)}

    def _options(self) -> dict:
        return {key: value for key, value in self.get_config().items() if key != "name"}


class ImageMetric(AdditiveMetric):
    """A metric of pairs of integer maps; a child says what one image adds to the states, in `_image`."""

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, *, strict: bool = False) -> None:
        """Adds one image [H, W] or several [B, H, W]; integers.

        Raises:
            ValueError: other types or shapes.
            tf.errors.InvalidArgumentError: `strict`, and an image could not be scored (not under XLA).
        """
        self.add_images(self._image, y_true, y_pred, strict)

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        """Two maps [H, W] int32 -> name of a state: what to add."""
        raise NotImplementedError(f"{type(self).__name__} does not define _image().")


def ratio(part: tf.Tensor, whole: tf.Tensor) -> tf.Tensor:
    """part / whole, 0 where there is nothing; asserts that it is a share of 1 (not under XLA)."""
    value = tf.math.divide_no_nan(part, whole)
    # Sums of many parts, and sums over replicas, may be off by rounding.
    inside = tf.reduce_all((value >= 0.0) & (value <= 1.0 + 1e-9))
    tf.debugging.Assert(inside, ["A share of pixels or segments lies outside of [0, 1]."])
    return value


def as_batch(y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Two integer maps [H, W] or [B, H, W] of the same shape as [B, H, W] int32.

    Raises:
        ValueError: not integers, another rank, or shapes that differ.
    """
    return _batched(segments.as_int32(y_true), segments.as_int32(y_pred), "label maps", "H, W")


def as_float_batch(y_true: tf.Tensor, y_pred: tf.Tensor, what: str, axes: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Two maps of numbers, with or without a batch axis, as float64 with one; `what` and `axes` ("H, W") name them.

    Raises:
        ValueError: another rank, or shapes that differ.
    """
    y_true, y_pred = (tf.cast(tf.convert_to_tensor(each), tf.float64) for each in (y_true, y_pred))
    return _batched(y_true, y_pred, what, axes)


def _batched(y_true: tf.Tensor, y_pred: tf.Tensor, what: str, axes: str) -> tuple[tf.Tensor, tf.Tensor]:
    rank = axes.count(",") + 1
    if y_true.shape.rank not in (rank, rank + 1) or not y_true.shape.is_compatible_with(y_pred.shape):
        raise ValueError(
            f"Expected two {what} [{axes}] or [B, {axes}] of the same shape, got {y_true.shape} (ground truth) and "
            f"{y_pred.shape} (prediction). Bring the prediction to the size of the ground truth first."
        )
    if not (y_true.shape.is_fully_defined() and y_pred.shape.is_fully_defined()):
        tf.debugging.assert_equal(
            tf.shape(y_true), tf.shape(y_pred), message="Ground truth and prediction differ in shape."
        )
    if y_true.shape.rank == rank:
        y_true, y_pred = y_true[tf.newaxis], y_pred[tf.newaxis]
    return y_true, y_pred


def per_frame(value: tf.Tensor | int | bool, frames: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """A value that all frames [B, ...] share, or one of each [B], as [B]."""
    value = tf.cast(tf.convert_to_tensor(value), dtype)
    if value.shape.rank not in (0, 1):
        raise ValueError(f"Expected one value for all frames, or one of each [B], got shape {value.shape}.")
    return tf.broadcast_to(value, tf.shape(frames)[:1])


def as_frames(name: str, maps: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
    """More maps of the frames [B, H, W]: [H, W] or [B, H, W] -> [B, H, W].

    Raises:
        ValueError: another shape.
    """
    maps = tf.convert_to_tensor(maps)
    if maps.shape.rank == 2:
        maps = maps[tf.newaxis]
    if maps.shape.rank != 3 or not maps.shape.is_compatible_with(frames.shape):
        raise ValueError(f"Expected {name} of the shape of the label maps, {frames.shape}, got {maps.shape}.")
    return maps
