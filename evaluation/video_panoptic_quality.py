"""Video panoptic quality: PQ of tubes, the segments of one label over a window of consecutive labelled frames.

"Video Panoptic Segmentation", Kim et al., 2020, arXiv 2006.11339. Equal to the official Cityscapes-VPS tool.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from evaluation import additive, panoptic_quality, segments, tubes

_GROUPS = ("", "_things", "_stuff")


class VideoPanopticQuality(additive.AdditiveMetric):
    """VPQ of label maps `class * label_divisor + track id`, for windows of several lengths.

    A window of K frames starts at every frame of a sequence but the last K - 1; a sequence shorter than K adds nothing.
    In a window all rules of PQ hold (void, crowd, IoU above one half, excuse of false positives), with areas summed
    over its frames. A track that changes its class is another tube.

    Frames are given one after the other. Of the last frames only lists of label pairs are kept. A frame with more than
    `max_segments` segments, or with labels outside of the classes, takes part in no window; the results `overflow` and
    `invalid` count such frames.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        windows: Sequence[int] = (1, 2, 3, 4),
        crowd: bool = True,
        absent_as_zero: bool = False,
        max_segments: int = 512,
        num_levels: int = 1,
        name: str = "video_panoptic_quality",
    ):
        """Makes the metric.

        Args:
            num_classes: C; includes the void class where that is one of them.
            ignore_label: class of void, inside the classes or outside.
            label_divisor: labels are `class * label_divisor + track id`.
            thing_ids: class ids of things.
            windows: lengths K of windows, in labelled frames: 1, 2, 3, 4 for Cityscapes-VPS, 1, 2, 4, 6 for VIPSeg.
            crowd: whether a ground-truth thing with track id 0 is a crowd, or a segment like any other.
            absent_as_zero: means over all classes, with 0 where one does not occur, as the SemKITTI-DVPS script does.
            max_segments: capacity per frame and map.
            num_levels: D, how many qualities of predicted pixels are told apart; more than 1 with depth alone.
            name: name of the metric.

        Raises:
            ValueError: windows or thing ids that cannot be, or labels beyond int32.
        """
        super().__init__(name=name)
        self.labels = segments.Labels(int(num_classes), int(ignore_label), int(label_divisor)).check()
        self.thing_ids = tuple(sorted(int(i) for i in thing_ids))
        panoptic_quality.check_things(self.labels, self.thing_ids)
        self.windows = tuple(int(i) for i in windows)
        self.crowd = bool(crowd)
        self.absent_as_zero = bool(absent_as_zero)
        self.max_segments = int(max_segments)
        if not self.windows or min(self.windows) < 1 or len(set(self.windows)) < len(self.windows):
            raise ValueError(f"Expected different lengths of windows, 1 or more, got {list(self.windows)}.")
        if self.max_segments < 1:
            raise ValueError(f"Expected max_segments >= 1, got {max_segments}.")
        self._num_levels = num_levels
        shape = (len(self.windows), num_levels, self.labels.num_classes)
        for total in ("iou", "tp", "fp", "fn"):
            setattr(self, total, self.add_total(total, shape))
        self.num_windows = self.add_total("num_windows", (len(self.windows),))
        self.overflow = self.add_total("overflow")
        self.invalid = self.add_total("invalid")
        # The last frames of the running sequence, the newest first.
        length, pairs = max(self.windows), tubes.PAIRS_PER_SEGMENT * self.max_segments
        self.keys = self.add_scratch("keys", (length, pairs), tf.int64)
        self.counts = self.add_scratch("counts", (length, pairs, self._num_levels), tf.int32)
        self.sound = self.add_scratch("sound", (length,), tf.int32)  # 1 where there is a frame that can be scored

    def update_state(
        self,
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        is_first_frame: tf.Tensor | bool = False,
        *,
        strict: bool = False,
    ) -> None:
        """Adds one frame [H, W] or several consecutive ones [B, H, W]; integers.

        Args:
            y_true: ground truth.
            y_pred: prediction.
            is_first_frame: whether a frame begins a sequence, scalar or [B]. A scalar that comes with several frames
                is that of the first of them.
            strict: whether a frame that cannot be scored raises tf.errors.InvalidArgumentError (not under XLA).
        """
        y_true, y_pred = additive.as_batch(y_true, y_pred)
        self.add_frames(self._frame, [y_true, y_pred, first_of_each(is_first_frame, y_true)], strict)

    def result(self) -> dict[str, tf.Tensor]:
        """The values so far, float64 in [0, 1], with W windows and C classes.

        `vpq, vpq_things, vpq_stuff` are means over the windows of `pq, pq_things, pq_stuff` [W]; these, `sq`, `rq` and
        `n`, also per group, [W]; `pq_per_class, sq_per_class, rq_per_class, iou, tp, fp, fn` [W, C]; all as in
        `PanopticQuality.result`. `num_windows` [W]; `overflow` and `invalid` count frames that could not be scored.
        """
        values = self._values(level=0)
        means = {f"vpq{group}": tf.reduce_mean(values[f"pq{group}"]) for group in _GROUPS}
        others = {name: tf.convert_to_tensor(getattr(self, name)) for name in ("num_windows", "overflow", "invalid")}
        return {**means, **values, **others}

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {
            "name": self.name,
            **self.labels._asdict(),
            "thing_ids": self.thing_ids,
            "windows": self.windows,
            "crowd": self.crowd,
            "absent_as_zero": self.absent_as_zero,
            "max_segments": self.max_segments,
        }

    def _values(self, level: int | slice) -> dict[str, tf.Tensor]:
        totals = [tf.convert_to_tensor(total)[:, level] for total in (self.iou, self.tp, self.fp, self.fn)]
        return panoptic_quality.qualities(
            panoptic_quality.ImageCounts(*totals), self.labels, self.thing_ids, absent_as_zero=self.absent_as_zero
        )

    def _frame(
        self,
        scratch: dict[str, tf.Tensor],
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        is_first: tf.Tensor,
        levels: tf.Tensor | None = None,
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        found = tubes.frame_pairs(
            y_true,
            y_pred,
            self.labels,
            max_segments=self.max_segments,
            levels=levels,
            num_levels=self._num_levels,
        )
        ok = ~(found.overflow | found.invalid)

        def shifted(name: str, newest: tf.Tensor) -> tf.Tensor:
            older = scratch[name][:-1]
            return tf.concat([newest[tf.newaxis], tf.where(is_first, tf.zeros_like(older), older)], axis=0)

        scratch = {
            **scratch,
            "keys": shifted("keys", tf.where(ok, found.keys, tf.zeros_like(found.keys))),
            "counts": shifted("counts", tf.where(ok, found.counts, tf.zeros_like(found.counts))),
            "sound": shifted("sound", tf.cast(ok, tf.int32)),
        }
        totals, complete = self._window_counts(scratch["keys"], scratch["counts"], scratch["sound"])
        return scratch, {
            **{name: tf.where(complete[:, tf.newaxis, tf.newaxis], v, 0.0) for name, v in totals._asdict().items()},
            "num_windows": tf.cast(complete, tf.float64),
            "overflow": tf.cast(found.overflow, tf.float64),
            "invalid": tf.cast(found.invalid, tf.float64),
        }

    def _window_counts(
        self, keys: tf.Tensor, counts: tf.Tensor, sound: tf.Tensor
    ) -> tuple[panoptic_quality.ImageCounts, tf.Tensor]:
        """The counts of the windows that end with the newest frame [W, D, C], and which of them there are [W]."""
        length, pairs = keys.shape
        ages = tf.repeat(tf.range(length), pairs)
        keys, counts, ages = tubes.used(
            tf.reshape(keys, [-1]), tf.reshape(counts, [length * pairs, self._num_levels]), ages
        )
        numbers = tubes.group(keys)
        size = tf.size(keys)
        true, pred = tubes.split(tf.math.unsorted_segment_max(keys, numbers, size))
        by_age = tf.math.unsorted_segment_sum(counts, numbers * length + ages, size * length)
        by_age = tf.cast(tf.reshape(by_age, [size, length, self._num_levels]), tf.int64)
        last = tf.constant([window - 1 for window in self.windows])
        # Pixels of a window, on level 0 all of them, on level l those that are no worse than the threshold l - 1.
        area = tf.gather(tf.cumsum(by_age, axis=1), last, axis=1)  # [N, W, D]
        shared = tf.concat([tf.reduce_sum(area, -1, keepdims=True), tf.cumsum(area, axis=2)[..., :-1]], axis=2)
        columns = len(self.windows) * self._num_levels
        found = pair_counts(
            true,
            pred,
            tf.reshape(shared, [size, columns]),
            tf.reshape(tf.broadcast_to(shared[..., :1], tf.shape(shared)), [size, columns]),
            self.labels,
            self.thing_ids if self.crowd else (),
        )
        complete = tf.gather(tf.cumsum(sound), last) == last + 1
        shape = [len(self.windows), self._num_levels, self.labels.num_classes]
        return panoptic_quality.ImageCounts(*[tf.reshape(each, shape) for each in found]), complete


def pair_counts(
    true: tf.Tensor,
    pred: tf.Tensor,
    shared: tf.Tensor,
    true_area: tf.Tensor,
    labels: segments.Labels,
    crowd_ids: Sequence[int],
) -> panoptic_quality.ImageCounts:
    """The rules of PQ on lists of label pairs, for S windows at once.

    Args:
        true: ground-truth labels [N], -1 for void.
        pred: predicted labels [N], -1 for void; every pair of labels at most once.
        shared: pixels of a pair [N, S] int64.
        true_area: what a pair adds to the area of the ground-truth segment [N, S] int64; more than `shared` where
            some of its predicted pixels are taken for void.
        labels: which labels there are.
        crowd_ids: classes that are a crowd where the ground-truth instance is 0.

    Returns:
        What the windows add to the totals, [S, C] float64 each.
    """
    size, num_columns = tf.shape(shared)[0], shared.shape[1]
    true_class, true_used = segments.slot_classes(true, labels)
    pred_class, pred_used = segments.slot_classes(pred, labels)
    crowd_class = tf.constant([i in crowd_ids for i in range(labels.num_classes)])
    crowd = true_used & (true % labels.label_divisor == 0) & tf.gather(crowd_class, true_class)
    real = true_used & ~crowd
    true_number, pred_number = tubes.group(true), tubes.group(pred)

    def per_segment(values: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """The sum of a segment, [N, S], in the row of its number."""
        return tf.math.unsorted_segment_sum(values, numbers, size)

    void = per_segment(tf.where(true_used[:, tf.newaxis], tf.zeros_like(shared), shared), pred_number)
    true_areas, pred_areas = per_segment(true_area, true_number), per_segment(shared, pred_number)
    union = tf.gather(true_areas, true_number) + tf.gather(pred_areas - void, pred_number) - shared
    candidate = real & pred_used & (true_class == pred_class)
    matched = candidate[:, tf.newaxis] & (2 * shared > union)
    iou = tf.where(matched, shared / tf.maximum(union, 1), 0.0)

    own_crowd = crowd & pred_used & (true_class == pred_class)
    excused = void + per_segment(tf.where(own_crowd[:, tf.newaxis], shared, tf.zeros_like(shared)), pred_number)

    def unmatched(used: tf.Tensor, areas: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        ones = tf.cast(matched, tf.int32)
        there = tf.math.unsorted_segment_max(tf.cast(used, tf.int32), numbers, size) > 0
        return there[:, tf.newaxis] & (areas > 0) & (per_segment(ones, numbers) == 0)

    def per_class(values: tf.Tensor, classes: tf.Tensor, numbers: tf.Tensor | None = None) -> tf.Tensor:
        if numbers is not None:
            classes = tf.math.unsorted_segment_max(classes, numbers, size)
        sums = tf.math.unsorted_segment_sum(tf.cast(values, tf.float64), classes, labels.num_classes)
        return tf.transpose(tf.ensure_shape(sums, [labels.num_classes, num_columns]))

    false_positive = unmatched(pred_used, pred_areas, pred_number) & (2 * excused <= pred_areas)
    false_negative = unmatched(real, true_areas, true_number)
    return panoptic_quality.ImageCounts(
        iou=per_class(iou, true_class),
        tp=per_class(matched, true_class),
        fp=per_class(false_positive, pred_class, pred_number),
        fn=per_class(false_negative, true_class, true_number),
    )


def first_of_each(is_first_frame: tf.Tensor | bool, frames: tf.Tensor) -> tf.Tensor:
    is_first = tf.cast(tf.convert_to_tensor(is_first_frame), tf.bool)
    if is_first.shape.rank == 0:
        return is_first & (tf.range(tf.shape(frames)[0]) == 0)
    return additive.per_frame(is_first, frames, tf.bool)
