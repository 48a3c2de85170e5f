"""Overlaps of the segments of two label maps, as a list of the pairs of segments that meet: exact and bounded.

Segments and their slots are those of `segments`. Outside XLA the list is as long as there are pairs; under XLA, whose
shapes are static, it is a table of all pairs of slots or, where that would be too large, as long as there are pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from evaluation import segments

_KEY_BASE = 2**32
_LARGEST_TABLE = 2**22  # pairs of slots, above which XLA sorts the pixels instead


class Pairs(NamedTuple):
    """Which segments of two maps meet: N pairs of S true and S predicted segments, each pair of segments once."""

    true_labels: tf.Tensor  # [S] int32, below 0 for void; int32 max or below 0 where unused
    pred_labels: tf.Tensor  # [S] int32
    true: tf.Tensor  # [N] int32: places in true_labels
    pred: tf.Tensor  # [N] int32: places in pred_labels
    table: bool = False  # N = S * S, all pairs there can be, those of a true segment side by side

    def of_true(self, values: tf.Tensor) -> tf.Tensor:
        """The value of a pair's true segment: [S, ...] -> [N, ...]."""
        return self._spread(values, axis=1) if self.table else tf.gather(values, self.true)

    def of_pred(self, values: tf.Tensor) -> tf.Tensor:
        """The value of a pair's predicted segment: [S, ...] -> [N, ...]."""
        return self._spread(values, axis=0) if self.table else tf.gather(values, self.pred)

    def sum_by_true(self, values: tf.Tensor) -> tf.Tensor:
        """Sums over the pairs of each true segment: [N, ...] -> [S, ...]."""
        if self.table:
            return tf.reduce_sum(self._square(values), axis=1)
        return tf.math.unsorted_segment_sum(values, self.true, tf.size(self.true_labels))

    def sum_by_pred(self, values: tf.Tensor) -> tf.Tensor:
        """Sums over the pairs of each predicted segment: [N, ...] -> [S, ...]."""
        if self.table:
            return tf.reduce_sum(self._square(values), axis=0)
        return tf.math.unsorted_segment_sum(values, self.pred, tf.size(self.pred_labels))

    def max_by_true(self, values: tf.Tensor) -> tf.Tensor:
        """The largest value of each true segment's pairs, 0 where it has none: [N, ...] >= 0 -> [S, ...]."""
        if self.table:
            return tf.reduce_max(self._square(values), axis=1)
        found = tf.math.unsorted_segment_max(values, self.true, tf.size(self.true_labels))
        return tf.maximum(found, tf.zeros_like(found))

    def max_by_pred(self, values: tf.Tensor) -> tf.Tensor:
        """The largest value of each predicted segment's pairs, 0 where it has none: [N, ...] >= 0 -> [S, ...]."""
        if self.table:
            return tf.reduce_max(self._square(values), axis=0)
        found = tf.math.unsorted_segment_max(values, self.pred, tf.size(self.pred_labels))
        return tf.maximum(found, tf.zeros_like(found))

    def _square(self, values: tf.Tensor) -> tf.Tensor:
        size = self.true_labels.shape[0]
        return tf.reshape(values, [size, size, *values.shape[1:]])

    def _spread(self, values: tf.Tensor, axis: int) -> tf.Tensor:
        size, shape = values.shape[0], values.shape[1:]
        return tf.reshape(tf.broadcast_to(tf.expand_dims(values, axis), [size, size, *shape]), [size * size, *shape])


class Overlaps(NamedTuple):
    """The segments of a ground truth and of a prediction, and what they share.

    S = max_segments + 1 slots on either side, void being slot 0. Unused slots hold label int32 max and no pixels.
    """

    pairs: Pairs
    counts: tf.Tensor  # [N, D]: pixels (int32) or weights (float64) of every pair, per level
    of_runs: tf.Tensor  # [R] int32: the pair of every run of `segments.runs`, for maps that went into `overlaps`
    pixels: tf.Tensor  # [R] int32: lengths of these runs
    overflow: tf.Tensor  # bool: more than max_segments segments, the rest is not to be used
    invalid: tf.Tensor  # bool: there are labels that are neither of a class nor void; they count as void here


def overlaps(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    labels: segments.Labels,
    *,
    max_segments: int,
    weights: tf.Tensor | None = None,
    levels: tf.Tensor | None = None,
    num_levels: int = 1,
) -> Overlaps:
    """Counts the pixels that the segments of one image share.

    Args:
        y_true: ground truth [H, W], integers.
        y_pred: prediction [H, W], integers.
        labels: which labels there are.
        max_segments: capacity, for ground truth and prediction each.
        weights: what a pixel counts, [H, W] float64 >= 0; None: 1, in int32.
        levels: in which of D = `num_levels` columns a pixel counts, [H, W] int32; None: in the only one.
        num_levels: D.
    """
    more = [each for each in (weights, levels) if each is not None]
    (true, pred, *more), pixels = segments.runs(segments.as_int32(y_true), segments.as_int32(y_pred), *more)
    true, true_invalid = segments.normalize(true, labels)
    pred, pred_invalid = segments.normalize(pred, labels)
    counts = (pixels if weights is None else more.pop(0) * tf.cast(pixels, tf.float64))[:, tf.newaxis]
    if levels is not None:
        counts = counts * tf.one_hot(more.pop(0), num_levels, dtype=counts.dtype)
    pairs, of_runs, overflow = _pair_up(true, pred, labels, max_segments + 1)
    return Overlaps(
        pairs=pairs,
        counts=tf.math.unsorted_segment_sum(counts, of_runs, tf.size(pairs.true)),
        of_runs=of_runs,
        pixels=pixels,
        overflow=overflow,
        invalid=tf.logical_or(true_invalid, pred_invalid),
    )


def pairs_of(true: tf.Tensor, pred: tf.Tensor) -> Pairs:
    """Pairs of labels as they are: two [N] int32, -1 for void, -> S = N."""
    found = [group(each) for each in (true, pred)]
    labels = [
        tf.maximum(tf.math.unsorted_segment_max(each, numbers, tf.size(each)), segments.VOID)
        for each, numbers in zip((true, pred), found)
    ]
    return Pairs(labels[0], labels[1], found[0], found[1])


def _pair_up(
    true: tf.Tensor, pred: tf.Tensor, labels: segments.Labels, size: int
) -> tuple[Pairs, tf.Tensor, tf.Tensor]:
    """Labels of runs [R] -> the pairs of `size` slots, the pair of every run [R], whether there are too many slots."""
    if segments.compiling_by_xla() and size**2 <= _LARGEST_TABLE:
        true_labels, true_slots, true_overflow = segments.slots(true, labels, size)
        pred_labels, pred_slots, pred_overflow = segments.slots(pred, labels, size)
        cells = tf.range(size**2)
        pairs = Pairs(true_labels, pred_labels, cells // size, cells % size, table=True)
        return pairs, true_slots * size + pred_slots, true_overflow | pred_overflow
    keys, of_runs = distinct(join(true, pred))
    true, pred = split(keys)
    true_labels, true_slots, true_overflow = segments.slots(true, labels, size)
    pred_labels, pred_slots, pred_overflow = segments.slots(pred, labels, size)
    return Pairs(true_labels, pred_labels, true_slots, pred_slots), of_runs, true_overflow | pred_overflow


def join(true: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
    """One number for a pair of labels, 0 for void and void: two [...] int32, -1 for void, -> [...] int64."""
    return (tf.cast(true, tf.int64) + 1) * _KEY_BASE + (tf.cast(pred, tf.int64) + 1)


def split(keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The labels of what `join` made: [...] int64 -> true and predicted label, [...] int32, -1 for void."""
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


def distinct(keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The different keys [U] and the place of every key among them [N]: [N] >= 0. Under XLA U = N, zeros behind."""
    if not segments.compiling_by_xla():
        return tuple(tf.unique(keys))
    numbers = group(keys)
    found = tf.math.unsorted_segment_max(keys, numbers, tf.size(keys))
    return tf.maximum(found, tf.zeros_like(found)), numbers


def scored(found: Overlaps, totals: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What an image adds to float64 totals: nothing but a mark in `overflow` or `invalid` where it is faulty."""
    sound = tf.cast(~(found.overflow | found.invalid), tf.float64)
    return {
        **{name: values * sound for name, values in totals.items()},
        "overflow": tf.cast(found.overflow, tf.float64),
        "invalid": tf.cast(found.invalid, tf.float64),
    }
