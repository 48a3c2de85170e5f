"""The segments of a panoptic label, found in one pass and shared by all targets made from it."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax.data import datasets


class Segments(NamedTuple):
    """Distinct ids of a label, in order of first appearance, row by row. S segments."""

    label: tf.Tensor  # [H, W] int32, as stored
    semantic: tf.Tensor  # [H, W] int32
    is_crowd: tf.Tensor  # [H, W] bool, pixels of a thing class without an instance
    index: tf.Tensor  # [H, W] int32, segment of each pixel
    ids: tf.Tensor  # [S] int32, panoptic
    classes: tf.Tensor  # [S] int32
    areas: tf.Tensor  # [S] int32, pixels
    is_instance: tf.Tensor  # [S] bool, has an instance number and is not void

    def paint(self, values: tf.Tensor) -> tf.Tensor:
        """One value (or row) per segment, [S, ...] -> those of every pixel's segment, [H, W, ...]."""
        return paint(values, self.index)


def find(label: tf.Tensor, dataset: datasets.Dataset, source: tf.Tensor | str = "") -> Segments:
    """Splits a panoptic label [H, W] int32 into its segments.

    Raises:
        InvalidArgumentError: a class the data set does not have; `source` says where.
    """
    divisor = dataset.label_divisor
    ids, index, areas = tf.unique_with_counts(tf.reshape(label, [-1]))
    classes = ids // divisor
    ignored = classes == dataset.ignore_label
    check = tf.debugging.Assert(
        tf.reduce_all(ignored | ((classes >= 0) & (classes < dataset.num_classes))),
        [
            source,
            f"the label has classes that {dataset.name} does not: expected 0 to {dataset.num_classes - 1} or "
            f"{dataset.ignore_label} for void, label divisor {divisor}, found classes",
            classes,
        ],
        summarize=50,
    )
    with tf.control_dependencies([check] if check is not None else []):
        numbered = ids % divisor != 0
    is_thing = are_things(classes, dataset)
    index = tf.ensure_shape(tf.reshape(index, tf.shape(label)), label.shape)
    return Segments(
        label=label,
        semantic=paint(classes, index),
        is_crowd=paint(is_thing & ~numbered, index),
        index=index,
        ids=ids,
        classes=classes,
        areas=areas,
        is_instance=numbered & ~ignored,
    )


def paint(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """`values[index]`, [S, ...] by [H, W] -> [H, W, ...]."""
    return tf.gather_nd(values, index[..., tf.newaxis])  # gives the same as tf.gather, in two thirds of the time


def are_things(classes: tf.Tensor, dataset: datasets.Dataset) -> tf.Tensor:
    """Which of some classes [S] are things."""
    if not dataset.thing_ids:
        return tf.zeros_like(classes, tf.bool)
    return tf.reduce_any(classes[:, tf.newaxis] == tf.constant(dataset.thing_ids, tf.int32), axis=1)
