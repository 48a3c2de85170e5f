"""Average precision of instance masks, of COCO ("Microsoft COCO", Lin et al., 2014, arXiv 1405.0312) and of Cityscapes
("The Cityscapes Dataset", Cordts et al., 2016, arXiv 1604.01685), from panoptic maps.

Instances of a panoptic map do not overlap, so that beyond an IoU of 0.5 they match at most one of the other map; the
tools' search for the best match is needed at exactly 0.5 alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from evaluation import additive, boundary_quality, detections, pairs

COCO_STATS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
_COCO_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_AREAS = ((0, 10**10), (0, 32**2), (32**2, 96**2), (96**2, 10**10))  # pixels, both ends included
_MAX_PER_CLASS = 100
_CITYSCAPES_IOUS = np.arange(0.5, 1.0, 0.05)


class CocoAveragePrecision(detections.DetectionMetric):
    """AP and AR as pycocotools gives them.

    In the ground truth a thing class with instance 0 is a crowd, whose detections do not count. Of every image and
    class the 100 best detections count.

    An image with more than `max_segments` segments in a map, with labels outside of the classes, with scores that are
    no numbers, or with detections beyond `max_detections` per replica, is not scored at all; the results `overflow`,
    `invalid` and `not_finite` count such images.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        max_segments: int = 512,
        max_detections: int = 2**17,
        boundary_ratio: float | None = None,
        name: str = "coco_average_precision",
    ):
        """Makes the metric.

        Args:
            num_classes: C; includes the void class where that is one of them.
            ignore_label: class of void, inside the classes or outside.
            label_divisor: labels are `class * label_divisor + instance`.
            thing_ids: class ids of things, the others have no instances.
            max_segments: capacity per image and map.
            max_detections: capacity in all, per replica; 40 bytes each, and every update passes over all of them.
            boundary_ratio: boundary AP: the lower of IoU and boundary IoU decides, boundaries being that share of the
                image's diagonal wide (0.02).
            name: name of the metric.

        Raises:
            ValueError: thing ids outside of the classes, labels beyond int32, or no room.
        """
        super().__init__(
            num_classes,
            ignore_label,
            label_divisor,
            thing_ids,
            max_segments=max_segments,
            max_detections=max_detections,
            name=name,
        )
        self.boundary_ratio = None if boundary_ratio is None else boundary_quality.check_dilation(boundary_ratio)
        self.num_true = self.add_total("num_true", (self.labels.num_classes, len(_AREAS)))

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64 in [0, 1], or -1 where there is no ground truth.

        COCO_STATS in the order of the tool's summary, `n` the number of classes with instances, `ap_per_class` [C] (-1
        for stuff), `precision` [10 IoUs, 101 recalls, things, 4 areas] and `recall` [10, things, 4] as the tool has
        them, with at most 100 detections, `overflow`, `invalid` and `not_finite` the numbers of images left out.
        """
        num_true = tf.gather(tf.convert_to_tensor(self.num_true), self.thing_ids)  # [things, areas]
        found = self.sorted_records(len(_AREAS) * len(_COCO_IOUS))
        things = _positions(found.classes, self.thing_ids, self.labels.num_classes)
        precision = _interpolated(found, things, num_true)
        recall = {count: _recall(found, things, num_true, count) for count in (1, 10, _MAX_PER_CLASS)}
        limited = recall[_MAX_PER_CLASS]
        values = [
            *[_mean(each[..., :1]) for each in (precision, precision[0], precision[5])],
            *[_mean(precision[..., area : area + 1]) for area in (1, 2, 3)],
            *[_mean(each[..., :1]) for each in recall.values()],
            *[_mean(limited[..., area : area + 1]) for area in (1, 2, 3)],
        ]
        per_thing = tf.reduce_mean(precision[..., 0], axis=[0, 1])  # without ground truth all entries are -1
        per_class = tf.tensor_scatter_nd_update(
            tf.fill([self.labels.num_classes], tf.constant(-1.0, tf.float64)),
            tf.constant(self.thing_ids, tf.int32, [len(self.thing_ids), 1]),
            per_thing,
        )
        return {
            **dict(zip(COCO_STATS, values)),
            "n": tf.reduce_sum(tf.cast(num_true[:, 0] > 0.0, tf.float64)),
            "ap_per_class": per_class,
            "precision": precision,
            "recall": limited,
            **self.faults(),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {**super().get_config(), "boundary_ratio": self.boundary_ratio}

    def _match(
        self, found: detections.Detections, y_true: tf.Tensor, y_pred: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        meeting, counts = found.found.pairs, found.found.counts[:, 0]
        true_area, pred_area = meeting.sum_by_true(counts), meeting.sum_by_pred(counts)
        kept = found.pred_things & (found.ranks < _MAX_PER_CLASS)
        same = meeting.of_true(tf.where(found.true_things, found.true_classes, -1)) == meeting.of_pred(
            tf.where(kept, found.pred_classes, -2)
        )
        crowd = meeting.of_true(found.crowds)
        iou = _ious(meeting, counts)
        if self.boundary_ratio is not None:
            # The same maps give the same pairs.
            _, boundary_iou = boundary_quality.overlaps(
                y_true,
                y_pred,
                self.labels,
                max_segments=self.max_segments,
                dilation_ratio=self.boundary_ratio,
                void_counts=True,
            )
            iou = tf.minimum(iou, boundary_iou)
        candidates = same & ~crowd & (iou >= 0.5)
        on_crowd = meeting.sum_by_pred(tf.where(same & crowd, counts, 0))
        on_crowd = (on_crowd / tf.maximum(pred_area, 1))[:, tf.newaxis] >= _COCO_IOUS

        size = self.max_segments + 1
        real = found.true_things & ~found.crowds
        hits, errors, num_true = [], [], []
        for smallest, largest in _AREAS:
            true_inside, pred_inside = ((area >= smallest) & _at_most(area, largest) for area in (true_area, pred_area))
            # Of two instances that share an IoU of 0.5 with a detection, one that counts is preferred, then the later.
            preference = tf.range(1, size + 1) + tf.where(true_inside, size, 0)
            preference = tf.where(candidates, meeting.of_true(preference), 0)
            chosen = meeting.max_by_pred(preference)
            best_iou = tf.where(candidates & (preference == meeting.of_pred(chosen)), iou, 0.0)
            best_iou = meeting.max_by_pred(best_iou)
            best, chosen = (chosen - 1) % size, chosen > 0
            # Of two detections the first one takes the instance.
            ranks = tf.where(chosen, found.ranks, size)
            first = tf.math.unsorted_segment_min(ranks, best, size)
            chosen &= found.ranks == tf.gather(first, best)
            matched = chosen[:, tf.newaxis] & (best_iou[:, tf.newaxis] >= _COCO_IOUS)
            counting = tf.gather(true_inside, best)[:, tf.newaxis]
            hits.append(matched & counting)
            errors.append(~matched & ~on_crowd & pred_inside[:, tf.newaxis])
            num_true.append(
                tf.math.unsorted_segment_sum(
                    tf.cast(real & true_inside, tf.float64), found.true_classes, self.labels.num_classes
                )
            )
        return kept, tf.concat(hits, axis=1), tf.concat(errors, axis=1), {"num_true": tf.stack(num_true, axis=1)}


class CityscapesAveragePrecision(detections.DetectionMetric):
    """AP as the Cityscapes scripts give it.

    Instances of fewer than `min_region` pixels, and crowds (a thing with instance 0), are no targets; detections that
    lie on them, or on void, do not count.

    Images are left out as in `CocoAveragePrecision`.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        min_region: int = 100,
        max_segments: int = 512,
        max_detections: int = 2**16,
        name: str = "cityscapes_average_precision",
    ):
        """Makes the metric; arguments as those of `CocoAveragePrecision`, `min_region` in pixels."""
        super().__init__(
            num_classes,
            ignore_label,
            label_divisor,
            thing_ids,
            max_segments=max_segments,
            max_detections=max_detections,
            name=name,
        )
        self.min_region = int(min_region)
        self.num_true = self.add_total("num_true", (self.labels.num_classes,))

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64 in [0, 1].

        `ap` and `ap50` (IoU above 0.5 only) are means over the `n` classes with targets, 0 if there is none;
        `ap_per_class` and `ap50_per_class` [C], `ap_per_iou` [things, 10] (nan without targets); `overflow`, `invalid`
        and `not_finite` the numbers of images left out.
        """
        num_true = tf.gather(tf.convert_to_tensor(self.num_true), self.thing_ids)
        found = self.sorted_records(len(_CITYSCAPES_IOUS))
        things = _positions(found.classes, self.thing_ids, self.labels.num_classes)
        values = _area_under_curve(found, things, num_true)
        occurs = num_true > 0.0
        count = tf.reduce_sum(tf.cast(occurs, tf.float64))
        nan = tf.constant(float("nan"), tf.float64)

        def per_class(of_things: tf.Tensor) -> tf.Tensor:
            return tf.tensor_scatter_nd_update(
                tf.fill([self.labels.num_classes], nan),
                tf.constant(self.thing_ids, tf.int32, [len(self.thing_ids), 1]),
                tf.where(occurs, of_things, nan),
            )

        means = tf.reduce_mean(values, axis=1)
        return {
            "ap": tf.math.divide_no_nan(tf.reduce_sum(tf.where(occurs, means, 0.0)), count),
            "ap50": tf.math.divide_no_nan(tf.reduce_sum(tf.where(occurs, values[:, 0], 0.0)), count),
            "n": count,
            "ap_per_class": per_class(means),
            "ap50_per_class": per_class(values[:, 0]),
            "ap_per_iou": tf.where(occurs[:, tf.newaxis], values, nan),
            **self.faults(),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {**super().get_config(), "min_region": self.min_region}

    def _match(
        self, found: detections.Detections, y_true: tf.Tensor, y_pred: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        meeting, counts = found.found.pairs, found.found.counts[:, 0]
        true_area, pred_area = meeting.sum_by_true(counts), meeting.sum_by_pred(counts)
        targets = found.true_things & ~found.crowds & (true_area >= self.min_region)
        others = found.true_things & ~targets
        same = meeting.of_true(found.true_classes) == meeting.of_pred(found.pred_classes)
        iou = tf.where(same, _ious(meeting, counts), 0.0)

        def exceeds(values: tf.Tensor) -> tf.Tensor:
            return values[:, tf.newaxis] > _CITYSCAPES_IOUS

        hits, on_others = (
            exceeds(meeting.max_by_pred(tf.where(meeting.of_true(each), iou, 0.0))) for each in (targets, others)
        )
        # The tool counts a crowd that is also small twice.
        times = tf.cast(found.crowds, tf.int32) + tf.cast(found.true_things & (true_area < self.min_region), tf.int32)
        excused = meeting.sum_by_pred(
            tf.where(meeting.of_true(meeting.true_labels) < 0, counts, 0)
            + tf.where(same, counts * meeting.of_true(times), 0)
        )
        errors = ~hits & ~on_others & ~exceeds(excused / tf.maximum(pred_area, 1))
        num_true = tf.math.unsorted_segment_sum(
            tf.cast(targets, tf.float64), found.true_classes, self.labels.num_classes
        )
        return found.pred_things, hits, errors, {"num_true": num_true}


def _ious(meeting: pairs.Pairs, counts: tf.Tensor) -> tf.Tensor:
    """Pixels of pairs [N] -> their IoU [N] float64."""
    areas = meeting.of_true(meeting.sum_by_true(counts)) + meeting.of_pred(meeting.sum_by_pred(counts))
    return counts / tf.maximum(areas - counts, 1)


def _at_most(area: tf.Tensor, largest: int) -> tf.Tensor:
    return area <= min(largest, area.dtype.max)


def _positions(classes: tf.Tensor, thing_ids: Sequence[int], num_classes: int) -> tf.Tensor:
    """Class ids -> places in `thing_ids`."""
    table = np.zeros(num_classes, np.int32)
    table[list(thing_ids)] = range(len(thing_ids))
    return tf.gather(tf.constant(table), classes)


def _running(outcomes: tf.Tensor, things: tf.Tensor, num_things: int) -> tf.Tensor:
    """How many there are up to each detection of its class: [N, D] bool -> [N, D] float64."""
    sums = tf.pad(tf.cumsum(tf.cast(outcomes, tf.float64), axis=0), [[1, 0], [0, 0]])
    sizes = tf.math.bincount(things, minlength=num_things, maxlength=num_things)
    starts = tf.gather(tf.cumsum(sizes, exclusive=True), things)
    return sums[1:] - tf.gather(sums, starts)


def _interpolated(found: detections.Records, things: tf.Tensor, num_true: tf.Tensor) -> tf.Tensor:
    """The best precision at a recall of at least each of 101: [10 IoUs, 101, things, areas]; -1 without instances."""
    num_things, num_areas = num_true.shape
    num_ious, num_columns = len(_COCO_IOUS), num_areas * len(_COCO_IOUS)
    tp, fp = (_running(each, things, num_things) for each in (found.hits, found.errors))
    per_column = tf.repeat(num_true, num_ious, axis=1)  # [things, areas * ious]
    recall = additive.ratio(tp, tf.gather(per_column, things))
    precision = tp / (tp + fp + np.spacing(1))
    reached = tf.searchsorted(tf.constant(_RECALLS), tf.reshape(recall, [-1]), side="right") - 1
    cells = (tf.range(num_columns) * num_things + things[:, tf.newaxis]) * len(_RECALLS)
    best = tf.math.unsorted_segment_max(
        tf.reshape(precision, [-1]), tf.reshape(cells, [-1]) + reached, num_columns * num_things * len(_RECALLS)
    )
    best = tf.reshape(tf.maximum(best, 0.0), [num_areas, num_ious, num_things, len(_RECALLS)])
    shift = 1
    while shift < len(_RECALLS):  # what is reached at a higher recall is reached at a lower one
        best = tf.maximum(best, tf.pad(best[..., shift:], [[0, 0], [0, 0], [0, 0], [0, shift]]))
        shift *= 2
    occurs = tf.transpose(num_true > 0.0)[:, tf.newaxis, :, tf.newaxis]
    return tf.transpose(tf.where(occurs, best, -1.0), [1, 3, 2, 0])


def _recall(found: detections.Records, things: tf.Tensor, num_true: tf.Tensor, count: int) -> tf.Tensor:
    """Share of instances that the first `count` detections per image find: [10 IoUs, things, areas]; -1 without any."""
    num_things, num_areas = num_true.shape
    hits = found.hits & (found.ranks < count)[:, tf.newaxis]
    hits = tf.math.unsorted_segment_sum(tf.cast(hits, tf.float64), things, num_things)
    hits = tf.transpose(tf.reshape(hits, [num_things, num_areas, len(_COCO_IOUS)]), [2, 0, 1])
    return tf.where(num_true > 0.0, additive.ratio(hits, num_true), -1.0)


def _mean(values: tf.Tensor) -> tf.Tensor:
    """Mean of what is not -1; -1 if there is nothing."""
    valid = tf.cast(values > -1.0, tf.float64)
    count = tf.reduce_sum(valid)
    return tf.where(count > 0.0, tf.math.divide_no_nan(tf.reduce_sum(values * valid), count), -1.0)


def _area_under_curve(found: detections.Records, things: tf.Tensor, num_true: tf.Tensor) -> tf.Tensor:
    """Sum of precision times half the recall between the neighbours of every score: [things, IoUs].

    Detections of one score are one point of the curve. Repeating a point does not change the sum, so each of them
    stands for it, and those that do not count repeat their neighbour.
    """
    num_things = num_true.shape[0]
    tp, fp = (_running(each, things, num_things) for each in (found.hits, found.errors))
    other_class = things[1:] != things[:-1]
    starts = tf.concat([[True], other_class], axis=0)[: tf.size(things)]
    ends = tf.concat([other_class, [True]], axis=0)[: tf.size(things)]
    new_score = tf.concat([[True], other_class | (found.scores[1:] != found.scores[:-1])], axis=0)[: tf.size(things)]
    group = tf.cumsum(tf.cast(new_score, tf.int32)) - 1
    last = tf.math.unsorted_segment_max(tf.range(tf.size(things)), group, tf.size(things))
    tp, fp = (tf.gather(each, tf.gather(last, group)) for each in (tp, fp))
    recall = additive.ratio(tp, tf.gather(num_true, things)[:, tf.newaxis])
    precision = tf.where(tp + fp > 0.0, additive.ratio(tp, tp + fp), 1.0)
    # Ahead of the best score lies the point of precision 1 and recall 0.
    higher = tf.where(starts[:, tf.newaxis], 0.0, tf.concat([recall[:1], recall[:-1]], axis=0))
    lower = tf.where(ends[:, tf.newaxis], recall, tf.concat([recall[1:], recall[-1:]], axis=0))
    area = precision * (lower - higher) / 2.0 + tf.where(starts[:, tf.newaxis], recall / 2.0, 0.0)
    return tf.math.unsorted_segment_sum(area, things, num_things)
