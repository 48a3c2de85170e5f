"""Typed values that cross module borders.

Shape letters: B batch, H W image, h w feature grid, N clusters (mask slots), K classes of the class head without void,
C classes of the semantic head, D channels.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax import registry


class Pyramid(NamedTuple):
    """Features of a backbone, level n at stride 2^n (or the output stride, where that is smaller).

    `stage{n}` is before the activation, `res{n}` after it; `output` is the last activated feature.
    """

    stage1: tf.Tensor
    stage2: tf.Tensor
    stage3: tf.Tensor
    stage4: tf.Tensor
    stage5: tf.Tensor
    res1: tf.Tensor
    res2: tf.Tensor
    res3: tf.Tensor
    res4: tf.Tensor
    res5: tf.Tensor
    output: tf.Tensor


def pyramid_field(name: str, what: str) -> str:
    """A field of Pyramid, by the name that a config gives it.

    Raises:
        ValueError: there is none of this name.
    """
    return registry.lookup({field: field for field in Pyramid._fields}, name, what)


class MemoryPyramid(NamedTuple):
    """A Pyramid and what the memory path of a backbone adds (MaX-DeepLab); N mask slots, D channels."""

    stage1: tf.Tensor
    stage2: tf.Tensor
    stage3: tf.Tensor
    stage4: tf.Tensor
    stage5: tf.Tensor
    res1: tf.Tensor
    res2: tf.Tensor
    res3: tf.Tensor
    res4: tf.Tensor
    res5: tf.Tensor
    output: tf.Tensor
    feature_semantic: tf.Tensor  # activated, what the semantic branch reads
    feature_panoptic: tf.Tensor  # activated, the finest feature: what the masks are made of
    class_features: tf.Tensor  # [B, N, D]
    mask_features: tf.Tensor  # [B, N, D]


class MaskPrediction(NamedTuple):
    """What a mask transformer says about a batch."""

    class_logits: tf.Tensor  # [B, N, K + 1]: things in data set order, then stuff, then void
    mask_logits: tf.Tensor  # [B, h, w, N]
    pixel_features: tf.Tensor  # [B, h, w, D], unit length


class PanopticMaps(NamedTuple):
    """Labels and scores of every pixel."""

    panoptic: tf.Tensor  # [B, H, W] int32
    semantic: tf.Tensor  # [B, H, W] int32, never void
    instance: tf.Tensor  # [B, H, W] int32
    semantic_scores: tf.Tensor  # [B, H, W] float32
    instance_scores: tf.Tensor  # [B, H, W] float32


class SemanticMaps(NamedTuple):
    """The class of every pixel and its probability."""

    semantic: tf.Tensor  # [B, H, W] int32
    semantic_scores: tf.Tensor  # [B, H, W] float32


class CenterMaps(NamedTuple):
    """Labels and scores of every pixel, of instances that were grouped around their centres."""

    panoptic: tf.Tensor  # [B, H, W] int32
    semantic: tf.Tensor  # [B, H, W] int32
    instance: tf.Tensor  # [B, H, W] int32, number of the pixel's centre, from 1; 0 off things
    semantic_scores: tf.Tensor  # [B, H, W] float32, probability of the pixel's class
    instance_scores: tf.Tensor  # [B, H, W] float32, height of the pixel's centre, 0 off things
    instance_centers: tf.Tensor  # [B, H, W] float32, the heat map's height at centres, else 0


# What DeeperLab predicts of an instance: the corners of its box and its centre of mass. And the pairs, from and to, of
# which it predicts offsets (middle range).
KEYPOINTS = ("top_left", "top_right", "bottom_left", "bottom_right", "center")
KEYPOINT_PAIRS = (*((4, corner) for corner in range(4)), *((corner, 4) for corner in range(4)))


class PairMaps(NamedTuple):
    """A frame's CenterMaps, and the panoptic maps of the frame after it."""

    panoptic: tf.Tensor  # [B, H, W] int32
    semantic: tf.Tensor  # [B, H, W] int32
    instance: tf.Tensor  # [B, H, W] int32
    semantic_scores: tf.Tensor  # [B, H, W] float32
    instance_scores: tf.Tensor  # [B, H, W] float32
    instance_centers: tf.Tensor  # [B, H, W] float32
    # [B, H, W] int32, the next frame as it was segmented together with this one: an object has one id in both.
    concat_next_panoptic: tf.Tensor
    # [B, H, W] int32, the next frame as it is segmented alone, with the ids of this one where they fit; None where a
    # video's next answer is about it.
    next_panoptic: tf.Tensor | None = None


class DeepLabOutput(NamedTuple):
    """What a model of single pixels says, at the images' size. What a model or a mode does not compute is None.

    Fields have DeepLab2's names, so that losses find their maps by them.
    """

    semantic_logits: tf.Tensor  # [B, H, W, C] float32
    center_heatmap: tf.Tensor | None = None  # [B, H, W] float32, around 1 at centres; not bounded
    offset_map: tf.Tensor | None = None  # [B, H, W, 2] float32, (y, x) of the own centre minus that of the pixel
    # [B, H, W, 2] float32, (y, x) of where the own instance's centre was in the previous frame, minus the pixel.
    frame_offset_map: tf.Tensor | None = None
    # [B, H, W, 2] float32, on the pixels of the next frame: (y, x) of the own instance's centre in this one, minus the
    # pixel.
    next_offset_map: tf.Tensor | None = None
    depth_pred: tf.Tensor | None = None  # [B, H, W, 1] float32, metres
    # DeeperLab; offsets are (y, x) in pixels, one after the other.
    keypoint_heatmap: tf.Tensor | None = None  # [B, H, W, 5] float32, logits: in the disc of one of KEYPOINTS
    short_offset_map: tf.Tensor | None = None  # [B, H, W, 10] float32, in discs: to their keypoint
    middle_offset_map: tf.Tensor | None = None  # [B, H, W, 16] float32, in the first's discs: KEYPOINT_PAIRS' second
    long_offset_map: tf.Tensor | None = None  # [B, H, W, 10] float32, in instances: to their KEYPOINTS
    guide_logits: tf.Tensor | None = None  # [B, H, W, C] float32, SPGNet: the classes that its first stage tells
    semantic_probs: tf.Tensor | None = None  # [B, H, W, C] float32, inference
    maps: CenterMaps | PairMaps | SemanticMaps | None = None  # inference with post-processing


class MaskTransformerOutput(NamedTuple):
    """A mask transformer's answer. What a mode does not compute is None."""

    prediction: MaskPrediction
    semantic_logits: tf.Tensor | None = None  # [B, h', w', C]; None where the semantic head is left out
    auxiliary: tuple[MaskPrediction, ...] = ()  # one per transformer block in training, else empty
    maps: PanopticMaps | None = None  # inference with post-processing
    # ReMaX, in training: [B, h', w', C] of each transformer block and last of the final prediction, None where the
    # masks are not relaxed; else empty.
    block_semantic_logits: tuple[tf.Tensor | None, ...] = ()
    # CMT-DeepLab, in training: the Gaussians [B, N, 4] of each transformer block, see layers/reference_masks.py.
    reference_masks: tuple[tf.Tensor, ...] = ()
    semantic_probabilities: tf.Tensor | None = None  # [B, h', w', C], MaX-DeepLab in inference


class MaskClasses(NamedTuple):
    """What a data set's classes mean to a mask transformer. Class outputs are ordered things, stuff, void."""

    thing_ids: tuple[int, ...]  # class ids in data set order
    stuff_ids: tuple[int, ...]  # ascending
    ignore_label: int
    label_divisor: int

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The class id behind every output of the class head but the last, which is void."""
        return self.thing_ids + self.stuff_ids

    @property
    def num_outputs(self) -> int:
        """Outputs of the class head: the classes and void."""
        return len(self.class_ids) + 1
