"""Parsing covering: how well the segments of an image are covered, large ones weighing more.

"DeeperLab: Single-Shot Image Parser", Yang et al., 2019, arXiv 1902.05093.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from evaluation import additive, panoptic_quality, segments


class ParsingCovering(additive.ImageMetric):
    """Mean over classes of the best IoU that every true segment reaches, weighted by its area.

    Pixels of void ground truth leave both maps. There are no crowds: a thing with instance 0 is a segment.

    An image with more than `max_segments` segments, or with labels outside of the classes, is not scored at all; the
    results `overflow` and `invalid` count such images.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        max_segments: int = 512,
        relative_area: bool = True,
        name: str = "parsing_covering",
    ):
        """Makes the metric.

        Args:
            num_classes: C; includes the void class where that is one of them.
            ignore_label: class of void, inside the classes or outside.
            label_divisor: labels are `class * label_divisor + instance`.
            thing_ids: class ids of things; they only form a group of the result.
            max_segments: capacity per image and map.
            relative_area: areas are shares of the image, so that images of any size weigh the same.
            name: name of the metric.

        Raises:
            ValueError: thing ids outside of the classes, or labels beyond int32.
        """
        super().__init__(name=name)
        self.labels = segments.Labels(int(num_classes), int(ignore_label), int(label_divisor)).check()
        self.thing_ids = tuple(sorted(int(i) for i in thing_ids))
        self.max_segments = segments.check_capacity(max_segments)
        self.relative_area = bool(relative_area)
        panoptic_quality.check_things(self.labels, self.thing_ids)
        self.weighted_iou = self.add_total("weighted_iou", (num_classes,))
        self.gt_area = self.add_total("gt_area", (num_classes,))
        self.overflow = self.add_total("overflow")
        self.invalid = self.add_total("invalid")

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64 in [0, 1].

        `pc, n` the mean over the n classes of the ground truth, `pc_things, ..., n_stuff` the same over things and
        stuff (0 without a class), `pc_per_class, weighted_iou, gt_area` [C] (0 where a class does not occur),
        `overflow` and `invalid` the numbers of images left out.
        """
        weighted_iou, area = tf.convert_to_tensor(self.weighted_iou), tf.convert_to_tensor(self.gt_area)
        per_class = additive.ratio(weighted_iou, area)
        things = tf.constant([i in self.thing_ids for i in range(self.labels.num_classes)])
        occurs = area > 0.0
        result = {}
        for suffix, members in (("", occurs), ("_things", occurs & things), ("_stuff", occurs & ~things)):
            weights = tf.cast(members, tf.float64)
            result["n" + suffix] = tf.reduce_sum(weights)
            result["pc" + suffix] = tf.math.divide_no_nan(tf.reduce_sum(per_class * weights), result["n" + suffix])
        return {
            **result,
            "pc_per_class": per_class,
            "weighted_iou": weighted_iou,
            "gt_area": area,
            "overflow": tf.convert_to_tensor(self.overflow),
            "invalid": tf.convert_to_tensor(self.invalid),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {
            "name": self.name,
            **self.labels._asdict(),
            "thing_ids": self.thing_ids,
            "max_segments": self.max_segments,
            "relative_area": self.relative_area,
        }

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        found = segments.overlaps(y_true, y_pred, self.labels, max_segments=self.max_segments)
        true_class, true_used = segments.slot_classes(found.true_labels, self.labels)
        pred_class, pred_used = segments.slot_classes(found.pred_labels, self.labels)
        valid = tf.where(true_used[:, tf.newaxis], found.counts, 0)
        true_area = tf.reduce_sum(valid, axis=1)
        union = true_area[:, tf.newaxis] + tf.reduce_sum(valid, axis=0) - valid
        same = (true_class[:, tf.newaxis] == pred_class) & pred_used & (valid > 0)
        cover = tf.reduce_max(tf.where(same, valid / tf.maximum(union, 1), 0.0), axis=1)
        area = tf.cast(true_area, tf.float64)
        if self.relative_area:
            area /= tf.cast(tf.size(y_true), tf.float64)

        def per_class(values: tf.Tensor) -> tf.Tensor:
            return tf.math.unsorted_segment_sum(values, true_class, self.labels.num_classes)

        return segments.scored(found, {"weighted_iou": per_class(cover * area), "gt_area": per_class(area)})
