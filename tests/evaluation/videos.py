"""Random videos, the video metrics on small capacities, and how to feed them."""

import functools
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from evaluation import (
    depth_aware_quality,
    mots,
    region_boundary,
    segmentation_tracking_quality,
    video_panoptic_quality,
)

SIZE, VOID = (20, 28), 2550
ARGUMENTS = (3, 255, 10, (0, 1))  # classes, void, divisor, things
LENGTHS = (5, 1, 4)
MODES = ("eager", "graph", "xla")


def video(length, seed, size=SIZE):
    """Labels of true and predicted tracks that move, appear, vanish and change their ids; crowds and void; depths."""
    rng = np.random.default_rng(seed)
    maps = np.full((2, length, *size), 20, np.int32)
    for label in [0, 1, 2, 3, 10, 11, VOID, VOID + 1]:
        row, column, height, width = rng.integers(0, 12), rng.integers(0, 18), rng.integers(3, 9), rng.integers(3, 12)
        for frame in range(length):
            for side in range(2):
                if rng.uniform() < 0.8:
                    drawn = rng.choice([label, 2, 12]) if side and rng.uniform() < 0.3 else label
                    top, left = row + frame * side % 2, column + frame
                    maps[side, frame, top : top + height, left : left + width] = drawn
    true = rng.uniform(1, 50, maps[0].shape) * (rng.uniform(size=maps[0].shape) < 0.7)
    return maps[0], maps[1], true, true * rng.uniform(0.6, 1.5, true.shape)


def frames(names, lengths=LENGTHS, seed=0):
    """All frames of some videos: lists of inputs, each frame's sequence id."""
    videos = [video(length, seed + i) for i, length in enumerate(lengths)]
    columns = [np.concatenate(each) for each in zip(*videos)]
    if names == "objects":
        columns = [np.where(each < 4, each, 0) for each in columns[:2]]
    columns = columns if names == "depth" else columns[:2]
    return columns, np.repeat(np.arange(len(lengths)), lengths)


class Row(NamedTuple):
    make: Callable
    inputs: str
    other: dict  # other options
    too_small: dict | None  # options of a capacity that is exceeded


VPQ = functools.partial(video_panoptic_quality.VideoPanopticQuality, *ARGUMENTS, windows=(1, 3), max_segments=16)
STQ = functools.partial(
    segmentation_tracking_quality.SegmentationTrackingQuality, *ARGUMENTS, max_segments=16, max_pairs=256
)
DVPQ = functools.partial(
    depth_aware_quality.DepthAwareVideoPanopticQuality, *ARGUMENTS, windows=(2, 1), max_segments=16
)
DSTQ = functools.partial(
    depth_aware_quality.DepthAwareSegmentationTrackingQuality, *ARGUMENTS, max_segments=16, max_pairs=256
)
MOTS = functools.partial(mots.TrackingAndSegmentation, *ARGUMENTS, max_segments=16, max_tracks=16)
PTQ = functools.partial(mots.PanopticTrackingQuality, *ARGUMENTS, max_segments=16, max_tracks=16)
REGION = functools.partial(region_boundary.RegionAndBoundary, max_objects=4, max_frames=8)
ROWS = {
    "vpq": Row(VPQ, "labels", {"windows": (2,)}, {"max_segments": 2}),
    "stq": Row(functools.partial(STQ, max_sequences=3), "labels", {"max_sequences": 2}, {"max_pairs": 2}),
    "dvpq": Row(DVPQ, "depth", {"depth_thresholds": (0.2,)}, {"max_segments": 2}),
    "dstq": Row(functools.partial(DSTQ, max_sequences=3), "depth", {"depth_thresholds": (2.0,)}, {"max_segments": 2}),
    "mots": Row(MOTS, "labels", {"max_tracks": 9}, {"max_tracks": 1}),
    "ptq": Row(PTQ, "labels", {"max_tracks": 9}, {"max_segments": 2}),
    "region": Row(REGION, "objects", {"tolerance": 0.1}, {"max_objects": 1}),
}


def feed(metric, columns, sequences, mode="eager", batch=1, **options):
    """Updates frame by frame or batch by batch, and ends the last sequence."""
    marks = marks_of(metric, sequences)

    def step(*inputs):
        metric.update_state(*inputs, **options)

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    for begin in range(0, len(marks), batch):
        step(*[tf.constant(each[begin : begin + batch]) for each in (*columns, marks)])
    if hasattr(metric, "flush"):
        metric.flush()
    return metric


def assert_same(left, right, rtol=1e-12):
    for key, value in left.result().items():
        np.testing.assert_allclose(value, right.result()[key], rtol=rtol, atol=1e-15, err_msg=key)


@functools.cache
def _in_graph(name):
    """A metric of a row and its update for any number of frames (of any size where it can), traced once."""
    metric = ROWS[name].make()
    maps = [tf.TensorSpec([None] * 3, tf.int32)] * 2
    if ROWS[name].inputs == "depth":
        maps += [tf.TensorSpec([None] * 3, tf.float64)] * 2
    specs = [*maps, tf.TensorSpec([None], marks_of(metric, [0]).dtype)]
    if ROWS[name].inputs == "objects":
        specs = None
    return metric, tf.function(lambda *inputs: metric.update_state(*inputs) and None, input_signature=specs)


def advance(name, metric, columns, sequences, *, begins=True, ends=True):
    """Updates a metric of the row `name` by many frames, by a graph that all tests share.

    `begins` and `ends`: whether the first frame begins a sequence, and the last one ends one.
    """
    shared, step = _in_graph(name)
    for theirs, ours in zip(shared.variables, metric.variables):
        theirs.assign(ours)
    columns = [tf.constant(each) for each in columns]
    step(*columns, tf.constant(marks_of(metric, sequences, begins=begins)))
    if ends and hasattr(shared, "flush"):
        shared.flush()
    for theirs, ours in zip(shared.variables, metric.variables):
        ours.assign(theirs)
    return metric


def marks_of(metric, sequences, *, begins=True):
    """What the metric takes for the sequences' numbers [N]: these, or which frames begin one."""
    if not isinstance(metric, video_panoptic_quality.VideoPanopticQuality):
        return np.asarray(sequences, np.int64)
    first = np.diff(sequences, prepend=-1) != 0
    first[0] = begins
    return first
