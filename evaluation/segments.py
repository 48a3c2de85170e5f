"""Areas and overlaps of the segments of two label maps: exact, of static shape, compilable by XLA.

A label is `class * label_divisor + instance`. A segment is the set of pixels of one label. All labels of the ignored
class are one: void. Every map's segments are numbered by ascending label, from slot 1; slot 0 is void.

Two equivalent ways lead to the same numbers. Outside XLA, runs of equal label pairs along the pixels are found first,
and all else works on a few thousand runs instead of millions of pixels. XLA needs static shapes, so there a table over
all possible labels gives the slots.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_VOID = -1  # label of slot 0
_UNUSED = tf.int32.max  # label of the slots behind the last segment
_BLOCK = 64


class Labels(NamedTuple):
    """Which labels there are."""

    num_classes: int
    ignore_label: int  # may lie inside the classes or outside
    label_divisor: int

    def check(self) -> Labels:
        """Returns itself; raises ValueError where no int32 can hold the labels."""
        if self.num_classes < 1 or self.label_divisor < 1 or self.ignore_label < 0:
            raise ValueError(
                f"Expected num_classes >= 1, label_divisor >= 1 and ignore_label >= 0, got {self.num_classes}, "
                f"{self.label_divisor} and {self.ignore_label}."
            )
        largest = (max(self.num_classes, self.ignore_label + 1)) * self.label_divisor - 1
        if largest >= _UNUSED:
            raise ValueError(f"Panoptic labels up to {largest} do not fit into int32: lower label_divisor.")
        return self


class Overlaps(NamedTuple):
    """The segments of a ground truth and of a prediction, and how many pixels they share.

    K = max_segments + 1. Unused slots hold label int32 max and no pixels, void is label -1.
    """

    true_labels: tf.Tensor  # [K] int32, ascending
    pred_labels: tf.Tensor  # [K] int32, ascending
    counts: tf.Tensor  # [K, K] int32: pixels of ground-truth slot (row) and predicted slot (column)
    overflow: tf.Tensor  # bool: more than max_segments segments, `counts` is not to be used
    invalid: tf.Tensor  # bool: there are labels that are neither of a class nor void; they count as void here


def overlaps(y_true: tf.Tensor, y_pred: tf.Tensor, labels: Labels, *, max_segments: int) -> Overlaps:
    """Counts the pixels that segments share: two integer maps of one image, of the same shape, -> Overlaps."""
    y_true, true_invalid = _normalize(tf.reshape(y_true, [-1]), labels)
    y_pred, pred_invalid = _normalize(tf.reshape(y_pred, [-1]), labels)
    if compiling_by_xla():
        num_labels = labels.num_classes * labels.label_divisor
        weights = tf.ones_like(y_true)
        slots = _slots_by_table
    else:
        num_labels = None
        y_true, y_pred, weights = _runs(y_true, y_pred)
        slots = _slots_by_unique
    size = max_segments + 1
    true_labels, true_slots, true_overflow = slots(y_true, num_labels, size)
    pred_labels, pred_slots, pred_overflow = slots(y_pred, num_labels, size)
    counts = tf.math.unsorted_segment_sum(weights, true_slots * size + pred_slots, size * size)
    return Overlaps(
        true_labels=true_labels,
        pred_labels=pred_labels,
        counts=tf.reshape(counts, [size, size]),
        overflow=tf.logical_or(true_overflow, pred_overflow),
        invalid=tf.logical_or(true_invalid, pred_invalid),
    )


def compiling_by_xla() -> bool:
    """Whether the code that runs now is being traced for XLA (`jit_compile=True`, TPUs)."""
    if tf.executing_eagerly():
        return False
    # TensorFlow has no public name for this question; both supported lines of versions have this one.
    from tensorflow.python.ops import control_flow_util

    return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def as_int32(labels: tf.Tensor) -> tf.Tensor:
    """Integers of any type as int32; what int32 cannot hold becomes -1, which no class has."""
    labels = tf.convert_to_tensor(labels)
    if not labels.dtype.is_integer:
        raise ValueError(f"Expected an integer label map, got {labels.dtype.name}.")
    if labels.dtype == tf.uint64 or labels.dtype == tf.uint32:
        return tf.cast(tf.where(labels > tf.cast(tf.int32.max, labels.dtype), tf.int32.max, labels), tf.int32)
    if labels.dtype == tf.int64:
        fits = tf.logical_and(labels >= 0, labels <= tf.int32.max)
        return tf.cast(tf.where(fits, labels, tf.constant(-1, tf.int64)), tf.int32)
    return tf.cast(labels, tf.int32)


def _normalize(values: tf.Tensor, labels: Labels) -> tuple[tf.Tensor, tf.Tensor]:
    """Void of any instance, and labels of no class, become -1. Also says whether there were labels of no class."""
    first_void = labels.ignore_label * labels.label_divisor
    end = labels.num_classes * labels.label_divisor
    values = as_int32(values)
    void = tf.logical_and(values >= first_void, values < first_void + labels.label_divisor)
    known = tf.logical_and(values >= 0, values < end)
    invalid = tf.reduce_any(tf.logical_not(tf.logical_or(void, known)))
    return tf.where(tf.logical_and(known, tf.logical_not(void)), values, _VOID), invalid


def _runs(y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs of equal label pairs: labels of both and lengths, [R] each. Not of static shape."""
    change = tf.logical_or(y_true[1:] != y_true[:-1], y_pred[1:] != y_pred[:-1])
    num_pixels = tf.size(y_true)
    starts = tf.concat([[0], tf.cast(tf.where(change)[:, 0], tf.int32) + 1], axis=0)
    # Without a pixel there is no run either.
    starts = starts[: tf.minimum(num_pixels, tf.size(starts))]
    lengths = tf.concat([starts[1:], [num_pixels]], axis=0)[: tf.size(starts)] - starts
    return tf.gather(y_true, starts), tf.gather(y_pred, starts), lengths


def _slots_by_unique(values: tf.Tensor, num_labels: None, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Label of every slot [size], slot of every value, whether there are too many. Any number of labels, fast."""
    del num_labels
    # Void comes first, so that it is there and its slot is 0.
    present, index = tf.unique(tf.concat([[_VOID], values], axis=0))
    order = tf.argsort(present)
    rank = tf.math.invert_permutation(order)
    overflow = tf.size(present) > size
    slots = tf.minimum(tf.gather(rank, index[1:]), size - 1)
    ascending = tf.gather(present, order)[:size]
    table = tf.pad(ascending, [[0, size - tf.size(ascending)]], constant_values=_UNUSED)
    return tf.ensure_shape(table, [size]), slots, overflow


def _slots_by_table(values: tf.Tensor, num_labels: int, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The same as `_slots_by_unique` with static shapes. Memory grows with the number of possible labels."""
    area = tf.math.unsorted_segment_sum(tf.ones_like(values), values, num_labels)  # leaves out void, which is negative
    present = tf.cast(area > 0, tf.int32)
    slot_of_label = prefix_sum(present)  # void is slot 0
    overflow = slot_of_label[-1] > size - 1
    slot_of_label = tf.minimum(slot_of_label, size - 1)
    # Each slot has one label, so a sum finds it; labels that are not there go nowhere.
    table = tf.math.unsorted_segment_max(
        tf.range(num_labels, dtype=tf.int32), tf.where(present > 0, slot_of_label, -1), size
    )
    used = tf.range(size) <= slot_of_label[-1]
    table = tf.concat([[_VOID], tf.where(used, table, _UNUSED)[1:]], axis=0)
    slots = tf.where(values >= 0, tf.gather(slot_of_label, tf.maximum(values, 0)), 0)
    return table, slots, overflow


def prefix_sum(values: tf.Tensor) -> tf.Tensor:
    """Inclusive sums of a vector of static length; blocked, because XLA's `tf.cumsum` is quadratic on CPUs."""
    length = values.shape[0]
    if length <= _BLOCK:
        return tf.cumsum(values)
    num_blocks = -(-length // _BLOCK)
    blocks = tf.reshape(tf.pad(values, [[0, num_blocks * _BLOCK - length]]), [num_blocks, _BLOCK])
    inner = tf.cumsum(blocks, axis=1)
    before = prefix_sum(inner[:, -1]) - inner[:, -1]
    return tf.reshape(inner + before[:, tf.newaxis], [-1])[:length]
