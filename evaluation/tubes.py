"""Overlaps of the tubes of a video: the segments of one label over several frames, as lists of label pairs.

A pair of labels is one int64 key, a list of pairs is a table of keys and counts of fixed length. Adding a frame to a
table, and joining tables, is the same operation: sum what belongs to equal keys. It is exact, and the order of frames
does not matter. Pairs of void and void are left out; their key, 0, marks what is unused.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from evaluation import segments

PAIRS_PER_SEGMENT = 8  # capacity of a frame's table: segments of a plane map meet few others
_DENSE_LIMIT = 2**24  # cells of a table of all pairs, above which XLA sorts the pixels instead
_KEY_BASE = 2**32


class Table(NamedTuple):
    """Pairs of labels and what was counted for them; M = its capacity."""

    keys: tf.Tensor  # [M] int64, 0 where unused
    counts: tf.Tensor  # [M, D]
    overflow: tf.Tensor  # bool: there were more pairs than M, the table is not to be used


class FramePairs(NamedTuple):
    """The pairs of labels that meet in a frame; U = PAIRS_PER_SEGMENT * max_segments."""

    keys: tf.Tensor  # [U] int64, 0 where unused
    counts: tf.Tensor  # [U, D], pixels or weights per level
    void: tf.Tensor  # [D], the same of pixels that are void in both maps
    overflow: tf.Tensor  # bool: more than max_segments segments or U pairs, not to be used
    invalid: tf.Tensor  # bool: there are labels that are neither of a class nor void; they count as void here


def join(true: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
    """The keys of pairs of labels: two [...] int32, -1 for void, -> [...] int64."""
    return (tf.cast(true, tf.int64) + 1) * _KEY_BASE + (tf.cast(pred, tf.int64) + 1)


def split(keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The labels of keys: [...] int64 -> true and predicted label, [...] int32, -1 for void and where unused."""
    return tf.cast(keys // _KEY_BASE, tf.int32) - 1, tf.cast(keys % _KEY_BASE, tf.int32) - 1


def group(values: tf.Tensor) -> tf.Tensor:
    """Numbers equal values: integers [N] -> [N] int32 in [0, N), the same number for the same value.

    The first value has number 0 if none is smaller.
    """
    if not segments.compiling_by_xla():
        return tf.unique(values)[1]
    order = tf.argsort(values)
    ordered = tf.gather(values, order)
    change = tf.concat([[0], tf.cast(ordered[1:] != ordered[:-1], tf.int32)], axis=0)
    return tf.math.unsorted_segment_sum(segments.prefix_sum(change), order, tf.size(values))


def collect(keys: tf.Tensor, counts: tf.Tensor, size: int) -> Table:
    """Sums the counts of equal keys: keys [N] int64, counts [N, D] -> a table of `size` pairs."""
    keys = tf.concat([tf.zeros([1], tf.int64), keys], axis=0)  # so that number 0 is what is unused
    counts = tf.concat([tf.zeros([1, counts.shape[1]], counts.dtype), counts], axis=0)
    numbers = group(keys)
    length = tf.size(keys) if segments.compiling_by_xla() else tf.reduce_max(numbers) + 1
    keys = tf.maximum(tf.math.unsorted_segment_max(keys, numbers, length), 0)
    counts = tf.math.unsorted_segment_sum(counts, numbers, length)
    overflow = tf.reduce_any(keys[size + 1 :] > 0)
    keys, counts = keys[1 : size + 1], counts[1 : size + 1]
    missing = size - tf.size(keys)
    keys, counts = tf.pad(keys, [[0, missing]]), tf.pad(counts, [[0, missing], [0, 0]])
    return Table(tf.ensure_shape(keys, [size]), tf.ensure_shape(counts, [size, counts.shape[1]]), overflow)


def used(keys: tf.Tensor, *values: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Keys [M] and values [M, ...] without the unused entries; under XLA, where lengths are static, as they came."""
    if segments.compiling_by_xla():
        return (keys, *values)
    index = tf.where(keys > 0)[:, 0]
    return tuple(tf.gather(each, index) for each in (keys, *values))


def frame_pairs(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    labels: segments.Labels,
    *,
    max_segments: int,
    weights: tf.Tensor | None = None,
    levels: tf.Tensor | None = None,
    num_levels: int = 1,
) -> FramePairs:
    """Counts the pixels that the segments of a frame share.

    Args:
        y_true: ground truth [H, W], integers.
        y_pred: prediction [H, W], integers.
        labels: which labels there are.
        max_segments: capacity, for ground truth and prediction each.
        weights: what a pixel counts, [H, W] float64 >= 0; None: 1, in int32.
        levels: in which of D = `num_levels` columns a pixel counts, [H, W] int32; None: in the only one.
        num_levels: D.
    """
    maps = [segments.as_int32(y_true), segments.as_int32(y_pred)]
    maps += [each for each in (weights, levels) if each is not None]
    (true, pred, *more), pixels = segments.runs(*maps)
    true, true_invalid = segments.normalize(true, labels)
    pred, pred_invalid = segments.normalize(pred, labels)
    if weights is not None:
        pixels = more.pop(0) * tf.cast(pixels, tf.float64)
    counts = pixels[:, tf.newaxis]
    if levels is not None:
        counts = counts * tf.one_hot(more.pop(0), num_levels, dtype=pixels.dtype)
    size = PAIRS_PER_SEGMENT * max_segments
    dense = num_levels * (max_segments + 1) ** 2 <= _DENSE_LIMIT
    if segments.compiling_by_xla() and dense:
        table, too_many = _collect_dense(true, pred, counts, labels, max_segments, size)
    else:
        table = collect(join(true, pred), counts, size)
        found = [_num_labels(each) > max_segments for each in split(table.keys)]
        too_many = tf.logical_or(*found)
    void = tf.reduce_sum(tf.where(((true < 0) & (pred < 0))[:, tf.newaxis], counts, tf.zeros_like(counts)), axis=0)
    return FramePairs(table.keys, table.counts, void, table.overflow | too_many, true_invalid | pred_invalid)


def _num_labels(labels: tf.Tensor) -> tf.Tensor:
    """How many labels there are, void aside, in a list [N] in which not all is void or N > the answer."""
    numbers = group(tf.concat([[-1], labels], axis=0))
    return tf.reduce_max(numbers)


def _collect_dense(
    true: tf.Tensor, pred: tf.Tensor, counts: tf.Tensor, labels: segments.Labels, max_segments: int, size: int
) -> tuple[Table, tf.Tensor]:
    """The table, and whether there are too many segments, by a count of all pairs: no sorting of pixels."""
    slots = max_segments + 1
    true_labels, true_slots, true_overflow = segments.slots(true, labels, slots)
    pred_labels, pred_slots, pred_overflow = segments.slots(pred, labels, slots)
    cells = tf.math.unsorted_segment_sum(counts, true_slots * slots + pred_slots, slots * slots)
    present = tf.reduce_any(cells > 0, axis=1) & (tf.range(slots * slots) > 0)
    number = segments.prefix_sum(tf.cast(present, tf.int32))
    target = tf.where(present & (number <= size), number - 1, -1)
    keys = tf.reshape(join(true_labels[:, tf.newaxis], pred_labels[tf.newaxis]), [-1])
    table = Table(
        keys=tf.maximum(tf.math.unsorted_segment_max(keys, target, size), 0),
        counts=tf.math.unsorted_segment_sum(cells, target, size),
        overflow=number[-1] > size,
    )
    return table, true_overflow | pred_overflow
