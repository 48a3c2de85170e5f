"""Which metrics an evaluation keeps: those of the model's tasks on this data set, and those the options add."""

from __future__ import annotations

from collections.abc import Sequence

from absl import logging

from deeplab2_kmax import config_values
from deeplab2_kmax.data import datasets
from deeplab2_kmax.protos import config_pb2, evaluator_pb2
from evaluation import metric_set
from trainer import training

# A model's task: the metrics to keep, and what the data set must have for them.
_METRICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "panoptic": (("panoptic",), ()),
    "semantic": (("semantic",), ()),
    "video_panoptic": (("video_panoptic", "step"), ("is_video",)),
    "depth_video_panoptic": (("depth_video_panoptic", "depth_step"), ("is_video", "has_depth")),
    "next_frame_panoptic": (("next_frame_panoptic",), ("is_video",)),
    "depth": (("depth",), ("has_depth",)),
    "normals": (("normals",), ()),
}


def choose(tasks: Sequence[str], dataset: datasets.Dataset, options: evaluator_pb2.EvaluatorOptions) -> tuple[str, ...]:
    """Names of `metric_set.TASKS`.

    A task that the data set cannot score is left out with a line in the log: a video model also predicts images.
    """
    kept: dict[str, None] = {}  # an ordered set
    for task in tasks:
        metrics, needs = _METRICS[task]
        missing = [need for need in needs if not getattr(dataset, need)]
        if missing:
            logging.warning("Task %s is not scored: data set %s says not %s.", task, dataset.name, missing[0])
            continue
        kept.update(dict.fromkeys(metrics))
    kept.update(dict.fromkeys(options.more_metrics))
    if options.detailed_ap_metrics:
        kept["instance"] = None
    return tuple(kept)


def make(
    tasks: Sequence[str], dataset: datasets.Dataset, options: evaluator_pb2.EvaluatorOptions
) -> metric_set.MetricSet:
    """The metrics, empty.

    Raises:
        ValueError: the data set has nothing that one of them scores.
    """
    return metric_set.MetricSet(choose(tasks, dataset, options), dataset, detailed_ap=options.detailed_ap_metrics)


def names(metrics: metric_set.MetricSet | None, config: config_pb2.ExperimentOptions) -> set[str]:
    """The names of all values that an evaluation of this config can log."""
    losses = [field for field, _ in config_values.losses(config.trainer_options.loss_options)]
    found = {f"losses/eval_{name}" for name in [*losses, training.TOTAL] if losses}
    return found | (metrics.names() if metrics is not None else set())
