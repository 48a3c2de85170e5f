"""The tasks over videos: frames come in order, sequence by sequence, and `flush` ends the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf

from deeplab2_kmax.data import datasets, protocols
from deeplab2_kmax.data.targets import keys
from evaluation import depth_aware_quality, segmentation_tracking_quality, tasks, video_panoptic_quality
from evaluation.tasks import GROUPS, Columns, Maps, Options, Result, Task

_FRAMES = (keys.PANOPTIC_RAW, keys.SEQUENCE_ID)


class VideoPanoptic(Task):
    """VPQ over the windows of the data set's protocol."""

    prefix = "evaluation/vpq"
    truth, prediction = _FRAMES, ("panoptic_pred",)
    title: ClassVar[str] = "VPQ"
    field: ClassVar[str] = "vpq"
    _labels: ClassVar[str] = ""  # before the names of the metric's values per window

    def __init__(self, dataset: datasets.Dataset, options: Options):
        self.metric = video_panoptic_quality.VideoPanopticQuality(
            *tasks.label_arguments(dataset), max_segments=options.max_segments, **_windows(dataset)
        )
        self._sequence = Sequence()

    def update(self, truth: Maps, prediction: Maps) -> None:
        first = self._sequence.begins(truth[keys.SEQUENCE_ID])
        self.metric.update_state(truth[keys.PANOPTIC_RAW], prediction["panoptic_pred"], first)

    def reset(self) -> None:
        super().reset()
        self._sequence.reset()

    def values(self, result: Result) -> dict[str, float]:
        flat = {
            f"{self.prefix}/{self.title}{group}": float(result[f"{self.field}{group}"]) for group in GROUPS.values()
        }
        per_window = _mean_over_thresholds(result[f"{self._labels}pq"])
        for window, value, count in zip(self.metric.windows, per_window, result["num_windows"]):
            flat[f"{self.prefix}/{self.title}_{window}_frames"] = float(value)
            flat[f"{self.prefix}/num_windows_{window}_frames"] = float(count)
        return flat

    def columns(self, result: Result) -> Columns:
        found = sum(result[f"{self._labels}{name}"] for name in ("tp", "fp", "fn"))
        per_class = result[f"{self._labels}pq_per_class"]
        axes = tuple(range(per_class.ndim - 1))
        return {self.field: tasks.where(found.sum(axis=axes) > 0, per_class.mean(axis=axes))}

    @classmethod
    def lines(cls, values: Mapping[str, float]) -> list[str]:
        start, end = f"{cls.prefix}/{cls.title}_", "_frames"
        windows = [name[len(start) : -len(end)] for name in values if name.startswith(start) and name.endswith(end)]
        shown = [f"{title} {tasks.percents([values[start[:-1] + group]]).strip()}" for title, group in GROUPS.items()]
        each = [f"{window}: {tasks.percents([values[start + window + end]]).strip()}" for window in windows]
        return [f"{cls.title:24s} {'   '.join(shown)}", f"{'  windows of frames':24s} {'   '.join(each)}"]


class DepthVideoPanoptic(VideoPanoptic):
    """DVPQ over the windows of the data set's protocol, and the relative error of depth as its scripts have it."""

    prefix = "evaluation/dvpq"
    truth, prediction = (*_FRAMES, keys.DEPTH_RAW), ("panoptic_pred", "depth_pred")
    title = "DVPQ"
    field = "dvpq"
    _labels = "depth_"

    def __init__(self, dataset: datasets.Dataset, options: Options):
        self.metric = depth_aware_quality.DepthAwareVideoPanopticQuality(
            *tasks.label_arguments(dataset), max_segments=options.max_segments, **_windows(dataset)
        )
        self._sequence = Sequence()

    def update(self, truth: Maps, prediction: Maps) -> None:
        first = self._sequence.begins(truth[keys.SEQUENCE_ID])
        self.metric.update_state(*_with_depth(truth, prediction), first)

    def values(self, result: Result) -> dict[str, float]:
        flat = super().values(result)
        for threshold, value in zip(self.metric.depth_thresholds, result["depth_pq"].mean(axis=0)):
            flat[f"{self.prefix}/DVPQ_threshold_{threshold:g}"] = float(value)
        flat[f"{self.prefix}/AbsErrorRel"] = float(result["sequence_abs_rel"])
        return flat


class Step(Task):
    """STQ, with its two factors."""

    prefix = "evaluation/step"
    truth, prediction = _FRAMES, ("panoptic_pred",)
    named: ClassVar[dict[str, str]] = {"STQ": "stq", "AQ": "aq", "IoU": "sq"}  # the factor SQ is DeepLab2's "IoU"

    def __init__(self, dataset: datasets.Dataset, options: Options):
        self.metric = segmentation_tracking_quality.SegmentationTrackingQuality(
            *tasks.label_arguments(dataset), max_segments=options.max_segments
        )

    def update(self, truth: Maps, prediction: Maps) -> None:
        numbers = sequence_numbers(truth[keys.SEQUENCE_ID])
        self.metric.update_state(truth[keys.PANOPTIC_RAW], prediction["panoptic_pred"], numbers, _weights(truth))

    def flush(self) -> None:
        self.metric.flush()

    def values(self, result: Result) -> dict[str, float]:
        if result["unflushed"]:
            raise ValueError(
                f"{int(result['unflushed'])} frames belong to a sequence that has not ended: call flush() after the "
                "last frame."
            )
        named = {**self.named, "num_tubes": "num_tubes", "num_classes": "num_classes", "num_frames": "length"}
        return {f"{self.prefix}/{name}": float(result[key]) for name, key in named.items()}

    @classmethod
    def lines(cls, values: Mapping[str, float]) -> list[str]:
        first, *others = cls.named
        shown = "   ".join(f"{name} {tasks.percents([values[f'{cls.prefix}/{name}']]).strip()}" for name in others)
        tubes, frames = (values[f"{cls.prefix}/num_{name}"] for name in ("tubes", "frames"))
        main = tasks.percents([values[f"{cls.prefix}/{first}"]])
        return [f"{first:24s}{main}   {shown}   ({tubes:.0f} tracks in {frames:.0f} frames)"]


class DepthStep(Step):
    """DSTQ, with its three factors."""

    prefix = "evaluation/dstq"
    truth, prediction = (*_FRAMES, keys.DEPTH_RAW), ("panoptic_pred", "depth_pred")
    named = {"DSTQ": "dstq", "STQ": "stq", "AQ": "aq", "IoU": "sq", "DQ": "dq"}

    def __init__(self, dataset: datasets.Dataset, options: Options):
        self.metric = depth_aware_quality.DepthAwareSegmentationTrackingQuality(
            *tasks.label_arguments(dataset), max_segments=options.max_segments
        )

    def update(self, truth: Maps, prediction: Maps) -> None:
        numbers = sequence_numbers(truth[keys.SEQUENCE_ID])
        self.metric.update_state(*_with_depth(truth, prediction), numbers, _weights(truth))


class Sequence:
    """The sequence that the last frame belonged to."""

    def __init__(self) -> None:
        self._last = tf.Variable(
            -1,
            dtype=tf.int64,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="last_sequence",
        )

    def begins(self, sequence_ids: tf.Tensor) -> tf.Tensor:
        """Whether each of the next frames [B] begins a sequence."""
        numbers = sequence_numbers(sequence_ids)
        before = tf.concat([[tf.convert_to_tensor(self._last)], numbers[:-1]], axis=0)
        self._last.assign(numbers[-1])
        return numbers != before

    def reset(self) -> None:
        """No frame has come."""
        self._last.assign(-1)


def sequence_numbers(sequence_ids: tf.Tensor) -> tf.Tensor:
    """Names or numbers of sequences [B] -> numbers [B] int64, 0 or more, different for different names."""
    sequence_ids = tf.convert_to_tensor(sequence_ids)
    if sequence_ids.dtype == tf.string:
        return tf.strings.to_hash_bucket_fast(sequence_ids, 2**62)
    return tf.cast(sequence_ids, tf.int64)


def _windows(dataset: datasets.Dataset) -> dict:
    protocol = protocols.of(dataset)
    return {"windows": protocol.windows, "absent_as_zero": protocol.absent_as_zero}


def _weights(truth: Maps) -> tf.Tensor | None:
    """What the pixels of panoramas count: what several cameras see counts once. None: 1."""
    counts = truth.get(keys.NUM_CAMERAS_RAW)
    return None if counts is None else 1.0 / tf.cast(tf.maximum(counts, 1), tf.float64)


def _with_depth(truth: Maps, prediction: Maps) -> tuple[tf.Tensor, ...]:
    return truth[keys.PANOPTIC_RAW], prediction["panoptic_pred"], truth[keys.DEPTH_RAW], prediction["depth_pred"]


def _mean_over_thresholds(values):
    """[windows] or [windows, thresholds] -> [windows]."""
    return values if values.ndim == 1 else values.mean(axis=1)
