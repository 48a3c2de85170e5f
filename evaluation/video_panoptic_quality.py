"""Video panoptic quality: PQ of tubes, the segments of one label over a window of consecutive labelled frames.

"Video Panoptic Segmentation", Kim et al., 2020, arXiv 2006.11339. Equal to the official Cityscapes-VPS tool.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from evaluation import additive, pairs, panoptic_metric, panoptic_quality, tubes


class VideoPanopticQuality(panoptic_metric.PanopticMetric):
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
        super().__init__(num_classes, ignore_label, label_divisor, thing_ids, max_segments=max_segments, name=name)
        self.windows = tuple(int(i) for i in windows)
        self.crowd = bool(crowd)
        self.absent_as_zero = bool(absent_as_zero)
        if not self.windows or min(self.windows) < 1 or len(set(self.windows)) < len(self.windows):
            raise ValueError(f"Expected different lengths of windows, 1 or more, got {list(self.windows)}.")
        self._num_levels = num_levels
        shape = (len(self.windows), num_levels, self.labels.num_classes)
        for total in panoptic_quality.Counts._fields:
            setattr(self, total, self.add_total(total, shape))
        self.num_windows = self.add_total("num_windows", (len(self.windows),))
        # The last frames of the running sequence, the newest first.
        length, capacity = max(self.windows), tubes.PAIRS_PER_SEGMENT * self.max_segments
        self.keys = self.add_scratch("keys", (length, capacity), tf.int64)
        self.counts = self.add_scratch("counts", (length, capacity, self._num_levels), tf.int32)
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
        means = {f"vpq{group}": tf.reduce_mean(values[f"pq{group}"]) for group in panoptic_metric.GROUPS}
        return {**means, **values, "num_windows": tf.convert_to_tensor(self.num_windows), **self.faults()}

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {
            **super().get_config(),
            "windows": self.windows,
            "crowd": self.crowd,
            "absent_as_zero": self.absent_as_zero,
        }

    def _values(self, level: int | slice) -> dict[str, tf.Tensor]:
        names = panoptic_quality.Counts._fields
        totals = panoptic_quality.Counts(*[tf.convert_to_tensor(getattr(self, name))[:, level] for name in names])
        per_class, occurs = panoptic_quality.qualities(totals)
        if self.absent_as_zero:
            classes = range(self.labels.num_classes)
            occurs = tf.broadcast_to([i != self.labels.ignore_label for i in classes], tf.shape(occurs))
        return panoptic_quality.of_classes(self, totals, per_class, occurs)

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
    ) -> tuple[panoptic_quality.Counts, tf.Tensor]:
        """The counts of the windows that end with the newest frame [W, D, C], and which of them there are [W]."""
        length, capacity = keys.shape
        ages = tf.repeat(tf.range(length), capacity)
        keys, counts, ages = tubes.used(
            tf.reshape(keys, [-1]), tf.reshape(counts, [length * capacity, self._num_levels]), ages
        )
        keys, numbers = pairs.distinct(keys)
        size = tf.size(keys)
        by_age = tf.math.unsorted_segment_sum(counts, numbers * length + ages, size * length)
        by_age = tf.cast(tf.reshape(by_age, [size, length, self._num_levels]), tf.int64)
        last = tf.constant([window - 1 for window in self.windows])
        # Pixels of a window, on level 0 all of them, on level l those that are no worse than the threshold l - 1.
        area = tf.gather(tf.cumsum(by_age, axis=1), last, axis=1)  # [N, W, D]
        shared = tf.concat([tf.reduce_sum(area, -1, keepdims=True), tf.cumsum(area, axis=2)[..., :-1]], axis=2)
        columns = len(self.windows) * self._num_levels
        found = panoptic_quality.match(
            pairs.pairs_of(*pairs.split(keys)),
            tf.reshape(shared, [size, columns]),
            self.labels,
            self.thing_ids if self.crowd else (),
            true_area=tf.reshape(tf.broadcast_to(shared[..., :1], tf.shape(shared)), [size, columns]),
        )
        complete = tf.gather(tf.cumsum(sound), last) == last + 1
        shape = [len(self.windows), self._num_levels, self.labels.num_classes]
        return panoptic_quality.Counts(*[tf.reshape(each, shape) for each in found]), complete


def first_of_each(is_first_frame: tf.Tensor | bool, frames: tf.Tensor) -> tf.Tensor:
    """Which of the frames [B, ...] begin a sequence, [B] bool; a scalar is that of the first frame alone."""
    is_first = tf.cast(tf.convert_to_tensor(is_first_frame), tf.bool)
    if is_first.shape.rank == 0:
        return is_first & (tf.range(tf.shape(frames)[0]) == 0)
    return additive.per_frame(is_first, frames, tf.bool)
