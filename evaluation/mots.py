"""Tracking scores that are reported beside STQ: MOTSA, sMOTSA and MOTSP, PTQ and sPTQ.

"MOTS: Multi-Object Tracking and Segmentation", Voigtlaender et al., 2019, arXiv 1902.03604, equal to the official
tools; "MOPT: Multi-Object Panoptic Tracking", Hurtado et al., 2020, arXiv 2004.08189.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from evaluation import additive, pairs, panoptic_metric, panoptic_quality, segments, tubes


class _TrackingScores(panoptic_metric.PanopticMetric):
    """What both families of scores count: matches per frame, and switches of track ids.

    A switch: a ground-truth track is matched by another predicted label than the last time it was matched in its
    sequence, any number of frames ago. Frames are given one after the other. A frame with more than `max_segments`
    segments, one that brings the sequence above `max_tracks` matched ground-truth tracks, and one with labels outside
    of the classes are left out; the results `overflow` and `invalid` count such frames.
    """

    _COUNTS: tuple[str, ...] = ()  # the family's own sums

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        max_segments: int = 512,
        max_tracks: int = 4096,
        name: str = "tracking_scores",
    ):
        """Makes the metric.

        Args:
            num_classes: C; includes the void class where that is one of them.
            ignore_label: class of void, inside the classes or outside.
            label_divisor: labels are `class * label_divisor + track id`; a ground-truth thing with id 0 is a crowd.
            thing_ids: class ids that are tracked.
            max_segments: capacity per frame and map.
            max_tracks: capacity per sequence.
            name: name of the metric.

        Raises:
            ValueError: thing ids outside of the classes, capacities below 1, or labels beyond int32.
        """
        super().__init__(num_classes, ignore_label, label_divisor, thing_ids, max_segments=max_segments, name=name)
        self.max_tracks = int(max_tracks)
        if self.max_tracks < 1:
            raise ValueError(f"Expected max_tracks >= 1, got {max_tracks}.")
        for total in self._names():
            setattr(self, total, self.add_total(total, (self.labels.num_classes,)))
        # The predicted label that matched a ground-truth track last, as pairs.
        self.last_match = self.add_scratch("last_match", (self.max_tracks,), tf.int64)
        self.sequence = self.add_scratch("sequence", (), tf.int64)

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sequence_id: tf.Tensor | int = 0, *, strict: bool = False
    ) -> None:
        """Adds one frame [H, W] or several consecutive ones [B, H, W]; integers.

        Args:
            y_true: ground truth.
            y_pred: prediction.
            sequence_id: integer that changes where a sequence begins, scalar or [B].
            strict: whether a frame that cannot be scored raises tf.errors.InvalidArgumentError (not under XLA).
        """
        y_true, y_pred = additive.as_batch(y_true, y_pred)
        self.add_frames(self._frame, [y_true, y_pred, additive.per_frame(sequence_id, y_true, tf.int64)], strict)

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {**super().get_config(), "max_tracks": self.max_tracks}

    def sums(self) -> dict[str, tf.Tensor]:
        """The sums so far, [C] each."""
        return {name: tf.convert_to_tensor(getattr(self, name)) for name in self._names()}

    def _names(self) -> tuple[str, ...]:
        """The sums [C]: those of the family, switches of ids and their IoU."""
        return (*self._COUNTS, "ids", "ids_iou")

    def _frame(
        self, scratch: dict[str, tf.Tensor], y_true: tf.Tensor, y_pred: tf.Tensor, sequence: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        found = tubes.frame_pairs(y_true, y_pred, self.labels, max_segments=self.max_segments)
        keys, counts = tubes.used(found.keys, found.counts)
        true, pred = pairs.split(keys)
        totals, iou, matched = self._match(pairs.pairs_of(true, pred), tf.cast(counts, tf.int64))
        begins = scratch["sequence"] != sequence
        last = tf.where(begins, tf.zeros_like(scratch["last_match"]), scratch["last_match"])
        new_last, switched, too_many = _switches(last, true, pred, matched)
        overflow = found.overflow | too_many
        ok = ~(overflow | found.invalid)
        classes, _ = segments.slot_classes(true, self.labels)
        totals["ids"] = self._per_class(switched, classes)
        totals["ids_iou"] = self._per_class(tf.where(switched, iou, 0.0), classes)
        scratch = {"last_match": tf.where(ok, new_last, last), "sequence": sequence}
        return scratch, {
            **{name: tf.where(ok, value, tf.zeros_like(value)) for name, value in totals.items()},
            "overflow": tf.cast(overflow, tf.float64),
            "invalid": tf.cast(found.invalid, tf.float64),
        }

    def _match(self, found: pairs.Pairs, shared: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """What a frame adds to _COUNTS, and of its N pairs the IoU of matching tracked masks, and which these are.

        `shared` is the pixels of the pairs, [N, 1] int64.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define _match().")

    def _tracked(self, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Classes of segments [S], and which are of a tracked class, those with id 0 included."""
        classes, there = segments.slot_classes(labels, self.labels)
        return classes, there & tf.gather(self.things(), classes)

    def _per_class(self, values: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(tf.cast(values, tf.float64), classes, self.labels.num_classes)


class TrackingAndSegmentation(_TrackingScores):
    """MOTSA, sMOTSA and MOTSP per tracked class.

    In every frame masks of a class match where their IoU is above one half. Predicted masks without a match are false
    positives unless more than half of them lies on void or crowds.
    """

    _COUNTS = ("masks", "tp", "fp", "fn", "iou", "ignored")

    def __init__(self, *args, name: str = "tracking_and_segmentation", **kwargs):
        """Makes the metric; the arguments are those of `_TrackingScores`."""
        super().__init__(*args, name=name, **kwargs)

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64; of vectors [C], 0 where a class is not tracked or does not occur.

        `motsa, smotsa, motsp` are means over the `n` tracked classes with ground truth, with `_per_class` [C] each;
        they can be negative, but for MOTSP. `masks` of the ground truth, `tp, fp, fn`, switches `ids`, `ignored`
        predictions, `iou` summed over TP, `ids_iou` summed over switches [C]; `overflow`, `invalid`.
        """
        sums = self.sums()
        errors = sums["fp"] + sums["ids"]
        per_class = {
            "motsa": tf.math.divide_no_nan(sums["tp"] - errors, sums["masks"]),
            "smotsa": tf.math.divide_no_nan(sums["iou"] - errors, sums["masks"]),
            "motsp": additive.ratio(sums["iou"], sums["tp"]),
        }
        occurs = tf.cast(sums["masks"] > 0.0, tf.float64)
        count = tf.reduce_sum(occurs)
        return {
            **{name: tf.math.divide_no_nan(tf.reduce_sum(v * occurs), count) for name, v in per_class.items()},
            "n": count,
            **{f"{name}_per_class": value for name, value in per_class.items()},
            **sums,
            **self.faults(),
        }

    def _match(self, found: pairs.Pairs, shared: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        shared = shared[:, 0]
        true_class, true_tracked = self._tracked(found.true_labels)
        pred_class, pred_tracked = self._tracked(found.pred_labels)
        no_id = found.true_labels % self.labels.label_divisor == 0
        masks, ignored = true_tracked & ~no_id, (found.true_labels < 0) | (true_tracked & no_id)
        true_area, pred_area = found.sum_by_true(shared), found.sum_by_pred(shared)
        union = found.of_true(true_area) + found.of_pred(pred_area) - shared
        candidate = found.of_true(tf.where(masks, true_class, -1)) == found.of_pred(
            tf.where(pred_tracked, pred_class, -2)
        )
        matched = candidate & (2 * shared > union)
        iou = tf.where(matched, shared / tf.maximum(union, 1), 0.0)
        hit = found.sum_by_pred(tf.cast(matched, tf.int32)) > 0
        on_ignored = found.sum_by_pred(tf.where(found.of_true(ignored), shared, tf.zeros_like(shared)))
        wrong = pred_tracked & (pred_area > 0) & ~hit
        excused = wrong & (2 * on_ignored > pred_area)
        counts = {
            "masks": self._per_class(masks & (true_area > 0), true_class),
            "tp": self._per_class(hit, pred_class),
            "fp": self._per_class(wrong & ~excused, pred_class),
            "iou": self._per_class(found.sum_by_true(iou), true_class),
            "ignored": self._per_class(excused, pred_class),
        }
        return {**counts, "fn": counts["masks"] - counts["tp"]}, iou, matched


class PanopticTrackingQuality(_TrackingScores):
    """PTQ and sPTQ: PQ of single frames, of things and stuff, whose numerator is reduced at switches of track ids.

    PTQ subtracts the number of switches, sPTQ their IoU.
    """

    _COUNTS = panoptic_quality.Counts._fields

    def __init__(self, *args, name: str = "panoptic_tracking_quality", **kwargs):
        """Makes the metric; the arguments are those of `_TrackingScores`."""
        super().__init__(*args, name=name, **kwargs)

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64: `ptq, sptq` are means over the `n` classes that occur, with `_per_class` [C]
        each; `tp, fp, fn, iou`, switches `ids` and their `ids_iou` [C]; `overflow`, `invalid`. PTQ can be negative.
        """
        sums = self.sums()
        denominator = sums["tp"] + 0.5 * sums["fp"] + 0.5 * sums["fn"]
        per_class = {
            "ptq": tf.math.divide_no_nan(sums["iou"] - sums["ids"], denominator),
            "sptq": additive.ratio(sums["iou"] - sums["ids_iou"], denominator),
        }
        count = tf.reduce_sum(tf.cast(denominator > 0.0, tf.float64))
        return {
            **{name: tf.math.divide_no_nan(tf.reduce_sum(value), count) for name, value in per_class.items()},
            "n": count,
            **{f"{name}_per_class": value for name, value in per_class.items()},
            **sums,
            **self.faults(),
        }

    def _match(self, found: pairs.Pairs, shared: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        outcome = panoptic_quality.matches(found, shared, self.labels, self.thing_ids)
        counts = panoptic_quality.count(outcome, found, shared, self.labels, self.thing_ids)
        tracked = found.of_true(self._tracked(found.true_labels)[1])
        iou = tf.where(tracked, outcome.iou[:, 0], 0.0)
        return {name: value[0] for name, value in counts._asdict().items()}, iou, tracked & outcome.matched[:, 0]


def _switches(
    last: tf.Tensor, true: tf.Tensor, pred: tf.Tensor, matched: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Brings the last matches up to date.

    Args:
        last: pairs of a ground-truth track and the predicted label that matched it last, [M] keys, 0 where unused.
        true: ground-truth labels of the frame's pairs [N].
        pred: predicted labels [N].
        matched: whether they match [N].

    Returns:
        The new pairs [M], which of the frame's pairs are switches [N], and whether there are more than M tracks.
    """
    capacity, num_old = last.shape[0], tf.shape(tubes.used(last)[0])[0]
    old_true, old_pred = pairs.split(tubes.used(last)[0])
    all_true = tf.concat([[-1], old_true, tf.where(matched, true, -1)], axis=0)
    all_pred = tf.concat([[-1], old_pred, pred], axis=0)
    numbers, size = pairs.group(all_true), tf.size(all_true)
    # The old pairs come first, each track at most once in the frame.
    places = tf.range(size)
    first = tf.math.unsorted_segment_min(places, numbers, size)
    newest = tf.math.unsorted_segment_max(places, numbers, size)
    before = tf.gather(first, numbers)
    switched = (before <= num_old) & (tf.gather(all_pred, before) != all_pred)
    switched = (matched & switched[num_old + 1 :]) & (true >= 0)

    there = tf.range(size) <= tf.reduce_max(numbers)
    newest = tf.where(there, newest, 0)
    keys = pairs.join(tf.gather(all_true, newest), tf.gather(all_pred, newest))
    keys = tf.where(there & (tf.gather(all_true, newest) >= 0), keys, tf.zeros_like(keys))
    table = tubes.collect(keys, tf.zeros([tf.size(keys), 1]), capacity)
    return table.keys, tf.ensure_shape(switched, matched.shape), table.overflow
