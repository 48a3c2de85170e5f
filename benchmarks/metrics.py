"""Metric updates for a Cityscapes-sized map on one core."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks import timing
from evaluation import (
    additive,
    boundary_quality,
    depth,
    depth_aware_quality,
    instance_ap,
    mean_iou,
    mots,
    panoptic_quality,
    parsing_covering,
    region_boundary,
    segmentation_tracking_quality,
    surface_normals,
    video_panoptic_quality,
)

_HEIGHT, _WIDTH = 1025, 2049
_NUM_SEGMENTS = 60
_NUM_CLASSES, _IGNORE_LABEL, _DIVISOR = 19, 255, 1000
_THINGS = range(11, 19)
_NUM_OBJECTS = 4
ARGUMENTS = (_NUM_CLASSES, _IGNORE_LABEL, _DIVISOR, _THINGS)


class Case(NamedTuple):
    """A metric and what one more image or frame of it is."""

    make: Callable[[], additive.AdditiveMetric]
    inputs: tuple[str, ...]  # names of `inputs()`
    compiled: bool = True  # whether XLA is measured too


CASES = {
    "pq": Case(lambda: panoptic_quality.PanopticQuality(*ARGUMENTS), ("panoptic",)),
    "boundary_pq": Case(lambda: boundary_quality.BoundaryQuality(*ARGUMENTS, dilation_ratio=0.005), ("panoptic",)),
    "iiou": Case(
        lambda: mean_iou.InstanceWeightedIoU(_NUM_CLASSES, _IGNORE_LABEL, _DIVISOR, dict.fromkeys(_THINGS, 5000.0)),
        ("instances",),
    ),
    "mean_iou": Case(lambda: mean_iou.MeanIoU(_NUM_CLASSES, _IGNORE_LABEL), ("classes",)),
    "coco_ap": Case(lambda: instance_ap.CocoAveragePrecision(*ARGUMENTS), ("panoptic", "scores"), False),
    "cityscapes_ap": Case(lambda: instance_ap.CityscapesAveragePrecision(*ARGUMENTS), ("panoptic", "scores"), False),
    "parsing_covering": Case(lambda: parsing_covering.ParsingCovering(*ARGUMENTS), ("panoptic",)),
    "vpq": Case(lambda: video_panoptic_quality.VideoPanopticQuality(*ARGUMENTS), ("panoptic",)),
    "stq": Case(lambda: segmentation_tracking_quality.SegmentationTrackingQuality(*ARGUMENTS), ("panoptic",)),
    "dvpq": Case(lambda: depth_aware_quality.DepthAwareVideoPanopticQuality(*ARGUMENTS), ("panoptic", "depth")),
    "dstq": Case(lambda: depth_aware_quality.DepthAwareSegmentationTrackingQuality(*ARGUMENTS), ("panoptic", "depth")),
    "mots": Case(lambda: mots.TrackingAndSegmentation(*ARGUMENTS), ("panoptic",)),
    "ptq": Case(lambda: mots.PanopticTrackingQuality(*ARGUMENTS), ("panoptic",)),
    "j_and_f": Case(lambda: region_boundary.RegionAndBoundary(), ("objects",), False),
    "depth": Case(lambda: depth.DepthErrors(), ("metres",)),
    "normals": Case(lambda: surface_normals.SurfaceNormalErrors(), ("normals",)),
}


def run(repeats: int = 10) -> dict:
    """Milliseconds of one more image or frame, and MiB that a metric keeps; the contract is at most 45 ms for PQ and
    90 for the video metrics."""
    one_core()
    arrays = inputs()
    y_true, y_pred = arrays["panoptic"]
    found: dict = {
        "height": _HEIGHT,
        "width": _WIDTH,
        "segments": [len(np.unique(y_true)), len(np.unique(y_pred))],
        "pq_update_target_ms": 45.0,
        "video_update_target_ms": 90.0,
    }
    for name, case in CASES.items():
        tensors = [tf.constant(each) for key in case.inputs for each in arrays[key]]
        for mode in ("graph", "xla") if case.compiled else ("graph",):
            metric = case.make()
            found[f"{name}_update_{mode}_ms"] = _median(metric, *tensors, repeats=repeats, jit_compile=mode == "xla")
        found[f"{name}_state_mib"] = round(sum(v.numpy().nbytes for v in metric.variables) / 2**20, 3)
    found.update(_extremes(tf.constant(y_true), tf.constant(y_pred), repeats))
    return found


def one_core() -> None:
    """Keeps TensorFlow to one thread; before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def update_ms(name: str, arrays: dict[str, tuple[np.ndarray, ...]], repeats: int) -> float:
    """Milliseconds of one update in a graph; `arrays` as `inputs` gives them."""
    case = CASES[name]
    tensors = [tf.constant(each) for key in case.inputs for each in arrays[key]]
    return _median(case.make(), *tensors, repeats=repeats, jit_compile=False)


def _extremes(true: tf.Tensor, pred: tf.Tensor, repeats: int) -> dict:
    """Milliseconds of PQ eagerly and on noise, and of metrics of 10^4 instances."""
    found = {}
    eager = CASES["pq"].make()
    found["pq_update_eager_ms"] = timing.median_ms(lambda: eager.update_state(true, pred), repeats)
    # Every pixel another class than its neighbours: no runs to profit from.
    noise = tf.constant(np.random.default_rng(0).integers(0, 19, (_HEIGHT, _WIDTH)).astype(np.int32) * _DIVISOR)
    found["pq_update_noise_graph_ms"] = _median(
        CASES["pq"].make(), noise, tf.reverse(noise, [0]), repeats=repeats, jit_compile=False
    )
    blocks = np.arange(1, 100 * 100 + 1, dtype=np.int32).reshape(100, 100).repeat(10, 0).repeat(20, 1)
    many, scores = tf.constant(blocks), tf.ones(blocks.shape)
    options = {"max_segments": 10_000}
    found["pq_update_10000_instances_graph_ms"] = _median(
        panoptic_quality.PanopticQuality(1, 255, 65536, [0], **options), many, many, repeats=repeats, jit_compile=False
    )
    found["coco_ap_update_10000_instances_graph_ms"] = _median(
        instance_ap.CocoAveragePrecision(1, 255, 65536, [0], **options),
        *(many, many, scores, scores),
        repeats=repeats,
        jit_compile=False,
    )
    return found


def inputs() -> dict[str, tuple[np.ndarray, ...]]:
    """Ground truth and prediction of every kind."""
    random = np.random.default_rng(2)
    panoptic, metric_depth = maps(), depths()
    objects = [
        np.where((each // _DIVISOR >= 11) & (each % _DIVISOR <= _NUM_OBJECTS), each % _DIVISOR, 0) for each in panoptic
    ]
    normals = random.normal(size=(_HEIGHT, _WIDTH, 3)).astype(np.float32)
    return {
        "panoptic": panoptic,
        "classes": tuple(each // _DIVISOR for each in panoptic),
        "instances": (panoptic[0], panoptic[1] // _DIVISOR),
        "scores": tuple(random.uniform(size=(2, _HEIGHT, _WIDTH)).astype(np.float32)),
        "depth": metric_depth,
        "metres": tuple((each / 256).astype(np.float32) for each in metric_depth),
        "objects": tuple(each.astype(np.int32) for each in objects),
        "normals": (normals, normals + random.normal(0, 0.2, normals.shape).astype(np.float32)),
    }


def depths() -> tuple[np.ndarray, np.ndarray]:
    """True and predicted depth as 16-bit PNGs hold it: one pixel in five without, errors up to 30% and noise."""
    random = np.random.default_rng(1)
    rows, columns = (axis.astype(np.float32) for axis in np.ogrid[:_HEIGHT, :_WIDTH])
    true = 2000 + 20 * (_HEIGHT - rows) + 3 * columns
    wave = 1 + 0.3 * np.sin(rows / 90) * np.sin(columns / 130)
    pred = true * (wave + random.normal(0, 0.002, true.shape))
    true = np.where(random.uniform(size=true.shape) < 0.2, 0, true)
    return true.astype(np.int32), pred.astype(np.int32)


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Ground truth and prediction with 60 segments each: areas around random points, the prediction a bit off."""
    random = np.random.default_rng(0)
    centers = random.uniform((0, 0), (_HEIGHT, _WIDTH), (_NUM_SEGMENTS, 2)).astype(np.float32)
    num_things = _NUM_SEGMENTS - _THINGS[0]
    stuff = np.arange(_THINGS[0]) * _DIVISOR
    things = (_THINGS[0] + np.arange(num_things) % len(_THINGS)) * _DIVISOR + np.arange(1, num_things + 1)
    labels = np.concatenate([stuff, things]).astype(np.int32)
    rows, columns = (axis.astype(np.float32) for axis in np.ogrid[:_HEIGHT, :_WIDTH])

    def nearest(points: np.ndarray) -> np.ndarray:
        best = np.full((_HEIGHT, _WIDTH), np.inf, np.float32)
        result = np.zeros((_HEIGHT, _WIDTH), np.int32)
        for (row, column), label in zip(points, labels):
            distance = (rows - row) ** 2 + (columns - column) ** 2
            result = np.where(distance < best, label, result)
            best = np.minimum(best, distance)
        return result

    y_true, y_pred = nearest(centers), nearest(centers + random.normal(0, 12, centers.shape).astype(np.float32))
    y_true[-40:, :600] = _IGNORE_LABEL * _DIVISOR
    return y_true, y_pred


def _median(metric, *maps: tf.Tensor, repeats: int, jit_compile: bool) -> float:
    @tf.function(jit_compile=jit_compile)
    def update(*maps: tf.Tensor) -> None:
        metric.update_state(*maps)

    def call() -> None:
        update(*maps)
        metric.variables[0].numpy()  # waits for the update

    return timing.median_ms(call, repeats)
