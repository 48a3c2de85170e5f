"""Panoptic, segmentation and recognition quality, equal to the official COCO and Cityscapes tools.

"Panoptic Segmentation", Kirillov et al., 2019, arXiv 1801.00868.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from evaluation import additive, segments


class ImageCounts(NamedTuple):
    """What one image adds to the totals, [C] float64 each."""

    iou: tf.Tensor
    tp: tf.Tensor
    fp: tf.Tensor
    fn: tf.Tensor


class PanopticQuality(additive.ImageMetric):
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
        super().__init__(name=name)
        self.labels = segments.Labels(int(num_classes), int(ignore_label), int(label_divisor)).check()
        self.thing_ids = tuple(sorted(int(i) for i in thing_ids))
        self.max_segments = segments.check_capacity(max_segments)
        self.crowd_as_void = bool(crowd_as_void)
        check_things(self.labels, self.thing_ids)
        self.iou = self.add_total("iou", (num_classes,))
        self.tp = self.add_total("tp", (num_classes,))
        self.fp = self.add_total("fp", (num_classes,))
        self.fn = self.add_total("fn", (num_classes,))
        self.overflow = self.add_total("overflow")
        self.invalid = self.add_total("invalid")

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64 in [0, 1].

        `pq, sq, rq, n` are means over the n classes that occur; `pq_things, ..., n_stuff` the same over things and
        stuff; `pq_per_class, sq_per_class, rq_per_class, iou, tp, fp, fn` are vectors [C] (0 where a class does not
        occur); `overflow` and `invalid` count images that were left out. Without any class the means are 0.
        """
        tp, fp, fn, iou = (tf.convert_to_tensor(v) for v in (self.tp, self.fp, self.fn, self.iou))
        result = qualities(ImageCounts(iou=iou, tp=tp, fp=fp, fn=fn), self.labels, self.thing_ids)
        result.update(overflow=tf.convert_to_tensor(self.overflow), invalid=tf.convert_to_tensor(self.invalid))
        return result

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {
            "name": self.name,
            **self.labels._asdict(),
            "thing_ids": self.thing_ids,
            "max_segments": self.max_segments,
            "crowd_as_void": self.crowd_as_void,
        }

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        found = segments.overlaps(y_true, y_pred, self.labels, max_segments=self.max_segments)
        counts = image_counts(found, self.labels, self.thing_ids, crowd_as_void=self.crowd_as_void)
        return segments.scored(found, counts._asdict())


def check_things(labels: segments.Labels, thing_ids: Sequence[int]) -> None:
    """Raises ValueError where a thing is no class, or is void."""
    strange = [i for i in thing_ids if not 0 <= i < labels.num_classes or i == labels.ignore_label]
    if strange:
        raise ValueError(f"Expected thing_ids in [0, {labels.num_classes}) without the ignored class, got {strange}.")


def qualities(
    counts: ImageCounts, labels: segments.Labels, thing_ids: Sequence[int], *, absent_as_zero: bool = False
) -> dict[str, tf.Tensor]:
    """What the totals [..., C] of a data set amount to, see `PanopticQuality.result`; of shape [...] and [..., C].

    With `absent_as_zero` the means run over all classes but void, whether they occur or not.
    """
    iou, tp, fp, fn = counts
    denominator = tp + 0.5 * fp + 0.5 * fn
    per_class = {
        "pq": tf.math.divide_no_nan(iou, denominator),
        "sq": additive.ratio(iou, tp),
        "rq": tf.math.divide_no_nan(tp, denominator),
    }
    classes = range(labels.num_classes)
    things = tf.constant([i in thing_ids for i in classes])
    occurs = denominator > 0.0
    if absent_as_zero:
        occurs = tf.broadcast_to(tf.constant([i != labels.ignore_label for i in classes]), tf.shape(occurs))
    groups = {"": occurs, "_things": occurs & things, "_stuff": occurs & ~things}
    result: dict[str, tf.Tensor] = {}
    for suffix, members in groups.items():
        weights = tf.cast(members, tf.float64)
        count = tf.reduce_sum(weights, axis=-1)
        for key, values in per_class.items():
            result[key + suffix] = tf.math.divide_no_nan(tf.reduce_sum(values * weights, axis=-1), count)
        result["n" + suffix] = count
    result.update({f"{key}_per_class": values for key, values in per_class.items()})
    result.update(tp=tp, fp=fp, fn=fn, iou=iou)
    return result


def image_counts(
    found: segments.Overlaps,
    labels: segments.Labels,
    thing_ids: Sequence[int],
    *,
    crowd_as_void: bool = False,
    boundary_iou: tf.Tensor | None = None,
) -> ImageCounts:
    """Matches the segments of one image and counts per class; the lower of IoU and `boundary_iou` [K, K] decides."""
    num_classes, divisor = labels.num_classes, labels.label_divisor
    is_thing = tf.constant([i in thing_ids for i in range(num_classes)])
    counts = found.counts
    slots = tf.range(tf.shape(counts)[0])

    true_class, true_used = segments.slot_classes(found.true_labels, labels)
    pred_class, pred_used = segments.slot_classes(found.pred_labels, labels)
    crowd = true_used & (found.true_labels % divisor == 0) & tf.gather(is_thing, true_class)
    true_area = tf.reduce_sum(counts, axis=1)
    pred_area = tf.reduce_sum(counts, axis=0)
    void = counts[0]
    if crowd_as_void:
        void += tf.reduce_sum(tf.where(crowd[:, tf.newaxis], counts, 0), axis=0)

    # Who covers more than half of a union covers more than half of the prediction's pixels outside void, so only the
    # segment that covers most of them comes into question; where two cover the same, neither does.
    candidates = tf.where((slots == 0)[:, tf.newaxis], 0, counts)
    best = tf.argmax(candidates, axis=0, output_type=tf.int32)
    inter = tf.reduce_max(candidates, axis=0)
    union = tf.gather(true_area, best) + pred_area - inter - void
    matched = (
        (inter > 0)
        & (2 * inter > union)
        & pred_used
        & tf.gather(true_used & ~crowd, best)
        & (tf.gather(true_class, best) == pred_class)
    )
    iou = inter / tf.maximum(union, 1)
    if boundary_iou is not None:
        iou = tf.minimum(iou, tf.gather_nd(boundary_iou, tf.stack([best, slots], axis=1)))
        matched &= iou > 0.5
    iou = tf.where(matched, iou, 0.0)
    true_matched = tf.math.unsorted_segment_max(tf.cast(matched, tf.int32), best, counts.shape[0]) > 0

    if crowd_as_void:
        excused = void
    else:
        own_crowd = crowd[:, tf.newaxis] & (true_class[:, tf.newaxis] == pred_class)
        excused = void + tf.reduce_sum(tf.where(own_crowd, counts, 0), axis=0)
    false_positive = pred_used & ~matched & (2 * excused <= pred_area)
    false_negative = true_used & ~crowd & ~true_matched

    def per_class(values: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(tf.cast(values, tf.float64), classes, num_classes)

    return ImageCounts(
        iou=per_class(iou, pred_class),
        tp=per_class(matched, pred_class),
        fp=per_class(false_positive, pred_class),
        fn=per_class(false_negative, true_class),
    )
