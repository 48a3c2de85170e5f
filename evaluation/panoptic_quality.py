"""Panoptic, segmentation and recognition quality, equal to the official COCO and Cityscapes tools.

"Panoptic Segmentation", Kirillov et al., 2019, arXiv 1801.00868.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import tensorflow as tf

from evaluation import additive, pairs, panoptic_metric, segments


class Counts(NamedTuple):
    """What the matches of segments add to the totals, [..., C] float64 each."""

    iou: tf.Tensor
    tp: tf.Tensor
    fp: tf.Tensor
    fn: tf.Tensor


class PanopticQuality(panoptic_metric.PanopticMetric, additive.ImageMetric):
    """PQ, SQ and RQ of label maps `class * label_divisor + instance`.

    Void is the ignored class with any instance. In the ground truth a thing class with instance 0 is a crowd, which
    cannot be matched or missed and excuses false positives of its own class. In a prediction it is a segment like any
    other. A predicted void means that nothing was predicted there.

    An image with more than `max_segments` segments (in the ground truth or the prediction), or with labels outside of
    the classes, is not scored at all; the results `overflow` and `invalid` count such images.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        max_segments: int = 512,
        crowd_as_void: bool = False,
        name: str = "panoptic_quality",
    ):
        """Makes the metric.

        Args:
            num_classes: C; includes the void class where that is one of them (COCO, ADE20K).
            ignore_label: class of void, inside the classes or outside (255).
            label_divisor: labels are `class * label_divisor + instance`.
            thing_ids: class ids of things; the others, void aside, are stuff.
            max_segments: capacity per image and map.
            crowd_as_void: treats crowds as void, as DeepLab2's data does; gives a slightly higher PQ than the tools.
            name: name of the metric.

        Raises:
            ValueError: thing ids outside of the classes, or labels beyond int32.
        """
        super().__init__(num_classes, ignore_label, label_divisor, thing_ids, max_segments=max_segments, name=name)
        self.crowd_as_void = bool(crowd_as_void)
        for total in Counts._fields:
            setattr(self, total, self.add_total(total, (self.labels.num_classes,)))

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64 in [0, 1].

        `pq, sq, rq, n` are means over the n classes that occur; `pq_things, ..., n_stuff` the same over things and
        stuff; `pq_per_class, sq_per_class, rq_per_class, iou, tp, fp, fn` are vectors [C] (0 where a class does not
        occur); `overflow` and `invalid` count images that were left out. Without any class the means are 0.
        """
        totals = Counts(*[tf.convert_to_tensor(getattr(self, name)) for name in Counts._fields])
        per_class, occurs = qualities(totals)
        return {**of_classes(self, totals, per_class, occurs), **self.faults()}

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {**super().get_config(), "crowd_as_void": self.crowd_as_void}

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        found = pairs.overlaps(y_true, y_pred, self.labels, max_segments=self.max_segments)
        meeting = found.pairs
        if self.crowd_as_void:
            crowd = is_crowd(meeting.true_labels, self.labels, self.thing_ids)
            void = tf.where(crowd, segments.VOID, meeting.true_labels)
            meeting = meeting._replace(true_labels=void)
        counts = match(meeting, found.counts, self.labels, self.thing_ids)
        return pairs.scored(found, {name: value[0] for name, value in counts._asdict().items()})


def qualities(totals: Counts) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """`pq`, `sq` and `rq` of every class, and which classes occur: totals [..., C] -> [..., C]."""
    iou, tp, fp, fn = totals
    denominator = tp + 0.5 * fp + 0.5 * fn
    per_class = {
        "pq": tf.math.divide_no_nan(iou, denominator),
        "sq": additive.ratio(iou, tp),
        "rq": tf.math.divide_no_nan(tp, denominator),
    }
    return per_class, denominator > 0.0


def of_classes(
    metric: panoptic_metric.PanopticMetric, totals: Counts, per_class: dict[str, tf.Tensor], occurs: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Results of classes under the names of `PanopticQuality.result`."""
    return {
        **metric.means(per_class, occurs),
        **{f"{name}_per_class": values for name, values in per_class.items()},
        **totals._asdict(),
    }


def is_crowd(true_labels: tf.Tensor, labels: segments.Labels, crowd_ids: Iterable[int]) -> tf.Tensor:
    """Which labels are crowds: instance 0 of a class of `crowd_ids`; [S] -> [S] bool."""
    classes, used = segments.slot_classes(true_labels, labels)
    return used & (true_labels % labels.label_divisor == 0) & tf.gather(segments.members(crowd_ids, labels), classes)


class Matches(NamedTuple):
    """Which pairs of segments match; N pairs, S segments on either side, W maps of pixels that are scored at once."""

    iou: tf.Tensor  # [N, W] float64, 0 where they do not match
    matched: tf.Tensor  # [N, W] bool
    true_areas: tf.Tensor  # [S, W]
    pred_areas: tf.Tensor  # [S, W], void ground truth included
    void: tf.Tensor  # [S, W], pixels of a predicted segment on void ground truth


def matches(
    found: pairs.Pairs,
    shared: tf.Tensor,
    labels: segments.Labels,
    crowd_ids: Iterable[int],
    *,
    true_area: tf.Tensor | None = None,
    boundary_iou: tf.Tensor | None = None,
) -> Matches:
    """Which pairs match: the same class, no void, no crowd, and an IoU above one half outside void ground truth.

    Args:
        found: the pairs.
        shared: pixels of a pair [N, W], integers.
        labels: which labels there are.
        crowd_ids: classes that are a crowd where the ground-truth instance is 0.
        true_area: what a pair adds to the area of the ground-truth segment [N, W]; more than `shared` where some of
            its predicted pixels are taken for void. None: `shared`.
        boundary_iou: [N, W], takes the place of IoUs that are higher.
    """
    true_class, true_used = segments.slot_classes(found.true_labels, labels)
    pred_class, pred_used = segments.slot_classes(found.pred_labels, labels)
    real = true_used & ~is_crowd(found.true_labels, labels, crowd_ids)
    on_segment = found.of_true(true_used)[:, tf.newaxis]
    void = found.sum_by_pred(tf.where(on_segment, tf.zeros_like(shared), shared))
    true_areas = found.sum_by_true(shared if true_area is None else true_area)
    pred_areas = found.sum_by_pred(shared)
    union = found.of_true(true_areas) + found.of_pred(pred_areas - void) - shared
    candidate = found.of_true(tf.where(real, true_class, -1)) == found.of_pred(tf.where(pred_used, pred_class, -2))
    matched = candidate[:, tf.newaxis] & (2 * shared > union)
    iou = shared / tf.maximum(union, 1)
    if boundary_iou is not None:
        iou = tf.minimum(iou, boundary_iou)
        matched &= iou > 0.5
    return Matches(tf.where(matched, iou, 0.0), matched, true_areas, pred_areas, void)


def match(
    found: pairs.Pairs,
    shared: tf.Tensor,
    labels: segments.Labels,
    crowd_ids: Sequence[int],
    *,
    true_area: tf.Tensor | None = None,
    boundary_iou: tf.Tensor | None = None,
) -> Counts:
    """Matches segments and counts per class, [W, C] each; arguments as those of `matches`."""
    outcome = matches(found, shared, labels, crowd_ids, true_area=true_area, boundary_iou=boundary_iou)
    return count(outcome, found, shared, labels, crowd_ids)


def count(
    outcome: Matches, found: pairs.Pairs, shared: tf.Tensor, labels: segments.Labels, crowd_ids: Sequence[int]
) -> Counts:
    """What `matches` found, per class, [W, C] each."""
    true_class, true_used = segments.slot_classes(found.true_labels, labels)
    pred_class, pred_used = segments.slot_classes(found.pred_labels, labels)
    crowd = is_crowd(found.true_labels, labels, crowd_ids)
    own_crowd = found.of_true(tf.where(crowd, true_class, -1)) == found.of_pred(pred_class)
    excused = found.sum_by_pred(tf.where(own_crowd[:, tf.newaxis], shared, tf.zeros_like(shared)))
    excused += outcome.void

    def per_class(values: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Values of segments [S, W] -> [W, C]."""
        sums = tf.math.unsorted_segment_sum(tf.cast(values, tf.float64), classes, labels.num_classes)
        return tf.transpose(tf.ensure_shape(sums, [labels.num_classes, shared.shape[1]]))

    # A segment matches one other at most.
    hits = tf.cast(outcome.matched, tf.int32)
    true_hit, pred_hit = found.sum_by_true(hits) > 0, found.sum_by_pred(hits) > 0
    false_positive = pred_used[:, tf.newaxis] & (outcome.pred_areas > 0) & ~pred_hit
    false_positive &= 2 * excused <= outcome.pred_areas
    false_negative = (true_used & ~crowd)[:, tf.newaxis] & (outcome.true_areas > 0) & ~true_hit
    return Counts(
        iou=per_class(found.sum_by_true(outcome.iou), true_class),
        tp=per_class(true_hit, true_class),
        fp=per_class(false_positive, pred_class),
        fn=per_class(false_negative, true_class),
    )
