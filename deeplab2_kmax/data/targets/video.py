"""Targets that join two frames: where an instance was before, where it points from the next frame, and track indices.

STEP: Segmenting and Tracking Every Pixel (2021, arXiv 2102.11859) for Motion-DeepLab; ViP-DeepLab: Learning Visual
Perception with Depth-aware Video Panoptic Segmentation (2020, arXiv 2012.05258).
"""

from __future__ import annotations

import tensorflow as tf

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.targets import centers, keys, masks
from deeplab2_kmax.data.targets import segments as segmentation
from deeplab2_kmax.data.targets.centers import Centers
from deeplab2_kmax.data.targets.segments import Segments

NOISE = 0.05  # of an instance's extent: the standard deviation of the previous centres' error
FALSE_POSITIVES = 0.2  # chance that a previous centre gets a second, wrong one


def noisy(previous: Centers, size: tf.Tensor, *, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Previous centres as a tracker at work would know them.

    Returns:
        The centres, moved by noise, [I, 2]; and all peaks of the heatmap, false ones included, [J, 2].
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    points = _move(previous.points, previous.extents, size, seeds[0])
    wrong = _move(points, previous.extents, size, seeds[1])
    chosen = tf.random.stateless_uniform(tf.shape(points)[:1], seeds[2]) < FALSE_POSITIVES
    return points, tf.concat([points, tf.boolean_mask(wrong, chosen)], axis=0)


def make_motion(current: Segments, previous: Centers, points: tf.Tensor) -> dict[str, tf.Tensor]:
    """Every pixel's offset to where its instance was in the previous frame, [H, W, 2]; 0 on those not there before.

    Args:
        previous: instances of the previous frame.
        points: [I, 2], their centres, with or without noise.
    """
    offset = centers.offsets(current, previous.ids, points)
    return {keys.FRAME_OFFSET: offset, keys.FRAME_OFFSET_WEIGHT: _not_zero(offset)}


def make_next(current: Centers, following: Segments) -> dict[str, tf.Tensor]:
    """The offset from every pixel of the next frame to where its instance's centre is in the current one."""
    offset = centers.offsets(following, current.ids, current.points)
    return {keys.NEXT_OFFSET: offset, keys.NEXT_OFFSET_WEIGHT: _not_zero(offset)}


def make_tracks(
    label: tf.Tensor, other: tf.Tensor, dataset: datasets.Dataset, *, max_things: int, source: tf.Tensor | str = ""
) -> dict[str, tf.Tensor]:
    """Thing masks of two frames [H, W] whose indices are tracks: an instance has the same one in both.

    Raises:
        InvalidArgumentError: more than `max_things` instances in the two frames together; `source` says where.
    """
    found = segmentation.find(tf.concat([label, other], axis=0), dataset, source)
    made = masks.make(found, max_things=max_things, source=source)
    first, second = tf.split(made[keys.THING_ID_MASK], 2, axis=0)
    return {**made, keys.THING_ID_MASK: first, keys.OTHER_THING_ID_MASK: second}


def _move(points: tf.Tensor, extents: tf.Tensor, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    moved = tf.round(points + NOISE * extents * tf.random.stateless_normal(tf.shape(points), seed))
    return tf.clip_by_value(moved, 0.0, tf.cast(size - 1, tf.float32))


def _not_zero(offset: tf.Tensor) -> tf.Tensor:
    # The pixel of the centre itself is left out, as in DeepLab2.
    return tf.cast(tf.reduce_any(offset != 0.0, axis=-1), tf.float32)
