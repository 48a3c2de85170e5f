"""Targets of DeeperLab: where the corners of the boxes and the centres of instances are, and offsets to them.

DeeperLab: Single-Shot Image Parser (2019, arXiv 1902.05093), after PersonLab (2018, arXiv 1803.08225). They are made at
every fourth pixel, because a network says no more and there are fifty numbers for each.
"""

from __future__ import annotations

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.data.targets.centers import Centers
from deeplab2_kmax.data.targets.segments import Segments, paint

GRID = 4  # pixels from one place to the next
_NOBODY = tf.int32.max


def of_instances(centers: Centers) -> tf.Tensor:
    """(y, x) of every instance's structures.KEYPOINTS, [I, 5, 2] float32; corners are pixels of the box."""
    top, left = centers.lowest[:, 0], centers.lowest[:, 1]
    bottom, right = top + centers.extents[:, 0], left + centers.extents[:, 1]
    corners = [tf.stack(point, axis=-1) for point in ((top, left), (top, right), (bottom, left), (bottom, right))]
    return tf.stack([*corners, centers.points], axis=1)


def make(segments: Segments, centers: Centers, *, radius: float, dataset: datasets.Dataset) -> dict[str, tf.Tensor]:
    """All targets at places h = (H - 1) // 4 + 1, w likewise; see `keys`.

    Args:
        segments: of the label [H, W].
        centers: of its instances.
        radius: of the discs around keypoints, in pixels. In two discs of a kind the nearer keypoint counts, of equal
            ones the instance that appears first.
        dataset: whose label it is.
    """
    points = of_instances(centers)
    rows, columns = (tf.range(0, side, GRID) for side in tf.unstack(tf.shape(segments.label)))
    places = tf.cast(tf.stack(tf.meshgrid(rows, columns, indexing="ij"), axis=-1), tf.float32)  # [h, w, 2]
    size = tf.shape(places)[:2]
    static = [None if side is None else (side - 1) // GRID + 1 for side in segments.label.shape]

    owner = _owners(points, size, radius)  # [5, h, w]
    # One row more, for places in no disc.
    known = tf.concat([points, tf.zeros([1, *points.shape[1:]])], axis=0)
    in_disc = tf.cast(owner < tf.shape(points)[0], tf.float32)

    def towards(start: int, end: int) -> tf.Tensor:
        """From the discs of a keypoint to a keypoint of the same instance, [h, w, 2]."""
        return (paint(known[:, end], owner[start]) - places) * in_disc[start][..., tf.newaxis] + 0.0

    kinds = range(len(structures.KEYPOINTS))
    pairs = structures.KEYPOINT_PAIRS
    index = segments.index[::GRID, ::GRID]
    of_segment = tf.scatter_nd(
        tf.cast(tf.where(segments.is_instance), tf.int32), points, [tf.size(segments.ids), *points.shape[1:]]
    )
    on_instance = paint(tf.cast(segments.is_instance, tf.float32), index)
    long = (paint(of_segment, index) - places[:, :, tf.newaxis]) * on_instance[..., tf.newaxis, tf.newaxis]
    ignored = segments.paint(segments.classes == dataset.ignore_label)
    counted = tf.cast(~(segments.is_crowd | ignored)[::GRID, ::GRID], tf.float32)
    made = {
        keys.KEYPOINTS: tf.transpose(in_disc, [1, 2, 0]),
        keys.KEYPOINT_WEIGHT: counted,
        keys.SHORT_OFFSET: tf.concat([towards(kind, kind) for kind in kinds], axis=-1),
        keys.MIDDLE_OFFSET: tf.concat([towards(start, end) for start, end in pairs], axis=-1),
        keys.MIDDLE_OFFSET_WEIGHT: tf.stack([in_disc[start] for start, _ in pairs], axis=-1),
        keys.LONG_OFFSET: tf.reshape(long, [*tf.unstack(size), 2 * len(kinds)]),
        keys.LONG_OFFSET_WEIGHT: on_instance,
    }
    channels = {
        keys.KEYPOINTS: [len(kinds)],
        keys.SHORT_OFFSET: [2 * len(kinds)],
        keys.LONG_OFFSET: [2 * len(kinds)],
        keys.MIDDLE_OFFSET: [2 * len(pairs)],
        keys.MIDDLE_OFFSET_WEIGHT: [len(pairs)],
    }
    return {key: tf.ensure_shape(values, [*static, *channels.get(key, [])]) for key, values in made.items()}


def _owners(points: tf.Tensor, size: tf.Tensor, radius: float) -> tf.Tensor:
    """Of every kind of keypoint and place the instance with the nearest one within `radius`, or I: [5, h, w] int32."""
    count, kinds = tf.shape(points)[0], points.shape[1]
    reach = int(radius // GRID) + 1
    around = tf.range(-reach, reach + 1)
    window = tf.stack(tf.meshgrid(around, around, indexing="ij"), axis=-1)
    cells = tf.cast(tf.round(points / GRID), tf.int32)[:, :, tf.newaxis, tf.newaxis] + window  # [I, 5, s, s, 2]
    away = tf.cast(cells * GRID, tf.float32) - points[:, :, tf.newaxis, tf.newaxis]
    squares = tf.reduce_sum(tf.square(away), axis=-1)  # whole numbers, as all keypoints are pixels
    seen = (squares <= radius**2) & tf.reduce_all((cells >= 0) & (cells < size), axis=-1)
    kind = tf.range(kinds)[tf.newaxis, :, tf.newaxis, tf.newaxis]
    flat = (kind * size[0] + cells[..., 0]) * size[1] + cells[..., 1]
    # One number says both how near and whose, so that the smallest is the nearest of the first instance.
    ranks = tf.cast(squares, tf.int32) * count + tf.range(count)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    canvas = tf.tensor_scatter_nd_min(
        tf.fill([kinds * size[0] * size[1]], _NOBODY),
        tf.boolean_mask(flat, seen)[:, tf.newaxis],
        tf.boolean_mask(ranks, seen),
    )
    owner = tf.where(canvas == _NOBODY, count, canvas % tf.maximum(count, 1))
    return tf.reshape(owner, [kinds, size[0], size[1]])
