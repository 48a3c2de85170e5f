"""The segments of a label map: which labels there are, runs of equal labels, and numbers for segments.

A label is `class * label_divisor + instance`. A segment is the set of pixels of one label. All labels of the ignored
class are one: void. Every map's segments are numbered by ascending label, from slot 1; slot 0 is void.

Outside XLA, runs of equal labels along the pixels are found first, and all else works on a few thousand runs instead of
millions of pixels. XLA needs static shapes, so there every pixel is a run, and a table over all possible labels gives
the slots.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import tensorflow as tf

VOID = -1  # label of slot 0
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


def check_capacity(max_segments: int) -> int:
    """Returns it as an int; raises ValueError where there is room for nothing."""
    if max_segments < 1:
        raise ValueError(f"Expected max_segments >= 1, got {max_segments}.")
    return int(max_segments)


def label_pairs(y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Two integer maps of the same shape as a list: ground truth, prediction and number of pixels, [R] int32 each.

    The entries are runs of equal label pairs in raster order; under XLA, where R must be static, single pixels.
    """
    (true, pred), pixels = runs(as_int32(y_true), as_int32(y_pred))
    return true, pred, pixels


def runs(*maps: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Runs of equal values, in all of the maps, in raster order: the values of every map [R], the lengths [R] int32.

    Under XLA, where R must be static, every pixel is a run.
    """
    values = [tf.reshape(each, [-1]) for each in maps]
    if compiling_by_xla():
        return values, tf.ones_like(values[0], tf.int32)
    changes = [each[1:] != each[:-1] for each in values]
    change = functools.reduce(tf.logical_or, changes)
    size = tf.size(values[0])
    starts = tf.concat([[0], tf.cast(tf.where(change)[:, 0], tf.int32) + 1], axis=0)
    starts = starts[: tf.minimum(size, tf.size(starts))]  # without a pixel there is no run either
    lengths = tf.concat([starts[1:], [size]], axis=0)[: tf.size(starts)] - starts
    return [tf.gather(each, starts) for each in values], lengths


def per_pixel(values: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """A value per run and the runs' lengths, as `runs` gives them, [R] each -> a value per pixel [H * W]."""
    return values if compiling_by_xla() else tf.repeat(values, pixels)


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


def members(class_ids: Iterable[int], labels: Labels) -> tf.Tensor:
    """Which classes are among some: [C] bool."""
    chosen = set(class_ids)
    return tf.constant([i in chosen for i in range(labels.num_classes)])


def slot_classes(slot_labels: tf.Tensor, labels: Labels) -> tuple[tf.Tensor, tf.Tensor]:
    """The class of every label (0 for void and unused slots), and which labels are those of a segment; [S] each."""
    used = (slot_labels >= 0) & (slot_labels < labels.num_classes * labels.label_divisor)
    return tf.where(used, slot_labels, 0) // labels.label_divisor, used


def normalize(values: tf.Tensor, labels: Labels) -> tuple[tf.Tensor, tf.Tensor]:
    """Void of any instance, and labels of no class, become -1. Also says whether there were labels of no class."""
    first_void = labels.ignore_label * labels.label_divisor
    end = labels.num_classes * labels.label_divisor
    void = tf.logical_and(values >= first_void, values < first_void + labels.label_divisor)
    known = tf.logical_and(values >= 0, values < end)
    invalid = tf.reduce_any(tf.logical_not(tf.logical_or(void, known)))
    return tf.where(tf.logical_and(known, tf.logical_not(void)), values, VOID), invalid


def slots(values: tf.Tensor, labels: Labels, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Label of every slot [size], slot of every value (shape of values), whether there are too many."""
    if compiling_by_xla():
        return _slots_by_table(values, size, num_labels=labels.num_classes * labels.label_divisor)
    return _slots_by_unique(values, size)


def _slots_by_unique(values: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Fast, whatever the number of possible labels."""
    # Void comes first, so that it is there and its slot is 0.
    present, index = tf.unique(tf.concat([[VOID], values], axis=0))
    order = tf.argsort(present)
    rank = tf.math.invert_permutation(order)
    overflow = tf.size(present) > size
    slots = tf.minimum(tf.gather(rank, index[1:]), size - 1)
    ascending = tf.gather(present, order)[:size]
    table = tf.pad(ascending, [[0, size - tf.size(ascending)]], constant_values=_UNUSED)
    return tf.ensure_shape(table, [size]), slots, overflow


def _slots_by_table(values: tf.Tensor, size: int, *, num_labels: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The same with static shapes; memory grows with the number of possible labels."""
    area = tf.math.unsorted_segment_sum(tf.ones_like(values), values, num_labels)  # leaves out void, which is negative
    present = tf.cast(area > 0, tf.int32)
    slot_of_label = prefix_sum(present)  # void is slot 0
    overflow = slot_of_label[-1] > size - 1
    slot_of_label = tf.minimum(slot_of_label, size - 1)
    # Labels that are not there have slot -1 and go nowhere.
    table = tf.math.unsorted_segment_max(
        tf.range(num_labels, dtype=tf.int32), tf.where(present > 0, slot_of_label, -1), size
    )
    used = tf.range(size) <= slot_of_label[-1]
    table = tf.concat([[VOID], tf.where(used, table, _UNUSED)[1:]], axis=0)
    slots = tf.where(values >= 0, tf.gather(slot_of_label, tf.maximum(values, 0)), 0)
    return table, slots, overflow


def prefix_sum(values: tf.Tensor) -> tf.Tensor:
    """Inclusive sums along the last axis, of static length under XLA; blocked there, because XLA's `tf.cumsum` is
    quadratic on CPUs."""
    length = values.shape[-1]
    if length is None or length <= _BLOCK or not compiling_by_xla():
        return tf.cumsum(values, axis=-1)
    num_blocks = -(-length // _BLOCK)
    leading = [[0, 0]] * (values.shape.rank - 1)
    padded = tf.pad(values, [*leading, [0, num_blocks * _BLOCK - length]])
    blocks = tf.reshape(padded, [*values.shape[:-1], num_blocks, _BLOCK])
    inner = tf.cumsum(blocks, axis=-1)
    before = prefix_sum(inner[..., -1]) - inner[..., -1]
    return tf.reshape(inner + before[..., tf.newaxis], padded.shape)[..., :length]
