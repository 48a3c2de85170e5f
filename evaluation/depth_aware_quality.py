"""Depth-aware video metrics: DVPQ and DSTQ.

"ViP-DeepLab: Learning Visual Perception with Depth-aware Video Panoptic Segmentation", Qiao et al., 2020,
arXiv 2012.05258. DVPQ is equal to the official Cityscapes-DVPS and SemKITTI-DVPS scripts, DSTQ to DeepLab2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from evaluation import additive, panoptic_metric, segmentation_tracking_quality, video_panoptic_quality


class DepthAwareVideoPanopticQuality(video_panoptic_quality.VideoPanopticQuality):
    """VPQ where predicted pixels of a wrong depth are void: mean over windows and depth thresholds.

    A pixel's depth is wrong if the ground truth has one and `|predicted - true| / true` is above the threshold. The
    unit is free, 0 means no ground truth; integers (16-bit PNGs as read) and floats will do.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        depth_thresholds: Sequence[float] = (0.1, 0.25, 0.5),
        crowd: bool = False,
        name: str = "depth_aware_video_panoptic_quality",
        **options,
    ):
        """Makes the metric.

        Args:
            num_classes: C; includes the void class where that is one of them.
            ignore_label: class of void, inside the classes or outside.
            label_divisor: labels are `class * label_divisor + track id`.
            thing_ids: class ids of things.
            depth_thresholds: relative errors of depth.
            crowd: whether a ground-truth thing with track id 0 is a crowd; the official scripts know none.
            name: name of the metric.
            **options: windows (1, 2, 3, 4 for Cityscapes-DVPS; 1, 5, 10, 20 for SemKITTI-DVPS) and the other keyword
                arguments of `VideoPanopticQuality`.

        Raises:
            ValueError: thresholds that are not positive or not different, or as in `VideoPanopticQuality`.
        """
        thresholds = _checked(depth_thresholds, lambda value: value > 0, "depth thresholds above 0")
        super().__init__(
            num_classes,
            ignore_label,
            label_divisor,
            thing_ids,
            crowd=crowd,
            num_levels=len(thresholds) + 1,
            name=name,
            **options,
        )
        self.depth_thresholds = thresholds
        num_windows, length = len(self.windows), max(self.windows)
        self.abs_rel = self.add_total("abs_rel", (num_windows,))
        self.abs_rel_windows = self.add_total("abs_rel_windows", (num_windows,))
        self.sequence_abs_rel = self.add_total("sequence_abs_rel")
        self.num_sequences = self.add_total("num_sequences")
        self.error = self.add_scratch("error", (length,))
        self.valid = self.add_scratch("valid", (length,))
        self.sequence_error = self.add_scratch("sequence_error")
        self.sequence_valid = self.add_scratch("sequence_valid")

    def update_state(
        self,
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        depth_true: tf.Tensor,
        depth_pred: tf.Tensor,
        is_first_frame: tf.Tensor | bool = False,
        *,
        strict: bool = False,
    ) -> None:
        """Adds one frame [H, W] or several consecutive ones [B, H, W].

        Args:
            y_true: ground-truth labels, integers.
            y_pred: predicted labels, integers.
            depth_true: true depth, 0 where there is none.
            depth_pred: predicted depth, in the same unit.
            is_first_frame: whether a frame begins a sequence, scalar or [B]. A scalar that comes with several frames
                is that of the first of them.
            strict: whether a frame that cannot be scored raises tf.errors.InvalidArgumentError (not under XLA).
        """
        y_true, y_pred = additive.as_batch(y_true, y_pred)
        first = video_panoptic_quality.first_of_each(is_first_frame, y_true)
        depths = (as_depth("depth_true", depth_true, y_true), as_depth("depth_pred", depth_pred, y_true))
        self.add_frames(self._depth_frame, [y_true, y_pred, *depths, first], strict)

    def result(self) -> dict[str, tf.Tensor]:
        """The values of `VideoPanopticQuality.result`, which do not look at depth, and with L thresholds:

        `dvpq, dvpq_things, dvpq_stuff`: means over windows and thresholds of `depth_pq` ... [W, L]; `depth_` goes
        before all names of that result with a dimension L behind W, thresholds in the given order. `abs_rel` [W] is
        the mean over windows of the relative error of their pixels (as the SemKITTI-DVPS script has it),
        `sequence_abs_rel` the mean over sequences (the Cityscapes-DVPS script), 0 where there is no true depth.
        """
        ascending = sorted(self.depth_thresholds)
        order = [ascending.index(threshold) for threshold in self.depth_thresholds]
        values = self._values(level=slice(1, None))
        depth = {f"depth_{name}": tf.gather(value, order, axis=1) for name, value in values.items()}
        return {
            **{f"dvpq{group}": tf.reduce_mean(depth[f"depth_pq{group}"]) for group in panoptic_metric.GROUPS},
            **super().result(),
            **depth,
            "abs_rel": tf.math.divide_no_nan(
                tf.convert_to_tensor(self.abs_rel), tf.convert_to_tensor(self.abs_rel_windows)
            ),
            "sequence_abs_rel": tf.math.divide_no_nan(
                tf.convert_to_tensor(self.sequence_abs_rel), tf.convert_to_tensor(self.num_sequences)
            ),
        }

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {**super().get_config(), "depth_thresholds": self.depth_thresholds}

    def _depth_frame(
        self,
        scratch: dict[str, tf.Tensor],
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        depth_true: tf.Tensor,
        depth_pred: tf.Tensor,
        is_first: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        valid = depth_true > 0.0
        error = tf.abs(depth_pred - depth_true) / tf.where(valid, depth_true, 1.0)
        error = tf.where(valid, error, 0.0)
        # How many thresholds the error exceeds; a prediction that is no number exceeds all.
        levels = tf.add_n([tf.cast(~(error <= threshold), tf.int32) for threshold in self.depth_thresholds])
        scratch, totals = self._frame(scratch, y_true, y_pred, is_first, levels)

        def shifted(name: str, newest: tf.Tensor) -> tf.Tensor:
            older = scratch[name][:-1]
            return tf.concat([[newest], tf.where(is_first, tf.zeros_like(older), older)], axis=0)

        sums = {"error": tf.reduce_sum(error), "valid": tf.cast(tf.math.count_nonzero(valid), tf.float64)}
        # The mean of a sequence so far replaces that of the frame before: nothing is left to do at its end.
        before = {name: scratch[f"sequence_{name}"] * tf.cast(~is_first, tf.float64) for name in sums}
        for name, value in sums.items():
            scratch[name] = shifted(name, value)
            scratch[f"sequence_{name}"] = before[name] + value
        mean, mean_before = (
            tf.math.divide_no_nan(each["error"], each["valid"])
            for each in ({name: scratch[f"sequence_{name}"] for name in sums}, before)
        )
        totals["sequence_abs_rel"] = mean - mean_before
        totals["num_sequences"] = tf.cast((scratch["sequence_valid"] > 0.0) & (before["valid"] == 0.0), tf.float64)
        last = tf.constant([window - 1 for window in self.windows])
        errors, pixels = (tf.gather(tf.cumsum(scratch[name]), last) for name in ("error", "valid"))
        there = (totals["num_windows"] > 0.0) & (pixels > 0.0)
        totals["abs_rel"] = tf.where(there, tf.math.divide_no_nan(errors, pixels), 0.0)
        totals["abs_rel_windows"] = tf.cast(there, tf.float64)
        return scratch, totals


class DepthAwareSegmentationTrackingQuality(segmentation_tracking_quality.SegmentationTrackingQuality):
    """STQ with depth: cube root of STQ² and the share of pixels whose depth is right, DQ.

    A depth is right if it is above 0 and the ratio of the larger to the smaller of prediction and ground truth is at
    most the threshold. DQ is the geometric mean over thresholds, of all pixels with ground truth of all sequences.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        depth_thresholds: Sequence[float] = (1.25, 1.1),
        name: str = "depth_aware_segmentation_tracking_quality",
        **options,
    ):
        """Makes the metric.

        Args:
            num_classes: C; includes the void class where that is one of them.
            ignore_label: class of void, inside the classes or outside.
            label_divisor: labels are `class * label_divisor + track id`.
            thing_ids: class ids that are tracked.
            depth_thresholds: ratios of depths, 1 or more.
            name: name of the metric.
            **options: the other keyword arguments of `SegmentationTrackingQuality`.

        Raises:
            ValueError: thresholds below 1 or not different, or as in `SegmentationTrackingQuality`.
        """
        super().__init__(num_classes, ignore_label, label_divisor, thing_ids, name=name, **options)
        self.depth_thresholds = _checked(depth_thresholds, lambda value: value >= 1, "ratios of depths, 1 or more")
        self.add_of_all_and_each("depth_inliers", (len(self.depth_thresholds),))
        self.add_of_all_and_each("depth_total", ())

    def update_state(
        self,
        y_true: tf.Tensor,
        y_pred: tf.Tensor,
        depth_true: tf.Tensor,
        depth_pred: tf.Tensor,
        sequence_id: tf.Tensor | int = 0,
        weights: tf.Tensor | None = None,
        *,
        strict: bool = False,
    ) -> None:
        """Adds one frame [H, W] or several consecutive ones [B, H, W].

        Args:
            y_true: ground-truth labels, integers.
            y_pred: predicted labels, integers.
            depth_true: true depth, 0 where there is none.
            depth_pred: predicted depth, in the same unit.
            sequence_id: integer that changes where a sequence begins, scalar or [B].
            weights: what a pixel counts in STQ, of the shape of the maps and >= 0; None: 1. DQ counts every pixel.
            strict: whether a frame that cannot be scored raises tf.errors.InvalidArgumentError (not under XLA).
        """
        inputs = self._inputs(y_true, y_pred, sequence_id, weights)
        depths = [as_depth("depth_true", depth_true, inputs[0]), as_depth("depth_pred", depth_pred, inputs[0])]
        self.add_frames(self._depth_frame, [*depths, *inputs], strict)

    def result(self) -> dict[str, tf.Tensor]:
        """The values of `SegmentationTrackingQuality.result`, and with L thresholds in the given order:

        `dstq`, `dq`; `dstq_at, dq_at` [L] for each threshold; `depth_inliers` [L] and `depth_total` in pixels. The same
        with `_per_seq`, [S, ...]; all 0 where there is no true depth.
        """
        result = super().result()
        for suffix in ("", "_per_seq"):
            inliers = tf.convert_to_tensor(getattr(self, f"depth_inliers{suffix}"))
            total = tf.convert_to_tensor(getattr(self, f"depth_total{suffix}"))
            dq_at = additive.ratio(inliers, total[..., tf.newaxis])
            dq = tf.reduce_prod(dq_at, axis=-1) ** (1.0 / len(self.depth_thresholds))
            stq = result[f"stq{suffix}"]
            values = {
                "dstq": tf.where(total > 0.0, (stq**2 * dq) ** (1.0 / 3.0), 0.0),
                "dq": dq,
                "dstq_at": tf.where(
                    total[..., tf.newaxis] > 0.0, (stq[..., tf.newaxis] ** 2 * dq_at) ** (1.0 / 3.0), 0.0
                ),
                "dq_at": dq_at,
                "depth_inliers": inliers,
                "depth_total": total,
            }
            result.update({name + suffix: value for name, value in values.items()})
        return result

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {**super().get_config(), "depth_thresholds": self.depth_thresholds}

    def _depth_frame(
        self, scratch: dict[str, tf.Tensor], depth_true: tf.Tensor, depth_pred: tf.Tensor, *inputs: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        valid = (depth_true > 0.0) & tf.math.is_finite(depth_true)
        both = valid & (depth_pred > 0.0)
        true, pred = tf.where(both, depth_true, 1.0), tf.where(both, depth_pred, 1.0)
        ratio = tf.maximum(pred / true, true / pred)
        inliers = [tf.math.count_nonzero(both & (ratio <= threshold)) for threshold in self.depth_thresholds]
        scratch, totals = self._frame(scratch, *inputs)
        counted = totals["length"]  # 0 where the frame is left out
        of_frame = {
            "depth_inliers": tf.cast(tf.stack(inliers), tf.float64) * counted,
            "depth_total": tf.cast(tf.math.count_nonzero(valid), tf.float64) * counted,
        }
        totals.update(self.of_all_and_each(inputs[2], **of_frame))
        return scratch, totals


def as_depth(name: str, depth: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
    """Depths of any type as float64 of the shape of frames [B, H, W]: wide enough for 16-bit integers to subtract."""
    return tf.cast(additive.as_frames(name, depth, frames), tf.float64)


def _checked(thresholds: Sequence[float], allowed: Callable[[float], bool], expected: str) -> tuple[float, ...]:
    """The thresholds as floats; raises ValueError where there are none, equal ones, or some that are not allowed."""
    values = tuple(float(i) for i in thresholds)
    if not values or not all(map(allowed, values)) or len(set(values)) < len(values):
        raise ValueError(f"Expected different {expected}, got {list(values)}.")
    return values
