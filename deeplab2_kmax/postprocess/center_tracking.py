"""Instances carried from frame to frame by where their pixels say their centres were (Motion-DeepLab).

STEP: Segmenting and Tracking Every Pixel (2021, arXiv 2102.11859). Differences from the paper, as in DeepLab2:
instances choose their track in the order of their first pixels, where the paper takes the surest centres first. From
DeepLab2: the state is a value of tensors that whoever runs a video holds and starts anew; frames without instances
work; track ids start over at the label divisor, where they run into the next class there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax import labels
from deeplab2_kmax.layers import instance_centers
from deeplab2_kmax.postprocess import center_grouping
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import CenterMaps, MaskClasses

MEMORY = 7  # frames: a track that was last seen so many frames ago is forgotten
_X, _Y, _ID, _BOX, _AGE = range(5)


class Tracks(NamedTuple):
    """What is known of a video's objects."""

    # [L, 5] int32: x, y of the centre, panoptic id, height times width of the box, frames since it was seen. The ones
    # that were seen last come first.
    rows: tf.Tensor
    next_number: tf.Tensor  # [] int32, where the search for a new object's instance number begins


class Instances(NamedTuple):
    """The instances of a frame, in the order of their first pixels. S segments, R instances."""

    rows: tf.Tensor  # [R, 5] int32, as those of Tracks, age 0, ids of the frame alone
    heatmap: tf.Tensor  # [H, W] float32, highest of the Gaussians around their centres
    index: tf.Tensor  # [H, W] int32, segment of each pixel
    ids: tf.Tensor  # [S] int32, panoptic
    numbers: tf.Tensor  # [R] int32, the instances among the segments


class Tracked(NamedTuple):
    """A frame whose ids are those of tracks."""

    panoptic: tf.Tensor  # [H, W] int32
    heatmap: tf.Tensor  # [H, W] float32, what the network sees of this frame with the next one
    tracks: Tracks


class CenterTracking:
    """Finds the instances of single frames, and follows them through a video."""

    def __init__(self, group: Callable[..., CenterMaps], classes: MaskClasses, *, sigma: float):
        """`group` finds them, see center_grouping.build; `sigma`: of the heat maps of their centres, in pixels."""
        self._group, self._classes, self._sigma = group, classes, sigma

    def __call__(self, maps: Mapping[str, tf.Tensor], size: tuple[Any, Any]) -> CenterMaps:
        """Label maps of frames by themselves."""
        return self._group(maps, size)

    def start(self) -> Tracks:
        """No object yet."""
        return Tracks(tf.zeros([0, 5], tf.int32), tf.constant(1))

    def spec(self) -> Tracks:
        """What Tracks are like after any number of frames."""
        return Tracks(tf.TensorSpec([None, 5], tf.int32), tf.TensorSpec([], tf.int32))

    def track(self, panoptic: tf.Tensor, offsets: tf.Tensor, tracks: Tracks) -> Tracked:
        """As the function `track`, for maps with a batch axis of 1."""
        found = track(panoptic[0], offsets[0], tracks, classes=self._classes, sigma=self._sigma)
        return found._replace(panoptic=found.panoptic[tf.newaxis], heatmap=found.heatmap[tf.newaxis])


def build(options: evaluator_pb2.EvaluatorOptions, classes: MaskClasses, *, sigma: float) -> CenterTracking:
    """The post-processing that `options` ask for; `sigma`: as in training."""
    return CenterTracking(center_grouping.build(options, classes), classes, sigma=sigma)


def track(
    panoptic: tf.Tensor, offsets: tf.Tensor, tracks: Tracks, *, classes: MaskClasses, sigma: float = 8.0
) -> Tracked:
    """Gives the instances of a frame the ids of the tracks that they belong to, or new ones.

    An instance belongs to the nearest free track of its class around the place where its centre says it was, if that
    is nearer than the root of the track's box. An instance number is used for one object alone; when those below the
    label divisor are spent, numbers of forgotten objects are given again.

    Args:
        panoptic: [H, W] int32, the frame by itself.
        offsets: [H, W, 2] float32, (y, x) of the own instance's centre in the previous frame, minus the pixel.
        tracks: after the previous frame.
        classes: what ids mean.
        sigma: of the heat map, in pixels.
    """
    found = render(panoptic, classes=classes, sigma=sigma)
    ids, tracks = _assign(found.rows, tf.cast(offsets, tf.float32), tracks, classes.label_divisor)
    of_segments = tf.tensor_scatter_nd_update(found.ids, found.numbers[:, tf.newaxis], ids)
    made = tf.ensure_shape(tf.gather(of_segments, found.index), panoptic.shape)
    return Tracked(made, tf.ensure_shape(found.heatmap, panoptic.shape), tracks)


def render(panoptic: tf.Tensor, *, classes: MaskClasses, sigma: float = 8.0) -> Instances:
    """Finds the instances of a panoptic map [H, W] and draws their centres as training does."""
    ids, index, areas = tf.unique_with_counts(tf.reshape(panoptic, [-1]))
    index = tf.reshape(index, tf.shape(panoptic))
    void = labels.class_of(ids, classes.label_divisor) == classes.ignore_label
    wanted = (labels.instance_of(ids, classes.label_divisor) != 0) & ~void
    where = instance_centers.places(index, areas, wanted)
    numbers = tf.cast(tf.where(wanted)[:, 0], tf.int32)
    points = tf.round(tf.gather(where.means, numbers))
    box = tf.reduce_prod(tf.gather(where.highest - where.lowest, numbers), axis=1)
    center = tf.cast(points, tf.int32)
    rows = tf.stack([center[:, 1], center[:, 0], tf.gather(ids, numbers), box, tf.zeros_like(box)], axis=1)
    heatmap = instance_centers.heatmap(points, tf.shape(panoptic), sigma=sigma)
    return Instances(rows, heatmap, index, ids, numbers)


def _assign(rows: tf.Tensor, offsets: tf.Tensor, tracks: Tracks, divisor: int) -> tuple[tf.Tensor, Tracks]:
    """The ids [R] of a frame's instances, and the tracks after it."""
    count = tf.shape(rows)[0]
    # The oldest are forgotten where there are so many that instance numbers might not suffice.
    known = tracks.rows[: tf.maximum(divisor - 1 - count, 0)]
    # A last row that nothing matches, so that there is one.
    known = tf.concat([known, [[0, 0, -divisor, 0, MEMORY]]], axis=0)
    known_class = labels.class_of(known[:, _ID], divisor)
    known_place, reach = tf.cast(known[:, :2], tf.float32), tf.cast(known[:, _BOX], tf.float32)

    def one(
        i: tf.Tensor, free: tf.Tensor, next_number: tf.Tensor, ids: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        row = rows[i]
        of_class = labels.class_of(row[_ID], divisor)
        place = tf.cast(row[:2], tf.float32) + offsets[row[_Y], row[_X]][::-1]
        away = tf.reduce_sum(tf.math.squared_difference(known_place, place), axis=1)
        away = tf.where(free & (known_class == of_class), away, float("inf"))
        nearest = tf.argmin(away, output_type=tf.int32)
        is_known = away[nearest] < reach[nearest]
        new = _free_number(next_number, of_class, known[:, _ID], ids, divisor)
        given = tf.where(is_known, known[nearest, _ID], labels.pack(of_class, new, divisor))
        return (
            i + 1,
            free & ~(is_known & (tf.range(tf.size(free)) == nearest)),
            tf.where(is_known, next_number, _after(new, divisor)),
            tf.tensor_scatter_nd_update(ids, [[i]], [given]),
        )

    _, free, next_number, ids = tf.while_loop(
        lambda i, *_: i < count,
        one,
        (0, tf.fill([tf.shape(known)[0]], True), tracks.next_number, tf.fill([count], -1)),
        parallel_iterations=1,
    )
    seen = tf.concat([rows[:, :_ID], ids[:, tf.newaxis], rows[:, _BOX:]], axis=1)
    after = tf.concat([seen, tf.boolean_mask(known, free)], axis=0) + tf.constant([0, 0, 0, 0, 1])
    return ids, Tracks(tf.boolean_mask(after, after[:, _AGE] < MEMORY), next_number)


def _free_number(first: tf.Tensor, of_class: tf.Tensor, known: tf.Tensor, given: tf.Tensor, divisor: int) -> tf.Tensor:
    """The first number, from `first` on, of a class that neither a known track nor an instance of the frame has."""

    def is_taken(number: tf.Tensor) -> tf.Tensor:
        wanted = labels.pack(of_class, number, divisor)
        return tf.reduce_any(known == wanted) | tf.reduce_any(given == wanted)

    return tf.while_loop(is_taken, lambda number: _after(number, divisor), [first])[0]


def _after(number: tf.Tensor, divisor: int) -> tf.Tensor:
    return number % (divisor - 1) + 1
