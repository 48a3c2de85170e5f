"""Metric updates for a Cityscapes-sized map on one core."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks import timing
from evaluation import (
    boundary_quality,
    depth_aware_quality,
    instance_ap,
    mean_iou,
    panoptic_quality,
    parsing_covering,
    segmentation_tracking_quality,
    video_panoptic_quality,
)

_HEIGHT, _WIDTH = 1025, 2049
_NUM_SEGMENTS = 60
_NUM_CLASSES, _IGNORE_LABEL, _DIVISOR = 19, 255, 1000
_THINGS = range(11, 19)


def run(repeats: int = 10) -> dict:
    """Milliseconds of one update; the contract is at most 45 for exact PQ."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    y_true, y_pred = maps()
    true, pred = tf.constant(y_true), tf.constant(y_pred)
    found: dict = {
        "height": _HEIGHT,
        "width": _WIDTH,
        "segments": [len(np.unique(y_true)), len(np.unique(y_pred))],
        "pq_update_target_ms": 45.0,
    }
    for name, jit_compile in (("graph", False), ("xla", True)):
        metric = panoptic_quality.PanopticQuality(_NUM_CLASSES, _IGNORE_LABEL, _DIVISOR, _THINGS)
        found[f"pq_update_{name}_ms"] = _median(metric, true, pred, repeats=repeats, jit_compile=jit_compile)
        found[f"pq_{name}"] = float(metric.result()["pq"])
    eager = panoptic_quality.PanopticQuality(_NUM_CLASSES, _IGNORE_LABEL, _DIVISOR, _THINGS)
    found["pq_update_eager_ms"] = timing.median_ms(lambda: eager.update_state(true, pred), repeats)
    # Every pixel another class than its neighbours: no runs to profit from.
    noise = tf.constant(np.random.default_rng(0).integers(0, 19, (_HEIGHT, _WIDTH)).astype(np.int32) * _DIVISOR)
    metric = panoptic_quality.PanopticQuality(_NUM_CLASSES, _IGNORE_LABEL, _DIVISOR, _THINGS)
    found["pq_update_noise_graph_ms"] = _median(
        metric, noise, tf.reverse(noise, [0]), repeats=repeats, jit_compile=False
    )
    iou = mean_iou.MeanIoU(_NUM_CLASSES, _IGNORE_LABEL)
    found["mean_iou_update_graph_ms"] = _median(
        iou, true // _DIVISOR, pred // _DIVISOR, repeats=repeats, jit_compile=False
    )
    found.update(_images(true, pred, repeats))
    found.update(_video(true, pred, repeats))
    return found


def _images(true: tf.Tensor, pred: tf.Tensor, repeats: int) -> dict:
    """Milliseconds of one more image."""
    found: dict = {}
    scores = tf.random.stateless_uniform([2, _HEIGHT, _WIDTH], seed=(0, 0))
    arguments = (_NUM_CLASSES, _IGNORE_LABEL, _DIVISOR, _THINGS)
    metrics = {
        "boundary_pq": (boundary_quality.BoundaryQuality(*arguments, dilation_ratio=0.005), (true, pred)),
        "parsing_covering": (parsing_covering.ParsingCovering(*arguments), (true, pred)),
        "coco_ap": (instance_ap.CocoAveragePrecision(*arguments), (true, pred, scores[0], scores[1])),
        "cityscapes_ap": (instance_ap.CityscapesAveragePrecision(*arguments), (true, pred, scores[0], scores[1])),
    }
    for key, (metric, inputs) in metrics.items():
        found[f"{key}_update_graph_ms"] = _median(metric, *inputs, repeats=repeats, jit_compile=False)
    return found


def _video(true: tf.Tensor, pred: tf.Tensor, repeats: int) -> dict:
    """Milliseconds of one more frame of a long video; the contract is at most 90."""
    found: dict = {"video_update_target_ms": 90.0}
    depth_true, depth_pred = (tf.constant(depth) for depth in depths())
    arguments = (_NUM_CLASSES, _IGNORE_LABEL, _DIVISOR, _THINGS)
    makers = {
        "vpq": (video_panoptic_quality.VideoPanopticQuality, (true, pred)),
        "stq": (segmentation_tracking_quality.SegmentationTrackingQuality, (true, pred)),
        "dvpq": (depth_aware_quality.DepthAwareVideoPanopticQuality, (true, pred, depth_true, depth_pred)),
        "dstq": (depth_aware_quality.DepthAwareSegmentationTrackingQuality, (true, pred, depth_true, depth_pred)),
    }
    for key, (make, inputs) in makers.items():
        for name, jit_compile in (("graph", False), ("xla", True)):
            metric = make(*arguments)
            found[f"{key}_update_{name}_ms"] = _median(metric, *inputs, repeats=repeats, jit_compile=jit_compile)
        found[f"{key}_state_mib"] = round(sum(v.numpy().nbytes for v in metric.variables) / 2**20, 3)
    return found


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
        metric.invalid.numpy()  # waits for the update

    return timing.median_ms(call, repeats)
