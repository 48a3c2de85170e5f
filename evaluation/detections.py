"""The instances that a panoptic map predicts, and a buffer that keeps a few numbers of each until the end.

Average precision sorts the predictions of all images by their score, so that sums alone do not do. What matching needs
is settled image by image; a record per prediction remembers the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from evaluation import additive, pairs, panoptic_metric, segments

_NUM_FIELDS = 5
_RANKS = 1024  # places for the rank of a prediction in a field that also holds the class


class Detections(NamedTuple):
    """The segments of an image; slots are those of `pairs.Overlaps`, S of them."""

    found: pairs.Overlaps
    true_classes: tf.Tensor  # [S] int32
    true_things: tf.Tensor  # [S] bool: holds a thing, crowds included
    crowds: tf.Tensor  # [S] bool
    pred_classes: tf.Tensor  # [S] int32
    pred_things: tf.Tensor  # [S] bool: is a detection
    scores: tf.Tensor  # [S] float64, of float32 precision
    ranks: tf.Tensor  # [S] int32: place among the detections of the same class, by score, then by first appearance
    order: tf.Tensor  # [S] int32: slots in the order in which predictions appear in the image
    finite: tf.Tensor  # bool: all scores are numbers


class Records(NamedTuple):
    """What is kept of all detections, [N] each."""

    classes: tf.Tensor  # int32
    ranks: tf.Tensor  # int32
    scores: tf.Tensor  # float64
    hits: tf.Tensor  # [N, D] bool: true positive
    errors: tf.Tensor  # [N, D] bool: false positive; neither of the two: it does not count


class DetectionMetric(panoptic_metric.PanopticMetric):
    """A metric of ranked detections; a child matches those of one image, in `_match`.

    Every replica fills its own rows of one buffer and leaves those of the others at zero, so that the sum over the
    replicas is all of them side by side. A record is what is not zero, which outlasts the division by the number of
    replicas that a checkpoint's restore makes.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        max_segments: int,
        max_detections: int,
        name: str,
    ):
        """Makes the states; raises ValueError where the arguments make no sense."""
        super().__init__(num_classes, ignore_label, label_divisor, thing_ids, max_segments=max_segments, name=name)
        self.max_detections = int(max_detections)
        if not self.thing_ids:
            raise ValueError("Expected at least one thing id: stuff has no instances to score.")
        if self.max_detections < 1:
            raise ValueError(f"Expected max_detections >= 1, got {max_detections}.")
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.records = self.add_total("records", (replicas, self.max_detections, _NUM_FIELDS))
        self.not_finite = self.add_total("not_finite")

    def update_state(
        self,
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        semantic_scores: tf.Tensor,
        instance_scores: tf.Tensor,
        image_ids: tf.Tensor | int = 0,
        *,
        strict: bool = False,
    ) -> None:
        """Adds one image [H, W] or several [B, H, W].

        Args:
            y_true: panoptic labels, integers; a thing with instance 0 is a crowd.
            y_pred: panoptic labels, integers; a segment of a thing is a detection.
            semantic_scores: how sure the class of every predicted pixel is.
            instance_scores: how sure the instance of every predicted pixel is. A detection's score is the product of
                the means of both over its pixels.
            image_ids: [B], below 2^53. Detections of the same score are taken by ascending id, as the tools do;
                without ids in the order in which they were added.
            strict: raises where an image could not be scored (not under XLA).

        Raises:
            ValueError: other types or shapes.
            tf.errors.InvalidArgumentError: `strict`, and an image could not be scored.
        """
        y_true, y_pred = additive.as_batch(y_true, y_pred)
        semantic, instance = (
            tf.cast(additive.as_frames(name, maps, y_true), tf.float64)
            for name, maps in (("semantic_scores", semantic_scores), ("instance_scores", instance_scores))
        )
        self._add_images(
            (y_true, y_pred, semantic, instance, additive.per_frame(image_ids, y_true, tf.float64)), strict
        )

    def add_matched(
        self,
        records: Records,
        image_ids: tf.Tensor,
        totals: Mapping[str, tf.Tensor],
    ) -> None:
        """Adds detections whose outcomes are known already, for instance those of masks that overlap.

        Args:
            records: of N detections; those of an image and class by their ranks. Scores of float32 precision.
            image_ids: [N], as in `update_state`.
            totals: what to add to the other states, by name.

        Raises:
            ValueError: more detections than there is room for.
        """
        if len(records.scores) > self.max_detections:
            raise ValueError(f"Expected at most {self.max_detections} detections, got {len(records.scores)}.")
        place = 1 + records.classes * _RANKS + tf.minimum(records.ranks, _RANKS - 1)
        fields = [place, records.scores, image_ids, _to_bits(records.hits), _to_bits(records.errors)]
        rows = tf.stack([tf.cast(field, tf.float64) for field in fields], axis=1)
        found = {"overflow": tf.zeros([], tf.float64), "records": rows, **totals}
        self._write({name: tf.cast(value, tf.float64)[tf.newaxis] for name, value in found.items()}, strict=True)

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {**super().get_config(), "max_detections": self.max_detections}

    def sorted_records(self, num_outcomes: int) -> Records:
        """All detections by class, then by descending score, then by image; `num_outcomes` = D."""
        rows = _flat(self.records)
        rows = tf.boolean_mask(rows, rows[:, 0] > 0.0)
        for column, direction in ((2, "ASCENDING"), (1, "DESCENDING")):
            rows = tf.gather(rows, tf.argsort(rows[:, column], direction=direction, stable=True))
        place = tf.cast(tf.round(rows[:, 0]), tf.int32) - 1
        order = tf.argsort(place // _RANKS, stable=True)
        rows, place = tf.gather(rows, order), tf.gather(place, order)
        return Records(
            classes=place // _RANKS,
            ranks=place % _RANKS,
            # The sum over replicas may have changed the last digits.
            scores=tf.cast(tf.cast(rows[:, 1], tf.float32), tf.float64),
            hits=_from_bits(rows[:, 3], num_outcomes),
            errors=_from_bits(rows[:, 4], num_outcomes),
        )

    def _join(self, name: str, states: list[tf.Tensor]) -> tf.Tensor:
        """Puts all records into the rows of this metric; raises ValueError where there is no room."""
        if name != "records":
            return super()._join(name, states)
        rows = tf.concat([_flat(each) for each in states], axis=0)
        rows = tf.boolean_mask(rows, rows[:, 0] > 0.0)
        replicas, capacity, _ = self.records.shape
        count, room = int(tf.shape(rows)[0]), replicas * capacity
        if count > room:
            raise ValueError(f"Expected at most {room} detections in all, got {count}: raise max_detections.")
        rows = tf.reshape(tf.pad(rows, [[0, room - count], [0, 0]]), [capacity, replicas, _NUM_FIELDS])
        return tf.transpose(rows, [1, 0, 2])

    def _match(
        self, found: Detections, y_true: tf.Tensor, y_pred: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Which detections to keep [S], their hits and errors [S, D], and what the image adds to sums."""
        raise NotImplementedError(f"{type(self).__name__} does not define _match().")

    @tf.autograph.experimental.do_not_convert  # as in `AdditiveMetric.add_frames`
    def _add_images(self, inputs: tuple[tf.Tensor, ...], strict: bool) -> None:
        """Adds what images [B, ...] amount to."""
        if inputs[0].shape[0] == 1:
            found = {name: value[tf.newaxis] for name, value in self._image(*[each[0] for each in inputs]).items()}
        else:
            names = sorted(v.name.split(":")[0] for v in self.variables)
            shapes = {name: getattr(self, name).shape for name in names}
            shapes["records"] = tf.TensorShape([self.max_segments + 1, _NUM_FIELDS])
            found = tf.map_fn(
                lambda image: self._image(*image),
                inputs,
                fn_output_signature={name: tf.TensorSpec(shape, tf.float64) for name, shape in shapes.items()},
            )
        self._write(found, strict)

    def _image(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, semantic: tf.Tensor, instance: tf.Tensor, image_id: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """What one image adds; its records are [S, fields]."""
        found = detect(y_true, y_pred, semantic, instance, self.labels, self.thing_ids, max_segments=self.max_segments)
        kept, hits, errors, totals = self._match(found, y_true, y_pred)
        rows = tf.stack(
            [
                tf.cast(1 + found.pred_classes * _RANKS + tf.minimum(found.ranks, _RANKS - 1), tf.float64),
                found.scores,
                tf.fill(tf.shape(found.scores), image_id),
                _to_bits(hits),
                _to_bits(errors),
            ],
            axis=1,
        )
        rows = tf.gather(tf.where(kept[:, tf.newaxis], rows, 0.0), found.order)
        totals = pairs.scored(found.found, {"records": rows, **totals})
        sound = found.finite | (totals["overflow"] + totals["invalid"] > 0.0)
        totals = {
            name: value if name in additive.FAULTS else tf.where(sound, value, tf.zeros_like(value))
            for name, value in totals.items()
        }
        return {**totals, "not_finite": tf.cast(~sound, tf.float64)}

    def _write(self, found: dict[str, tf.Tensor], strict: bool) -> None:
        """Writes what images [B, ...] add into the states; images for whose records there is no room are left out."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = found.pop("records")
        used = tf.cast(rows[:, :, 0] > 0.0, tf.int32)  # [B, S]
        count = tf.reduce_sum(used, axis=1)
        own = tf.gather(tf.convert_to_tensor(self.records), replica)
        taken = tf.reduce_sum(tf.cast(own[:, 0] > 0.0, tf.int32))
        after = tf.scan(
            lambda taken, count: tf.where(taken + count > self.max_detections, taken, taken + count), count, taken
        )
        before = tf.concat([taken[tf.newaxis], after], axis=0)[:-1]
        fits = before + count <= self.max_detections
        place = before[:, tf.newaxis] + tf.cumsum(used, axis=1, exclusive=True)
        place = tf.where(fits[:, tf.newaxis] & (used > 0), place, self.max_detections)
        update = tf.scatter_nd(
            tf.reshape(place, [-1, 1]),
            tf.reshape(rows, [-1, _NUM_FIELDS]),
            tf.constant([self.max_detections + 1, _NUM_FIELDS]),
        )[:-1]
        mine = tf.one_hot(replica, self.records.shape[0], dtype=tf.float64)
        totals = {
            name: tf.reduce_sum(tf.where(tf.reshape(fits, [-1] + [1] * (value.shape.rank - 1)), value, 0.0), axis=0)
            for name, value in found.items()
        }
        totals["overflow"] += tf.reduce_sum(tf.cast(~fits, tf.float64))
        totals["records"] = mine[:, tf.newaxis, tf.newaxis] * update
        self._assert_sound(totals, strict)
        for name, value in totals.items():
            getattr(self, name).assign_add(value)


def detect(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    semantic: tf.Tensor,
    instance: tf.Tensor,
    labels: segments.Labels,
    thing_ids: Sequence[int],
    *,
    max_segments: int,
) -> Detections:
    """Two label maps and two maps of scores (float64) of one image [H, W] -> its detections."""
    found = pairs.overlaps(y_true, y_pred, labels, max_segments=max_segments)
    meeting, size = found.pairs, max_segments + 1
    is_thing = segments.members(thing_ids, labels)
    true_classes, true_used = segments.slot_classes(meeting.true_labels, labels)
    pred_classes, pred_used = segments.slot_classes(meeting.pred_labels, labels)
    true_things = true_used & tf.gather(is_thing, true_classes)
    pred_things = pred_used & tf.gather(is_thing, pred_classes)

    area = tf.cast(tf.maximum(meeting.sum_by_pred(found.counts[:, 0]), 1), tf.float64)
    run_slots = tf.gather(meeting.pred, found.of_runs)
    pixel_slots = segments.per_pixel(run_slots, found.pixels)
    semantic, instance = (
        tf.math.unsorted_segment_sum(tf.reshape(each, [-1]), pixel_slots, size) / area for each in (semantic, instance)
    )
    scores = tf.cast(semantic, tf.float32) * tf.cast(instance, tf.float32)
    finite = tf.reduce_all(tf.math.is_finite(scores) | ~pred_things)
    scores = tf.cast(tf.where(pred_things & tf.math.is_finite(scores), scores, 0.0), tf.float64)
    order = tf.argsort(tf.math.unsorted_segment_min(tf.range(tf.size(run_slots)), run_slots, size), stable=True)
    return Detections(
        found=found,
        true_classes=true_classes,
        true_things=true_things,
        crowds=true_things & (meeting.true_labels % labels.label_divisor == 0),
        pred_classes=pred_classes,
        pred_things=pred_things,
        scores=scores,
        ranks=_ranks(tf.where(pred_things, pred_classes, labels.num_classes), scores, order, labels.num_classes + 1),
        order=order,
        finite=finite,
    )


def _ranks(classes: tf.Tensor, scores: tf.Tensor, order: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Places among those of the same class, by descending score, then as in `order`: [S] each -> [S] int32."""
    order = tf.gather(order, tf.argsort(tf.gather(scores, order), direction="DESCENDING", stable=True))
    order = tf.gather(order, tf.argsort(tf.gather(classes, order), stable=True))
    sizes = tf.math.unsorted_segment_sum(tf.ones_like(classes), classes, num_classes)
    first = tf.gather(tf.cumsum(sizes, exclusive=True), tf.gather(classes, order))
    return tf.math.unsorted_segment_sum(tf.range(tf.size(classes)) - first, order, tf.size(classes))


def _flat(records: tf.Tensor) -> tf.Tensor:
    """[replicas, N, fields] -> [N * replicas, fields], in the order of places."""
    return tf.reshape(tf.transpose(tf.convert_to_tensor(records), [1, 0, 2]), [-1, _NUM_FIELDS])


def _to_bits(outcomes: tf.Tensor) -> tf.Tensor:
    """[S, D] bool -> [S] float64, exact for D <= 52."""
    weights = tf.constant([2.0**power for power in range(outcomes.shape[1])], tf.float64)
    return tf.reduce_sum(tf.where(outcomes, weights, 0.0), axis=1)


def _from_bits(values: tf.Tensor, num_outcomes: int) -> tf.Tensor:
    """[N] float64 -> [N, num_outcomes] bool."""
    bits = tf.cast(tf.round(values), tf.int64)[:, tf.newaxis]
    return tf.bitwise.bitwise_and(bits, tf.constant([2**power for power in range(num_outcomes)], tf.int64)) > 0
