"""Overlaps of the tubes of a video: the segments of one label over several frames, as lists of label pairs.

A pair of labels is one int64 key, a list of pairs is a table of keys and counts of fixed length. Adding a frame to a
table, and joining tables, is the same operation: sum what belongs to equal keys. It is exact, and the order of frames
does not matter. Pairs of void and void are left out; their key, 0, marks what is unused.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from evaluation import pairs, segments

PAIRS_PER_SEGMENT = 8  # capacity of a frame's table: segments of a plane map meet few others


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


def collect(keys: tf.Tensor, counts: tf.Tensor, size: int) -> Table:
    """Sums the counts of equal keys: keys [N] int64, counts [N, D] -> a table of `size` pairs."""
    keys = tf.concat([tf.zeros([1], tf.int64), keys], axis=0)  # so that number 0 is what is unused
    counts = tf.concat([tf.zeros([1, counts.shape[1]], counts.dtype), counts], axis=0)
    keys, numbers = pairs.distinct(keys)
    counts = tf.math.unsorted_segment_sum(counts, numbers, tf.size(keys))
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
    found = pairs.overlaps(
        y_true, y_pred, labels, max_segments=max_segments, weights=weights, levels=levels, num_levels=num_levels
    )
    meet = tf.reduce_any(found.counts > 0, axis=1)
    true, pred = found.pairs.of_true(found.pairs.true_labels), found.pairs.of_pred(found.pairs.pred_labels)
    keys = tf.where(meet, pairs.join(true, pred), 0)
    void = tf.reduce_sum(tf.where((keys == 0)[:, tf.newaxis], found.counts, tf.zeros_like(found.counts)), axis=0)
    table = _compact(keys, found.counts, PAIRS_PER_SEGMENT * max_segments)
    return FramePairs(table.keys, table.counts, void, found.overflow | table.overflow, found.invalid)


def _compact(keys: tf.Tensor, counts: tf.Tensor, size: int) -> Table:
    """The entries with a key, in their order: [N], [N, D] -> a table of `size` pairs. No key occurs twice."""
    there = keys > 0
    number = segments.prefix_sum(tf.cast(there, tf.int32))
    target = tf.where(there & (number <= size), number - 1, -1)  # -1 goes nowhere
    return Table(
        keys=tf.maximum(tf.math.unsorted_segment_max(keys, target, size), 0),
        counts=tf.math.unsorted_segment_sum(counts, target, size),
        overflow=tf.reduce_any(number > size),
    )
