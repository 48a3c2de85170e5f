"""Targets of mask transformers: one index per instance, and its class.

MaX-DeepLab: End-to-End Panoptic Segmentation with Mask Transformers (2021, arXiv 2012.00759).
"""

from __future__ import annotations

import tensorflow as tf

from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.data.targets.segments import Segments


def make(segments: Segments, *, max_things: int, source: tf.Tensor | str = "") -> dict[str, tf.Tensor]:
    """Index of the instance at every pixel [H, W] (-1: none; crowd has none) and the class per index [max_things].

    Indices follow first appearance, row by row.

    Raises:
        InvalidArgumentError: more than `max_things` instances; `source` says where.
    """
    number = tf.cumsum(tf.cast(segments.is_instance, tf.int32), exclusive=True)
    classes = tf.boolean_mask(segments.classes, segments.is_instance)
    count = tf.size(classes)
    check = tf.debugging.Assert(
        count <= max_things,
        [source, "has", count, f"instances, more than max_thing_id {max_things}: raise it in the dataset options"],
    )
    with tf.control_dependencies([check] if check is not None else []):
        padding = tf.fill([tf.maximum(max_things - count, 0)], -1.0)
    classes = tf.concat([tf.cast(classes, tf.float32), padding], axis=0)
    return {
        keys.THING_ID_MASK: segments.paint(tf.where(segments.is_instance, number, -1)),
        keys.THING_ID_CLASS: tf.ensure_shape(classes, [max_things]),
    }
