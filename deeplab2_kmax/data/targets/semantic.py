"""Targets of the semantic losses: class and weight of every pixel."""

from __future__ import annotations

import tensorflow as tf

from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.data.targets.segments import Segments


def make(segments: Segments, *, small_threshold: int = 0, small_weight: float = 1.0) -> dict[str, tf.Tensor]:
    """Classes (crowd regions keep theirs), loss weights, crowd and panoptic ids, each [H, W].

    Weights are 1, but `small_weight` on instances of fewer than `small_threshold` pixels.
    """
    weights = tf.ones_like(segments.label, tf.float32)
    if small_threshold > 0:
        small = segments.is_instance & (segments.areas < small_threshold)
        weights = segments.paint(tf.where(small, small_weight, 1.0))
    return {
        keys.SEMANTIC: segments.semantic,
        keys.SEMANTIC_WEIGHT: weights,
        keys.IS_CROWD: segments.is_crowd,
        keys.PANOPTIC: segments.label,
    }


def make_raw(segments: Segments) -> dict[str, tf.Tensor]:
    """What evaluation compares with, at the raw image's size."""
    return {
        keys.SEMANTIC_RAW: segments.semantic,
        keys.PANOPTIC_RAW: segments.label,
        keys.IS_CROWD_RAW: segments.is_crowd,
    }
