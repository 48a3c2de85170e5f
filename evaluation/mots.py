"""Tracking scores that are reported beside STQ: MOTSA, sMOTSA and MOTSP, PTQ and sPTQ.

"MOTS: Multi-Object Tracking and Segmentation", Voigtlaender et al., 2019, arXiv 1902.03604, equal to the official
tools; "MOPT: Multi-Object Panoptic Tracking", Hurtado et al., 2020, arXiv 2004.08189.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from evaluation import additive, panoptic_quality, segments, tubes, video_panoptic_quality


class _TrackingScores(additive.AdditiveMetric):
    """What both families of scores count: matches per frame, and switches of track ids.

    A switch: a ground-truth track is matched by another predicted label than the last time it was matched in its
    sequence, any number of frames ago. Frames are given one after the other. A frame with more than `max_segments`
    segments, one that brings the sequence above `max_tracks` matched ground-truth tracks, and one with labels outside
    of the classes are left out; the results `overflow` and `invalid` count such frames.
    """

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
        super().__init__(name=name)
        self.labels = segments.Labels(int(num_classes), int(ignore_label), int(label_divisor)).check()
        self.thing_ids = tuple(sorted(int(i) for i in thing_ids))
        panoptic_quality.check_things(self.labels, self.thing_ids)
        self.max_segments, self.max_tracks = int(max_segments), int(max_tracks)
        if min(self.max_segments, self.max_tracks) < 1:
            raise ValueError(f"Expected max_segments >= 1 and max_tracks >= 1, got {max_segments} and {max_tracks}.")
        for total in (*self._names(), "ids", "ids_iou"):
            setattr(self, total, self.add_total(total, (self.labels.num_classes,)))
        self.overflow = self.add_total("overflow")
        self.invalid = self.add_total("invalid")
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
        return {
            "name": self.name,
            **self.labels._asdict(),
            "thing_ids": self.thing_ids,
            "max_segments": self.max_segments,
            "max_tracks": self.max_tracks,
        }

    def _names(self) -> tuple[str, ...]:
        """The sums [C] of the family."""
        raise NotImplementedError

    def _counts(self, true: tf.Tensor, pred: tf.Tensor, shared: tf.Tensor) -> dict[str, tf.Tensor]:
        """What a frame adds to them, from its pairs of labels and their pixels, [N] each."""
        raise NotImplementedError

    def _frame(
        self, scratch: dict[str, tf.Tensor], y_true: tf.Tensor, y_pred: tf.Tensor, sequence: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        found = tubes.frame_pairs(y_true, y_pred, self.labels, max_segments=self.max_segments)
        keys, counts = tubes.used(found.keys, found.counts)
        true, pred = tubes.split(keys)
        shared = tf.cast(counts[:, 0], tf.int64)
        totals = self._counts(true, pred, shared)
        begins = scratch["sequence"] != sequence
        last = tf.where(begins, tf.zeros_like(scratch["last_match"]), scratch["last_match"])
        iou, matched = self._matches(true, pred, shared)
        new_last, switched, too_many = _switches(last, true, pred, matched)
        overflow = found.overflow | too_many
        ok = ~(overflow | found.invalid)
        classes, _ = segments.slot_classes(true, self.labels)
        for name, values in (("ids", tf.cast(switched, tf.float64)), ("ids_iou", tf.where(switched, iou, 0.0))):
            totals[name] = tf.math.unsorted_segment_sum(values, classes, self.labels.num_classes)
        scratch = {"last_match": tf.where(ok, new_last, last), "sequence": sequence}
        return scratch, {
            **{name: tf.where(ok, value, tf.zeros_like(value)) for name, value in totals.items()},
            "overflow": tf.cast(overflow, tf.float64),
            "invalid": tf.cast(found.invalid, tf.float64),
        }

    def _matches(self, true: tf.Tensor, pred: tf.Tensor, shared: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """IoU of masks of tracked classes, and whether they match, per pair [N]."""
        raise NotImplementedError

    def _tracked(self, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Classes [N], whether they are tracked, and whether the id is 0."""
        classes, there = segments.slot_classes(labels, self.labels)
        tracked = tf.constant([i in self.thing_ids for i in range(self.labels.num_classes)])
        return classes, there & tf.gather(tracked, classes), labels % self.labels.label_divisor == 0


class TrackingAndSegmentation(_TrackingScores):
    """MOTSA, sMOTSA and MOTSP per tracked class.

    In every frame masks of a class match where their IoU is above one half. Predicted masks without a match are false
    positives unless more than half of them lies on void or crowds.
    """

    def __init__(self, *args, name: str = "tracking_and_segmentation", **kwargs):
        """Makes the metric; the arguments are those of `_TrackingScores`."""
        super().__init__(*args, name=name, **kwargs)

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64; of vectors [C], 0 where a class is not tracked or does not occur.

        `motsa, smotsa, motsp` are means over the `n` tracked classes with ground truth, with `_per_class` [C] each;
        they can be negative, but for MOTSP. `masks` of the ground truth, `tp, fp, fn`, switches `ids`, `ignored`
        predictions, `iou` summed over TP, `ids_iou` summed over switches [C]; `overflow`, `invalid`.
        """
        sums = {name: tf.convert_to_tensor(getattr(self, name)) for name in (*self._names(), "ids", "ids_iou")}
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
            "overflow": tf.convert_to_tensor(self.overflow),
            "invalid": tf.convert_to_tensor(self.invalid),
        }

    def _names(self) -> tuple[str, ...]:
        return ("masks", "tp", "fp", "fn", "iou", "ignored")

    def _matches(self, true: tf.Tensor, pred: tf.Tensor, shared: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        true_class, true_tracked, no_id = self._tracked(true)
        pred_class, pred_tracked, _ = self._tracked(pred)
        union = _area(true, shared) + _area(pred, shared) - shared
        candidate = true_tracked & ~no_id & pred_tracked & (true_class == pred_class)
        matched = candidate & (2 * shared > union)
        return tf.where(matched, shared / tf.maximum(union, 1), 0.0), matched

    def _counts(self, true: tf.Tensor, pred: tf.Tensor, shared: tf.Tensor) -> dict[str, tf.Tensor]:
        true_class, true_tracked, no_id = self._tracked(true)
        pred_class, pred_tracked, _ = self._tracked(pred)
        iou, matched = self._matches(true, pred, shared)
        ignore = (true < 0) | (true_tracked & no_id)
        ignored_area = _area(pred, tf.where(ignore, shared, tf.zeros_like(shared)))
        pred_matched = _area(pred, tf.cast(matched, tf.int64)) > 0
        excused = pred_tracked & ~pred_matched & (2 * ignored_area > _area(pred, shared))
        # A mask occurs in several pairs and counts in the first of them.
        true_first, pred_first = _is_first(true) & (shared > 0), _is_first(pred) & (shared > 0)
        masks = self._per_class(true_tracked & ~no_id & true_first, true_class)
        tp = self._per_class(matched, true_class)
        ignored = self._per_class(excused & pred_first, pred_class)
        return {
            "masks": masks,
            "tp": tp,
            "fn": masks - tp,
            "fp": self._per_class(pred_tracked & pred_first, pred_class) - tp - ignored,
            "iou": self._per_class(iou, true_class),
            "ignored": ignored,
        }

    def _per_class(self, values: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(tf.cast(values, tf.float64), classes, self.labels.num_classes)


class PanopticTrackingQuality(_TrackingScores):
    """PTQ and sPTQ: PQ of single frames, of things and stuff, whose numerator is reduced at switches of track ids.

    PTQ subtracts the number of switches, sPTQ their IoU.
    """

    def __init__(self, *args, name: str = "panoptic_tracking_quality", **kwargs):
        """Makes the metric; the arguments are those of `_TrackingScores`."""
        super().__init__(*args, name=name, **kwargs)

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64: `ptq, sptq` are means over the `n` classes that occur, with `_per_class` [C]
        each; `tp, fp, fn, iou`, switches `ids` and their `ids_iou` [C]; `overflow`, `invalid`. PTQ can be negative.
        """
        sums = {name: tf.convert_to_tensor(getattr(self, name)) for name in (*self._names(), "ids", "ids_iou")}
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
            "overflow": tf.convert_to_tensor(self.overflow),
            "invalid": tf.convert_to_tensor(self.invalid),
        }

    def _names(self) -> tuple[str, ...]:
        return panoptic_quality.ImageCounts._fields

    def _matches(self, true: tf.Tensor, pred: tf.Tensor, shared: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        true_class, true_tracked, no_id = self._tracked(true)
        pred_class, pred_tracked, _ = self._tracked(pred)
        void = _area(pred, tf.where(true < 0, shared, tf.zeros_like(shared)))
        union = _area(true, shared) + _area(pred, shared) - void - shared
        candidate = true_tracked & ~no_id & pred_tracked & (true_class == pred_class)
        matched = candidate & (2 * shared > union)
        return tf.where(matched, shared / tf.maximum(union, 1), 0.0), matched

    def _counts(self, true: tf.Tensor, pred: tf.Tensor, shared: tf.Tensor) -> dict[str, tf.Tensor]:
        column = shared[:, tf.newaxis]
        counts = video_panoptic_quality.pair_counts(true, pred, column, column, self.labels, self.thing_ids)
        return {name: value[0] for name, value in counts._asdict().items()}


def _area(labels: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """The sum of `pixels` over all pairs of the same label, for every pair: [N], [N] -> [N]."""
    numbers = tubes.group(labels)
    return tf.gather(tf.math.unsorted_segment_sum(pixels, numbers, tf.size(labels)), numbers)


def _is_first(labels: tf.Tensor) -> tf.Tensor:
    """Whether a pair is the first of its label, [N] -> [N]."""
    numbers, places = tubes.group(labels), tf.range(tf.size(labels))
    return tf.gather(tf.math.unsorted_segment_min(places, numbers, tf.size(labels)), numbers) == places


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
    old_true, old_pred = tubes.split(tubes.used(last)[0])
    all_true = tf.concat([[-1], old_true, tf.where(matched, true, -1)], axis=0)
    all_pred = tf.concat([[-1], old_pred, pred], axis=0)
    numbers, size = tubes.group(all_true), tf.size(all_true)
    # The old pairs come first, each track at most once in the frame.
    places = tf.range(size)
    first = tf.math.unsorted_segment_min(places, numbers, size)
    newest = tf.math.unsorted_segment_max(places, numbers, size)
    before = tf.gather(first, numbers)
    switched = (before <= num_old) & (tf.gather(all_pred, before) != all_pred)
    switched = (matched & switched[num_old + 1 :]) & (true >= 0)

    there = tf.range(size) <= tf.reduce_max(numbers)
    newest = tf.where(there, newest, 0)
    keys = tubes.join(tf.gather(all_true, newest), tf.gather(all_pred, newest))
    keys = tf.where(there & (tf.gather(all_true, newest) >= 0), keys, tf.zeros_like(keys))
    table = tubes.collect(keys, tf.zeros([tf.size(keys), 1]), capacity)
    return table.keys, tf.ensure_shape(switched, matched.shape), table.overflow
