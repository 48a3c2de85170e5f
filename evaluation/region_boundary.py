"""Region (J) and boundary (F) measures of video object segmentation.

"The 2017 DAVIS Challenge on Video Object Segmentation", Pont-Tuset et al., 2017, arXiv 1704.00675. Equal to the
official semi-supervised evaluation, but for the decay of sequences above 256 frames, whose quarters it keeps in 8 bits.
"""

from __future__ import annotations

import math

import tensorflow as tf

from evaluation import additive, segments

_SUMMARY = ("mean", "recall", "decay")


class RegionAndBoundary(additive.AdditiveMetric):
    """J&F of maps of object ids, 0 for the background; objects of a sequence are 1 to its largest true id.

    J of a frame is the IoU of the masks, F the F-measure of their boundaries, matched within 0.8% of the diagonal. The
    first and the last frame of a sequence do not count; one of fewer than 3 frames adds nothing. Predicted ids beyond
    the objects are background.

    Frames are given one after the other. A sequence is scored when the next one begins, or by `flush()`, which must
    end the last one; the result `unflushed` counts frames that are not scored yet. A frame with an object above
    `max_objects`, or after `max_frames` others, is left out; the result `overflow` counts such frames.
    """

    def __init__(
        self,
        *,
        ignore_label: int = 255,
        tolerance: float = 0.008,
        max_objects: int = 32,
        max_frames: int = 512,
        name: str = "region_and_boundary",
    ):
        """Makes the metric.

        Args:
            ignore_label: id of the ground truth that is taken for background.
            tolerance: largest distance of matching boundaries, as a share of the diagonal, rounded up to pixels.
            max_objects: N, capacity per sequence.
            max_frames: capacity per sequence.
            name: name of the metric.

        Raises:
            ValueError: a tolerance that is not positive, or capacities that are too small.
        """
        super().__init__(name=name)
        self.ignore_label, self.tolerance = int(ignore_label), float(tolerance)
        self.max_objects, self.max_frames = int(max_objects), int(max_frames)
        if self.tolerance <= 0 or self.max_objects < 1 or self.max_frames < 3:
            raise ValueError(
                f"Expected tolerance > 0, max_objects >= 1 and max_frames >= 3, got {tolerance}, {max_objects} and "
                f"{max_frames}."
            )
        # Sums over objects of mean, recall and decay.
        self.j = self.add_total("j", (len(_SUMMARY),))
        self.f = self.add_total("f", (len(_SUMMARY),))
        for name in ("num_objects", "length", "scored_length", "overflow"):
            setattr(self, name, self.add_total(name))
        self.j_frames = self.add_scratch("j_frames", (self.max_objects, self.max_frames))
        self.f_frames = self.add_scratch("f_frames", (self.max_objects, self.max_frames))
        self.objects = self.add_scratch("objects", (), tf.int32)
        self.frames = self.add_scratch("frames", (), tf.int32)
        self.sequence = self.add_scratch("sequence", (), tf.int64)

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sequence_id: tf.Tensor | int = 0, *, strict: bool = False
    ) -> None:
        """Adds one frame [H, W] or several consecutive ones [B, H, W]; integers, H and W known when tracing.

        Args:
            y_true: ground truth.
            y_pred: prediction.
            sequence_id: integer that changes where a sequence begins, scalar or [B].
            strict: whether a frame that cannot be scored raises tf.errors.InvalidArgumentError (not under XLA).

        Raises:
            ValueError: other types or shapes.
        """
        y_true, y_pred = additive.as_batch(y_true, y_pred)
        if not y_true.shape[1:].is_fully_defined():
            raise ValueError(f"Expected frames of a known height and width, got {y_true.shape}.")
        self.add_frames(self._frame, [y_true, y_pred, additive.per_frame(sequence_id, y_true, tf.int64)], strict)

    def flush(self) -> None:
        """Scores the running sequence; call it after the last frame, with replicas inside of each (`strategy.run`)."""
        self.end_sequence(self._scored)

    def result(self) -> dict[str, tf.Tensor]:
        """The values of the sequences that have ended, float64.

        `j_and_f`, and `j_mean, j_recall, j_decay, f_mean, f_recall, f_decay`, means over `num_objects` objects (0 if
        there is none); `length` in frames; `unflushed` counts frames still to be scored, `overflow` those left out.
        """
        count = tf.convert_to_tensor(self.num_objects)
        means = {"j": tf.math.divide_no_nan(self.j, count), "f": tf.math.divide_no_nan(self.f, count)}
        return {
            "j_and_f": (means["j"][0] + means["f"][0]) / 2.0,
            **{f"{key}_{name}": means[key][i] for key in means for i, name in enumerate(_SUMMARY)},
            "num_objects": count,
            "length": tf.convert_to_tensor(self.length),
            "unflushed": tf.convert_to_tensor(self.length) - tf.convert_to_tensor(self.scored_length),
            "overflow": tf.convert_to_tensor(self.overflow),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {
            "name": self.name,
            "ignore_label": self.ignore_label,
            "tolerance": self.tolerance,
            "max_objects": self.max_objects,
            "max_frames": self.max_frames,
        }

    def _frame(
        self, scratch: dict[str, tf.Tensor], y_true: tf.Tensor, y_pred: tf.Tensor, sequence: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        begins = (scratch["frames"] > 0) & (scratch["sequence"] != sequence)
        scratch, totals = tf.cond(begins, lambda: self._scored(scratch), lambda: (scratch, self._nothing_scored()))
        y_true = tf.where(y_true == self.ignore_label, 0, y_true)
        objects = tf.reduce_max(y_true)
        frame = scratch["frames"]
        overflow = (objects > self.max_objects) | (frame >= self.max_frames)
        region, boundary = self._measures(y_true, y_pred)
        here = (tf.range(self.max_frames) == frame) & ~overflow
        scratch = {
            "j_frames": tf.where(here, region[:, tf.newaxis], scratch["j_frames"]),
            "f_frames": tf.where(here, boundary[:, tf.newaxis], scratch["f_frames"]),
            "objects": tf.where(overflow, scratch["objects"], tf.maximum(objects, scratch["objects"])),
            "frames": frame + tf.cast(~overflow, tf.int32),
            "sequence": sequence,
        }
        totals["length"] = tf.cast(~overflow, tf.float64)
        totals["overflow"] = tf.cast(overflow, tf.float64)
        return scratch, totals

    def _measures(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """J and F of objects 1 to N: two [H, W] -> two [N] float64; 1 for an object that is in neither map."""
        radius = math.ceil(self.tolerance * math.hypot(*y_true.shape))
        known = tf.where(y_pred <= self.max_objects, y_pred, 0)
        last = tf.minimum(tf.maximum(tf.reduce_max(y_true), tf.reduce_max(known)), self.max_objects)
        numbers = tf.range(1, self.max_objects + 1)

        def body(number: tf.Tensor, region: tf.Tensor, boundary: tf.Tensor) -> tuple[tf.Tensor, ...]:
            true, pred = y_true == number, y_pred == number
            return (
                number + 1,
                tf.where(numbers == number, region_iou(true, pred), region),
                tf.where(numbers == number, boundary_f(true, pred, radius), boundary),
            )

        ones = tf.ones([self.max_objects], tf.float64)
        _, region, boundary = tf.while_loop(
            lambda number, *_: number <= last, body, (tf.constant(1), ones, ones), parallel_iterations=1
        )
        return region, boundary

    def _scored(self, scratch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """What a sequence that has ended adds to the sums, and the scratch for the next."""
        count = scratch["frames"] - 2
        there = (tf.range(self.max_objects) < scratch["objects"]) & (count > 0)
        totals = {
            "j": _summary(scratch["j_frames"], count, there),
            "f": _summary(scratch["f_frames"], count, there),
            "num_objects": tf.reduce_sum(tf.cast(there, tf.float64)),
            "scored_length": tf.cast(scratch["frames"], tf.float64),
        }
        return {name: tf.zeros_like(value) for name, value in scratch.items()}, totals

    def _nothing_scored(self) -> dict[str, tf.Tensor]:
        nothing, zero = tf.zeros([len(_SUMMARY)], tf.float64), tf.zeros([], tf.float64)
        return {"j": nothing, "f": nothing, "num_objects": zero, "scored_length": zero}


def region_iou(true: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
    """IoU of two masks [H, W] bool -> [] float64; 1 if both are empty."""
    union = tf.math.count_nonzero(true | pred)
    iou = tf.math.divide_no_nan(tf.cast(tf.math.count_nonzero(true & pred), tf.float64), tf.cast(union, tf.float64))
    return tf.where(union > 0, iou, tf.ones_like(iou))


def boundary_f(true: tf.Tensor, pred: tf.Tensor, radius: int) -> tf.Tensor:
    """F-measure of the boundaries of two masks [H, W] bool, which match within `radius` pixels -> [] float64."""
    true, pred = boundary_of(true), boundary_of(pred)
    num_true = tf.cast(tf.math.count_nonzero(true), tf.float64)
    num_pred = tf.cast(tf.math.count_nonzero(pred), tf.float64)
    found = tf.cast(num_near(true, pred, radius), tf.float64)
    right = tf.cast(num_near(pred, true, radius), tf.float64)
    # One side empty: precision or recall is 1, the other 0, and so is F. Both empty: 1.
    precision, recall = tf.math.divide_no_nan(right, num_pred), tf.math.divide_no_nan(found, num_true)
    f_measure = tf.math.divide_no_nan(2.0 * precision * recall, precision + recall)
    return tf.where((num_true == 0.0) & (num_pred == 0.0), tf.ones_like(f_measure), f_measure)


def boundary_of(mask: tf.Tensor) -> tf.Tensor:
    """Where a mask differs from its right, lower or lower right neighbour: [H, W] bool -> the same.

    The last row is compared to the right alone, the last column downwards.
    """
    more = tf.concat([mask, mask[-1:]], axis=0)
    more = tf.concat([more, more[:, -1:]], axis=1)
    return (mask != more[:-1, 1:]) | (mask != more[1:, :-1]) | (mask != more[1:, 1:])


def num_near(mask: tf.Tensor, other: tf.Tensor, radius: int) -> tf.Tensor:
    """How many pixels of a mask have one of the other within `radius`: two [H, W] bool -> [] int64.

    Outside XLA only the mask's own pixels are looked at, which are few where it is a boundary.
    """
    # How many pixels of the other one there are in a row before a column.
    before = segments.prefix_sum(tf.cast(tf.pad(other, [[radius, radius], [radius + 1, radius]]), tf.int32))
    height, width = mask.shape
    rows, columns = tf.range(height)[:, tf.newaxis], tf.range(width)
    if not segments.compiling_by_xla():
        rows, columns = tf.unstack(tf.cast(tf.where(mask), tf.int32), axis=1)
    near = tf.zeros(tf.shape(rows + columns), tf.bool)
    for dy in range(-radius, radius + 1):
        reach = math.isqrt(radius**2 - dy**2)
        start = (rows + radius + dy) * before.shape[1] + columns + radius - reach
        counts = tf.gather(tf.reshape(before, [-1]), [start, start + 2 * reach + 1])
        near |= counts[1] > counts[0]
    if segments.compiling_by_xla():
        near &= mask
    return tf.math.count_nonzero(near)


def _summary(frames: tf.Tensor, count: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
    """Mean, recall and decay, summed over objects: values [N, F], of which the second to the last but one count."""
    times = tf.range(frames.shape[1]) - 1
    counted = (times >= 0) & (times < count)

    def mean(values: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
        weights = tf.cast(members, tf.float64)
        means = tf.math.divide_no_nan(tf.reduce_sum(values * weights, axis=1), tf.reduce_sum(weights))
        return tf.reduce_sum(tf.where(there, means, tf.zeros_like(means)))

    # Quarters of the sequence share their ends.
    step = (tf.cast(count, tf.float64) - 1.0) / 4.0
    ends = tf.cast(tf.round(tf.range(5, dtype=tf.float64) * step + 1.0 + 1e-10), tf.int32) - 1
    first = counted & (times >= ends[0]) & (times <= ends[1])
    last = counted & (times >= ends[3]) & (times <= ends[4])
    good = tf.cast(frames > 0.5, tf.float64)
    return tf.stack([mean(frames, counted), mean(good, counted), mean(frames, first) - mean(frames, last)])
