"""Mean intersection over union and pixel accuracy of class maps.

"The Cityscapes Dataset", Cordts et al., 2016, arXiv 1604.01685 (also the instance-weighted IoU of things).
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from evaluation import additive, pairs, segments

VARIANTS = ("present", "all", "stq")


class MeanIoU(additive.ImageMetric):
    """Intersection over union per class, and means over classes, from one confusion matrix of all pixels.

    Ground truth of the ignored class does not count. A predicted ignored class is a miss of the true class. What the
    mean runs over:

    - `present`: classes with any pixel in ground truth or prediction (Cityscapes pixel level, Keras);
    - `all`: all classes, absent ones count 0 (ADE20K scene parsing);
    - `stq`: as `present`, and one more class of IoU 0 if any valid pixel is predicted void (the IoU term of STQ).

    An image with other classes is not scored; the result `invalid` counts such images.
    """

    def __init__(self, num_classes: int, ignore_label: int, *, variant: str = "present", name: str = "mean_iou"):
        """Makes the metric for classes [0, num_classes); `ignore_label` may be one of them or lie outside.

        Raises:
            ValueError: an unknown variant.
        """
        super().__init__(name=name)
        if variant not in VARIANTS:
            raise ValueError(f"Expected variant to be one of {', '.join(VARIANTS)}, got {variant!r}.")
        self.labels = segments.Labels(int(num_classes), int(ignore_label), label_divisor=1).check()
        self.variant = variant
        size = self.labels.num_classes + 1
        self.confusion = self.add_total("confusion", (size, size))
        self.invalid = self.add_total("invalid")

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64 in [0, 1].

        `iou` is the mean over `n` classes (0 if there is none; nan for variant `stq`), `frequency_weighted_iou` the
        mean in which a class weighs as many pixels as the ground truth has of it, `accuracy` the share of correct
        pixels among those with a valid ground truth, `class_accuracy` its mean over the `n_true` classes of the ground
        truth (all 0 if there is none), `iou_per_class` [C] (nan where a class is in neither map), `confusion`
        [C + 1, C + 1] (rows ground truth, columns prediction, last index void), `invalid` the number of images left
        out.
        """
        confusion = tf.convert_to_tensor(self.confusion)
        tp, fn, fp = _counts(confusion)
        union = tp + fp + fn
        iou = additive.ratio(tp, union)
        present = tf.reduce_sum(tf.cast(union > 0.0, tf.float64))
        if self.variant == "all":
            classes = range(self.labels.num_classes)
            count = tf.constant(len([i for i in classes if i != self.labels.ignore_label]), tf.float64)
        elif self.variant == "stq":
            count = present + tf.cast(tf.reduce_sum(confusion[:-1, -1]) > 0.0, tf.float64)
        else:
            count = present
        mean = tf.math.divide_no_nan(tf.reduce_sum(iou), count)
        num_true = tf.reduce_sum(tf.cast(tp + fn > 0.0, tf.float64))
        if self.variant == "stq":
            mean = tf.where(count > 0.0, mean, _nan())
        return {
            "iou": mean,
            "n": count,
            "frequency_weighted_iou": tf.math.divide_no_nan(tf.reduce_sum((tp + fn) * iou), tf.reduce_sum(tp + fn)),
            "accuracy": additive.ratio(tf.reduce_sum(tp), tf.reduce_sum(tp + fn)),
            "class_accuracy": tf.math.divide_no_nan(tf.reduce_sum(additive.ratio(tp, tp + fn)), num_true),
            "n_true": num_true,
            "iou_per_class": tf.where(union > 0.0, iou, _nan()),
            "confusion": confusion,
            "invalid": tf.convert_to_tensor(self.invalid),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {
            "name": self.name,
            "num_classes": self.labels.num_classes,
            "ignore_label": self.labels.ignore_label,
            "variant": self.variant,
        }

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        confusion, invalid = _confusion(y_true, y_pred, self.labels)
        return {
            "confusion": tf.where(invalid, tf.zeros_like(confusion), confusion),
            "invalid": tf.cast(invalid, tf.float64),
        }


class InstanceWeightedIoU(additive.ImageMetric):
    """iIoU of Cityscapes: the IoU of things where every instance weighs the same, whatever its size.

    A pixel of an instance weighs `mean size of the class / size of the instance`. Crowds have no instances and add
    nothing but, as everywhere in valid ground truth, false positives. The ground truth is panoptic labels, the
    prediction is *classes*.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        mean_sizes: Mapping[int, float],
        *,
        max_segments: int = 512,
        name: str = "instance_weighted_iou",
    ):
        """Makes the metric.

        Args:
            num_classes: C.
            ignore_label: class of void.
            label_divisor: ground-truth labels are `class * label_divisor + instance`.
            mean_sizes: thing class id -> pixels of an average instance.
            max_segments: capacity per image; images beyond it are left out and counted in `overflow`.
            name: name of the metric.
        """
        super().__init__(name=name)
        self.labels = segments.Labels(int(num_classes), int(ignore_label), int(label_divisor)).check()
        self.mean_sizes = {int(key): float(value) for key, value in mean_sizes.items()}
        self.max_segments = segments.check_capacity(max_segments)
        self.hits = self.add_total("hits", (num_classes,))
        self.misses = self.add_total("misses", (num_classes,))
        self.fp = self.add_total("fp", (num_classes,))
        self.overflow = self.add_total("overflow")
        self.invalid = self.add_total("invalid")

    def result(self) -> dict[str, tf.Tensor]:
        """`iiou_per_class` [C] (nan for stuff and where there is nothing), `iiou` the mean over `n` classes."""
        hits, misses, fp = (tf.convert_to_tensor(v) for v in (self.hits, self.misses, self.fp))
        is_thing = tf.constant([i in self.mean_sizes for i in range(self.labels.num_classes)])
        union = hits + misses + fp
        occurs = is_thing & (union > 0.0)
        iiou = tf.where(occurs, additive.ratio(hits, union), 0.0)
        count = tf.reduce_sum(tf.cast(occurs, tf.float64))
        return {
            "iiou": tf.math.divide_no_nan(tf.reduce_sum(iiou), count),
            "n": count,
            "iiou_per_class": tf.where(occurs, iiou, _nan()),
            "overflow": tf.convert_to_tensor(self.overflow),
            "invalid": tf.convert_to_tensor(self.invalid),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {
            "name": self.name,
            **self.labels._asdict(),
            "mean_sizes": self.mean_sizes,
            "max_segments": self.max_segments,
        }

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        num_classes, divisor = self.labels.num_classes, self.labels.label_divisor
        found = pairs.overlaps(y_true, y_pred * divisor, self.labels, max_segments=self.max_segments)
        meeting, pixels = found.pairs, found.counts[:, 0]
        mean_size = tf.constant([self.mean_sizes.get(i, 0.0) for i in range(num_classes)], tf.float64)
        true_class, used = segments.slot_classes(meeting.true_labels, self.labels)
        pred_class, predicted = segments.slot_classes(meeting.pred_labels, self.labels)
        same = meeting.of_true(true_class) == meeting.of_pred(tf.where(predicted, pred_class, -1))
        hit = meeting.sum_by_true(tf.where(same, pixels, 0))
        area = meeting.sum_by_true(pixels)
        instance = used & (meeting.true_labels % divisor > 0)
        weight = tf.where(
            instance, tf.math.divide_no_nan(tf.gather(mean_size, true_class), tf.cast(area, tf.float64)), 0
        )
        hits = tf.math.unsorted_segment_sum(weight * tf.cast(hit, tf.float64), true_class, num_classes)
        misses = tf.math.unsorted_segment_sum(weight * tf.cast(area - hit, tf.float64), true_class, num_classes)
        wrong = meeting.sum_by_pred(tf.where(~same & meeting.of_true(used), pixels, 0))
        fp = tf.math.unsorted_segment_sum(tf.cast(tf.where(predicted, wrong, 0), tf.float64), pred_class, num_classes)
        return pairs.scored(found, {"hits": hits, "misses": misses, "fp": fp})


def _confusion(y_true: tf.Tensor, y_pred: tf.Tensor, labels: segments.Labels) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels per true class (row) and predicted class (column) [C + 1, C + 1] float64, void last; unknown classes?"""
    size = labels.num_classes + 1
    true, pred, pixels = segments.label_pairs(y_true, y_pred)
    true, true_invalid = segments.normalize(true, labels)
    pred, pred_invalid = segments.normalize(pred, labels)
    void = labels.num_classes
    cells = tf.where(true < 0, void, true) * size + tf.where(pred < 0, void, pred)
    counts = tf.math.unsorted_segment_sum(pixels, cells, size * size)
    return tf.cast(tf.reshape(counts, [size, size]), tf.float64), true_invalid | pred_invalid


def stq_mean(confusion: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The mean IoU of variant `stq` (nan without a valid pixel) and its number of classes: [..., C+1, C+1] -> [...]."""
    tp, fn, fp = _counts(confusion)
    union = tp + fp + fn
    present = tf.reduce_sum(tf.cast(union > 0.0, tf.float64), axis=-1)
    count = present + tf.cast(tf.reduce_sum(confusion[..., :-1, -1], axis=-1) > 0.0, tf.float64)
    total = tf.reduce_sum(tf.math.divide_no_nan(tp, union), axis=-1)
    return tf.where(count > 0.0, tf.math.divide_no_nan(total, count), _nan()), count


def _counts(confusion: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """True positive, missed and wrongly predicted pixels per class: [..., C + 1, C + 1] -> [..., C] each."""
    tp = tf.linalg.diag_part(confusion)[..., :-1]
    missed = tf.reduce_sum(confusion[..., :-1, :], axis=-1) - tp
    wrong = tf.reduce_sum(confusion[..., :-1, :-1], axis=-2) - tp
    return tp, missed, wrong


def _nan() -> tf.Tensor:
    return tf.constant(float("nan"), tf.float64)
