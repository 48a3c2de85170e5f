"""Parsing covering: how well the segments of an image are covered, large ones weighing more.

"DeeperLab: Single-Shot Image Parser", Yang et al., 2019, arXiv 1902.05093.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from evaluation import additive, pairs, panoptic_metric, segments


class ParsingCovering(panoptic_metric.PanopticMetric, additive.ImageMetric):
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
        super().__init__(num_classes, ignore_label, label_divisor, thing_ids, max_segments=max_segments, name=name)
        self.relative_area = bool(relative_area)
        self.weighted_iou = self.add_total("weighted_iou", (self.labels.num_classes,))
        self.gt_area = self.add_total("gt_area", (self.labels.num_classes,))

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64 in [0, 1].

        `pc, n` the mean over the n classes of the ground truth, `pc_things, ..., n_stuff` the same over things and
        stuff (0 without a class), `pc_per_class, weighted_iou, gt_area` [C] (0 where a class does not occur),
        `overflow` and `invalid` the numbers of images left out.
        """
        weighted_iou, area = tf.convert_to_tensor(self.weighted_iou), tf.convert_to_tensor(self.gt_area)
        per_class = additive.ratio(weighted_iou, area)
        return {
            **self.means({"pc": per_class}, area > 0.0),
            "pc_per_class": per_class,
            "weighted_iou": weighted_iou,
            "gt_area": area,
            **self.faults(),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {**super().get_config(), "relative_area": self.relative_area}

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        found = pairs.overlaps(y_true, y_pred, self.labels, max_segments=self.max_segments)
        meeting = found.pairs
        true_class, true_used = segments.slot_classes(meeting.true_labels, self.labels)
        pred_class, pred_used = segments.slot_classes(meeting.pred_labels, self.labels)
        valid = tf.where(meeting.of_true(true_used), found.counts[:, 0], 0)
        true_area = meeting.sum_by_true(valid)
        union = meeting.of_true(true_area) + meeting.of_pred(meeting.sum_by_pred(valid)) - valid
        same = meeting.of_true(true_class) == meeting.of_pred(tf.where(pred_used, pred_class, -1))
        cover = meeting.max_by_true(tf.where(same, valid / tf.maximum(union, 1), 0.0))
        area = tf.cast(true_area, tf.float64)
        if self.relative_area:
            area /= tf.cast(tf.size(y_true), tf.float64)

        def per_class(values: tf.Tensor) -> tf.Tensor:
            return tf.math.unsorted_segment_sum(values, true_class, self.labels.num_classes)

        return pairs.scored(found, {"weighted_iou": per_class(cover * area), "gt_area": per_class(area)})
