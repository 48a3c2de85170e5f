"""Targets of Panoptic-DeepLab: a heatmap of instance centres, and every pixel's offset to the centre of its instance.

Panoptic-DeepLab: A Simple, Strong, and Fast Baseline for Bottom-Up Panoptic Segmentation (2020, arXiv 1911.10194).
Centres of all instances are found in one pass over the label; a heatmap touches the pixels around centres alone.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.data.targets.segments import Segments, are_things
from deeplab2_kmax.layers import instance_centers


class Centers(NamedTuple):
    """Where the instances of a label are. I instances, in order of first appearance."""

    ids: tf.Tensor  # [I] int32, panoptic
    points: tf.Tensor  # [I, 2] float32, (y, x) rounded to pixels
    extents: tf.Tensor  # [I, 2] float32, highest minus lowest row and column
    lowest: tf.Tensor  # [I, 2] float32, row and column


def find(segments: Segments) -> Centers:
    """The mean pixel of every instance, rounded half to even."""
    where = instance_centers.places(segments.index, segments.areas, segments.is_instance)

    def pick(values: tf.Tensor) -> tf.Tensor:
        return tf.boolean_mask(values, segments.is_instance)

    return Centers(
        ids=pick(segments.ids),
        points=tf.round(pick(where.means)),
        extents=tf.cast(pick(where.highest - where.lowest), tf.float32),
        lowest=tf.cast(pick(where.lowest), tf.float32),
    )


def make(segments: Segments, centers: Centers, *, sigma: float, dataset: datasets.Dataset) -> dict[str, tf.Tensor]:
    """Heatmap [H, W], offsets [H, W, 2] to the own centre and the weights of both losses [H, W]."""
    shape = segments.label.shape
    is_thing = segments.paint(are_things(segments.classes, dataset))
    ignored = segments.paint(segments.classes == dataset.ignore_label)
    return {
        keys.CENTER: instance_centers.heatmap(centers.points, tf.shape(segments.label), sigma=sigma, static=shape),
        keys.CENTER_OFFSET: offsets(segments, centers.ids, centers.points),
        keys.CENTER_WEIGHT: tf.cast(~(segments.is_crowd | ignored), tf.float32),
        keys.CENTER_OFFSET_WEIGHT: tf.cast(is_thing & ~segments.is_crowd, tf.float32),
    }


def offsets(segments: Segments, ids: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Target minus pixel, (y, x), on the instances whose id is listed, [H, W, 2] float32; 0 on all other pixels.

    Args:
        segments: of the label whose pixels get offsets.
        ids: [I] int32, panoptic ids; each at most once.
        points: [I, 2] float32, (y, x) that the pixels of each id point to.
    """
    same = (segments.ids[:, tf.newaxis] == ids) & segments.is_instance[:, tf.newaxis]  # [S, I]
    listed = tf.reduce_any(same, axis=1)
    targets = tf.einsum("si,ic->sc", tf.cast(same, tf.float32), points)
    height, width = tf.unstack(tf.shape(segments.label))
    rows = tf.range(tf.cast(height, tf.float32))[:, tf.newaxis]
    columns = tf.range(tf.cast(width, tf.float32))
    mask = segments.paint(tf.cast(listed, tf.float32))
    parts = [(segments.paint(targets[:, axis]) - pixels) * mask for axis, pixels in enumerate((rows, columns))]
    # + 0: no negative zeros.
    return tf.ensure_shape(tf.stack(parts, axis=-1) + 0.0, [*segments.label.shape, 2])
