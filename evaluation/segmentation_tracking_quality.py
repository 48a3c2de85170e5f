"""Segmentation and tracking quality of videos: STQ, AQ and SQ.

"STEP: Segmenting and Tracking Every Pixel", Weber et al., 2021, arXiv 2102.11859. Equal to the implementation that was
published with it, which counts pixels in float32 where this one is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from evaluation import additive, mean_iou, pairs, panoptic_metric, segments, tubes


class SegmentationTrackingQuality(panoptic_metric.PanopticMetric):
    """STQ of label maps `class * label_divisor + track id`: geometric mean of association (AQ) and segmentation (SQ).

    Tubes are the labels of tracked classes over a whole sequence. Association ignores classes, but a track that changes
    its class is two tubes. Ground truth of a tracked class with id 0 is a crowd, whose pixels belong to no tube
    on either side; a prediction on void still makes its tube larger. SQ is the mean IoU of all pixels, with one more
    class of IoU 0 if any valid pixel is predicted void.

    Frames are given one after the other. A sequence is scored when the next one begins, or by `flush()`, which must
    end the last one; the result `unflushed` counts frames whose tubes are not scored yet. A frame with more than
    `max_segments` segments, one that brings the sequence above `max_pairs` pairs of overlapping tubes, and one with
    labels outside of the classes are left out; the results `overflow` and `invalid` count such frames.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        max_segments: int = 512,
        max_pairs: int = 65536,
        max_sequences: int = 0,
        name: str = "segmentation_tracking_quality",
    ):
        """Makes the metric.

        Args:
            num_classes: C; includes the void class where that is one of them.
            ignore_label: class of void, inside the classes or outside.
            label_divisor: labels are `class * label_divisor + track id`.
            thing_ids: class ids that are tracked (KITTI-STEP 11 and 13); ids of other classes are ignored.
            max_segments: capacity per frame and map.
            max_pairs: capacity per sequence: pairs of overlapping tubes.
            max_sequences: S, how many sequences have results of their own: those with ids in [0, S).
            name: name of the metric.

        Raises:
            ValueError: thing ids outside of the classes, capacities below 1, or labels beyond int32.
        """
        super().__init__(num_classes, ignore_label, label_divisor, thing_ids, max_segments=max_segments, name=name)
        self.max_pairs, self.max_sequences = int(max_pairs), int(max_sequences)
        if self.max_pairs < 1 or self.max_sequences < 0:
            raise ValueError(f"Expected max_pairs >= 1 and max_sequences >= 0, got {max_pairs} and {max_sequences}.")
        size = self.labels.num_classes + 1
        for name, shape in (("aq", ()), ("num_tubes", ()), ("length", ()), ("confusion", (size, size))):
            self.add_of_all_and_each(name, shape)
        self.scored_length = self.add_total("scored_length")
        self.sequences_beyond = self.add_total("sequences_beyond")
        self.keys = self.add_scratch("keys", (self.max_pairs,), tf.int64)
        self.pixels = self.add_scratch("pixels", (self.max_pairs, 1))
        self.sequence = self.add_scratch("sequence", (), tf.int64)
        self.frames = self.add_scratch("frames")

    def update_state(
        self,
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        sequence_id: tf.Tensor | int = 0,
        weights: tf.Tensor | None = None,
        *,
        strict: bool = False,
    ) -> None:
        """Adds one frame [H, W] or several consecutive ones [B, H, W]; integers.

        Args:
            y_true: ground truth.
            y_pred: prediction.
            sequence_id: integer that changes where a sequence begins, scalar or [B].
            weights: what a pixel counts, of the shape of the maps and >= 0; None: 1. For panoramas, 1 / number of
                cameras that see the pixel.
            strict: whether a frame that cannot be scored raises tf.errors.InvalidArgumentError (not under XLA).
        """
        self.add_frames(self._frame, self._inputs(y_true, y_pred, sequence_id, weights), strict)

    def flush(self) -> None:
        """Scores the running sequence; call it after the last frame, with replicas inside of each (`strategy.run`)."""
        self.end_sequence(self._scored)

    def result(self) -> dict[str, tf.Tensor]:
        """The values of the sequences that have ended, float64.

        `stq, aq, sq` in [0, 1]; `num_tubes` of the ground truth, `length` in frames, `num_classes` of SQ (the one for
        predicted void included), `confusion` [C + 1, C + 1] (rows ground truth, last index void). Without tubes AQ and
        STQ are 0; without a valid pixel SQ and STQ are nan. The same with `_per_seq`, [S, ...]. `unflushed` counts
        frames whose tubes are still to be scored, `overflow` and `invalid` frames left out, `sequences_beyond` frames
        of sequences with an id outside of [0, max_sequences) if that is not 0; they count in the totals alone.
        """
        result: dict[str, tf.Tensor] = {}
        for suffix in ("", "_per_seq"):
            names = ("aq", "num_tubes", "length", "confusion")
            aq_sum, num_tubes, length, confusion = (
                tf.convert_to_tensor(getattr(self, name + suffix)) for name in names
            )
            aq = tf.math.divide_no_nan(aq_sum, num_tubes)
            sq, num_classes = mean_iou.stq_mean(confusion)
            values = {
                "stq": tf.sqrt(aq * sq),
                "aq": aq,
                "sq": sq,
                "num_tubes": num_tubes,
                "num_classes": num_classes,
                "length": length,
                "confusion": confusion,
            }
            result.update({name + suffix: value for name, value in values.items()})
        result["unflushed"] = result["length"] - tf.convert_to_tensor(self.scored_length)
        return {**result, "sequences_beyond": tf.convert_to_tensor(self.sequences_beyond), **self.faults()}

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {**super().get_config(), "max_pairs": self.max_pairs, "max_sequences": self.max_sequences}

    def add_of_all_and_each(self, name: str, shape: tuple[int, ...]) -> None:
        """Adds a sum over all sequences, and one per sequence."""
        setattr(self, name, self.add_total(name, shape))
        setattr(self, f"{name}_per_seq", self.add_total(f"{name}_per_seq", (self.max_sequences, *shape)))

    def of_all_and_each(self, sequence: tf.Tensor, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        """What a sequence adds to both."""
        totals = dict(values)
        row = tf.one_hot(sequence, self.max_sequences, dtype=tf.float64)
        for name, value in values.items():
            totals[f"{name}_per_seq"] = tf.tensordot(row, value, axes=0)
        return totals

    def _inputs(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sequence_id: tf.Tensor | int, weights: tf.Tensor | None
    ) -> list[tf.Tensor]:
        inputs = list(additive.as_batch(y_true, y_pred))
        inputs.append(additive.per_frame(sequence_id, inputs[0], tf.int64))
        if weights is not None:
            inputs.append(tf.cast(additive.as_frames("weights", weights, inputs[0]), tf.float64))
        return inputs

    def _frame(
        self,
        scratch: dict[str, tf.Tensor],
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        sequence: tf.Tensor,
        weights: tf.Tensor | None = None,
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        begins = (scratch["frames"] > 0.0) & (scratch["sequence"] != sequence)
        scratch, scored = tf.cond(begins, lambda: self._scored(scratch), lambda: (scratch, self._nothing_scored()))
        found = tubes.frame_pairs(y_true, y_pred, self.labels, max_segments=self.max_segments, weights=weights)
        true, pred = pairs.split(found.keys)
        counts = tf.cast(found.counts, tf.float64)
        table = self._extended(scratch["keys"], scratch["pixels"], true, pred, counts)
        overflow = found.overflow | table.overflow
        ok = ~(overflow | found.invalid)
        factor = tf.cast(ok, tf.float64)
        of_frame = {"confusion": self._confusion(true, pred, counts[:, 0], found.void[0]) * factor, "length": factor}
        beyond = (self.max_sequences > 0) & ((sequence < 0) | (sequence >= self.max_sequences))
        scratch = {
            "keys": tf.where(ok, table.keys, scratch["keys"]),
            "pixels": tf.where(ok, table.counts, scratch["pixels"]),
            "sequence": sequence,
            "frames": scratch["frames"] + factor,
        }
        return scratch, {
            **scored,
            **self.of_all_and_each(sequence, **of_frame),
            "sequences_beyond": tf.cast(beyond, tf.float64),
            "overflow": tf.cast(overflow, tf.float64),
            "invalid": tf.cast(found.invalid, tf.float64),
        }

    def _extended(
        self, keys: tf.Tensor, pixels: tf.Tensor, true: tf.Tensor, pred: tf.Tensor, counts: tf.Tensor
    ) -> tubes.Table:
        """The table of tubes with another frame."""
        true_class, true_used = segments.slot_classes(true, self.labels)
        pred_class, pred_used = segments.slot_classes(pred, self.labels)
        tracked = self.things()
        true_thing = true_used & tf.gather(tracked, true_class)
        crowd = true_thing & (true % self.labels.label_divisor == 0)
        true_tube = true_thing & ~crowd
        pred_tube = pred_used & tf.gather(tracked, pred_class) & ~crowd
        new = pairs.join(tf.where(true_tube, true, -1), tf.where(pred_tube, pred, -1))
        keys, pixels = tubes.used(keys, pixels)
        return tubes.collect(tf.concat([keys, new], 0), tf.concat([pixels, counts], 0), self.max_pairs)

    def _confusion(self, true: tf.Tensor, pred: tf.Tensor, counts: tf.Tensor, void: tf.Tensor) -> tf.Tensor:
        size = self.labels.num_classes + 1
        classes = [
            tf.where(used, found, self.labels.num_classes)
            for found, used in (segments.slot_classes(each, self.labels) for each in (true, pred))
        ]
        numbers = tf.concat([classes[0] * size + classes[1], [size * size - 1]], axis=0)
        counts = tf.concat([counts, [tf.cast(void, tf.float64)]], axis=0)
        return tf.reshape(tf.math.unsorted_segment_sum(counts, numbers, size * size), [size, size])

    def _scored(self, scratch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """What a sequence that has ended adds to the sums, and the scratch for the next."""
        keys, pixels = tubes.used(scratch["keys"], scratch["pixels"])
        aq, num_tubes = association(keys, pixels[:, 0])
        totals = self.of_all_and_each(scratch["sequence"], aq=aq, num_tubes=num_tubes)
        totals["scored_length"] = scratch["frames"]
        return {name: tf.zeros_like(value) for name, value in scratch.items()}, totals

    def _nothing_scored(self) -> dict[str, tf.Tensor]:
        zero = tf.zeros([], tf.float64)
        return {
            **self.of_all_and_each(tf.zeros([], tf.int64), aq=zero, num_tubes=zero),
            "scored_length": zero,
        }


def association(keys: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The sum of AQ(g) over the ground-truth tubes, and their number: keys [N] int64, pixels [N] float64."""
    found = pairs.pairs_of(*pairs.split(keys))
    true_area, pred_area = found.sum_by_true(pixels), found.sum_by_pred(pixels)
    num_tubes = tf.reduce_sum(tf.cast((found.true_labels >= 0) & (true_area > 0.0), tf.float64))
    own, other = found.of_true(true_area), found.of_pred(pred_area)
    both = (found.of_true(found.true_labels) >= 0) & (found.of_pred(found.pred_labels) >= 0)
    shared = tf.where(both, pixels, 0.0)
    iou = tf.math.divide_no_nan(shared, own + other - shared)
    return tf.reduce_sum(tf.math.divide_no_nan(shared * iou, own)), num_tubes
