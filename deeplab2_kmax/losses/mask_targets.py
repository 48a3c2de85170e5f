"""Ground-truth masks at a model's output grid, and the slots they are matched to.

MaX-DeepLab: End-to-End Panoptic Segmentation with Mask Transformers (2021, arXiv 2012.00759). Every pixel belongs to
one mask at most, so masks are a map of row numbers [B, P], never M binary masks. Rows are the instances in the order
of the batch, then one row per stuff class.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deeplab2_kmax.matching import hungarian, similarity
from deeplab2_kmax.structures import MaskClasses, MaskPrediction

_LEAST_WEIGHT = 1e-5  # Keeps every slot among the non-zero losses, over which the class term is averaged.


class UnmatchedWeight(enum.Enum):
    """How much predicting void counts for a slot that was matched to no mask."""

    VOID_RATIO = 0  # the share of its mask on void pixels, as in DeepLab2
    UNIFORM = 1  # 1, as in the paper
    LABELLED_RATIO = 2  # the share of its mask on labelled pixels


class MaskTargets(NamedTuple):
    """The ground-truth masks of a batch at a grid of P pixels."""

    rows: tf.Tensor  # [B, P] int32, the mask of each pixel, -1 for void and crowd
    labelled: tf.Tensor  # [B, P] bool, not void; true for crowd
    is_thing: tf.Tensor  # [B, P] bool, pixels of instances
    inverse_areas: tf.Tensor  # [B, P] float32, P / area of the pixel's mask; P where it has none
    areas: tf.Tensor  # [B, M] float32
    is_real: tf.Tensor  # [B, M] bool, masks that exist at this grid
    class_outputs: tf.Tensor  # [B, M] int32, the class's place in the class head, void for padding


class MaskMatch(NamedTuple):
    """What each slot should become, and how much that counts. No gradient passes."""

    row_slots: tf.Tensor  # [B, M] int32, the slot of each mask, -1 for none
    pixel_slots: tf.Tensor  # [B, P] int32, the slot each pixel should choose, -1 for none
    is_matched: tf.Tensor  # [B, N] bool
    target_classes: tf.Tensor  # [B, N] int32, void where not matched
    class_weights: tf.Tensor  # [B, N] float32, Dice where matched, else how much of the slot covers void
    mask_weights: tf.Tensor  # [B, N] float32, class probability where matched, else 0
    poison: tf.Tensor  # [B] float32, NaN for examples that could not be matched because of NaNs, else 0


def subsample(labels: tf.Tensor, height: tf.Tensor | int, width: tf.Tensor | int) -> tf.Tensor:
    """Labels at a coarser grid whose corners are the image's, flattened: [B, H, W, ...] -> [B, height * width, ...].

    Raises:
        ValueError: (H - 1) / (height - 1) is not a whole number, or not the same as that of the columns. Where sizes
            are known at run time only, this is a `tf.errors.InvalidArgumentError`.
    """
    sizes = (labels.shape[1], labels.shape[2], height, width)
    message = (
        f"Labels of {sizes[0]} x {sizes[1]} pixels have no regular grid of {height} x {width} points with aligned "
        "corners: choose sizes of the form 32 k + 1."
    )
    checks = []
    if all(isinstance(size, int) for size in sizes):
        step = max((labels.shape[1] - 1) // max(height - 1, 1), (labels.shape[2] - 1) // max(width - 1, 1), 1)
        if any(points not in (1, (size - 1) / step + 1) for size, points in zip(labels.shape[1:3], (height, width))):
            raise ValueError(message)
    else:
        sizes, points = tf.shape(labels)[1:3], tf.stack([height, width])
        step = tf.reduce_max(tf.maximum((sizes - 1) // tf.maximum(points - 1, 1), 1))
        regular = (points == 1) | ((points - 1) * step == sizes - 1)
        checks = [tf.debugging.Assert(tf.reduce_all(regular), [message, sizes, points])]
    # A grid of one row (or column) is the first one.
    sampled = labels[:, ::step, ::step][:, :height, :width]
    with tf.control_dependencies(checks):  # or the error may be that of the reshape
        return tf.reshape(sampled, [tf.shape(labels)[0], height * width, *labels.shape[3:]])


def prepare(
    targets: Mapping[str, tf.Tensor], height: tf.Tensor | int, width: tf.Tensor | int, classes: MaskClasses
) -> MaskTargets:
    """Reads the masks of a batch at a grid of height x width points.

    Args:
        targets: `semantic_gt` and `thing_id_mask_gt` [B, H, W], `thing_id_class_gt` [B, T].
        height, width: the grid, P = height * width.
        classes: the data set's classes.

    Raises:
        ValueError: the grid does not fit (see `subsample`), or T is unknown.
    """
    if targets["thing_id_class_gt"].shape[1] is None:
        raise ValueError("The number of columns of thing_id_class_gt must be known when the graph is built.")
    semantic = tf.cast(subsample(targets["semantic_gt"], height, width), tf.int32)
    thing_ids = tf.cast(subsample(targets["thing_id_mask_gt"], height, width), tf.int32)
    thing_classes = tf.cast(targets["thing_id_class_gt"], tf.int32)  # [B, T]
    num_things, num_stuff = thing_classes.shape[1], len(classes.stuff_ids)
    num_rows = num_things + num_stuff

    stuff_rows = _number(semantic, {label: num_things + index for index, label in enumerate(classes.stuff_ids)})
    rows = tf.where(thing_ids >= 0, thing_ids, stuff_rows)
    batch, num_pixels = tf.shape(rows)[0], height * width
    areas = similarity.segment_sum(tf.ones_like(rows, tf.float32)[..., None], rows, num_rows)[..., 0]
    own_area = tf.gather(tf.maximum(areas, 1), tf.maximum(rows, 0), batch_dims=1)
    outputs = {label: index for index, label in enumerate(classes.class_ids)}
    thing_outputs = _number(thing_classes, outputs)
    stuff_outputs = tf.tile([[outputs[label] for label in classes.stuff_ids]], [batch, 1])
    class_outputs = tf.concat([thing_outputs, tf.cast(stuff_outputs, tf.int32)], axis=1)
    return MaskTargets(
        rows=rows,
        labelled=semantic != classes.ignore_label,
        is_thing=thing_ids >= 0,
        inverse_areas=tf.cast(num_pixels, tf.float32) / tf.where(rows >= 0, own_area, 1),
        areas=areas,
        is_real=(areas > 0.5) & (class_outputs >= 0),
        class_outputs=tf.where(class_outputs >= 0, class_outputs, classes.num_outputs - 1),
    )


def pixel_outputs(
    targets: Mapping[str, tf.Tensor], height: tf.Tensor | int, width: tf.Tensor | int, classes: MaskClasses
) -> tf.Tensor:
    """The place of each pixel's class in the class head, -1 for void, at a grid of P points: [B, P] int32."""
    semantic = tf.cast(subsample(targets["semantic_gt"], height, width), tf.int32)
    outputs = {label: index for index, label in enumerate(classes.class_ids)}
    return tf.where(semantic == classes.ignore_label, -1, _number(semantic, outputs))


def match(
    prediction: MaskPrediction,
    mask_probabilities: tf.Tensor,
    targets: MaskTargets,
    *,
    unmatched_weight: UnmatchedWeight = UnmatchedWeight.VOID_RATIO,
    ignore_crowd: bool = False,
    solver: hungarian.Solver = hungarian.Solver.AUTO,
) -> MaskMatch:
    """Matches masks to slots one to one, so that the sum of Dice x class probability is highest.

    Only masks that exist take part. Where there are more masks than slots, the masks left over are no slot's target.

    Args:
        prediction: the main output; its matching serves the auxiliary outputs as well.
        mask_probabilities: [B, P, N] float32, the soft-max of its mask logits.
        targets: the ground-truth masks at the same grid.
        unmatched_weight: what weighs the class term of slots that get no mask.
        ignore_crowd: leave crowd pixels out of the predicted masks' areas. DeepLab2 counts them.
        solver: where to solve.
    """
    probabilities = tf.stop_gradient(mask_probabilities)
    class_logits = tf.stop_gradient(tf.cast(prediction.class_logits, tf.float32))
    on_masks = tf.where(targets.labelled, targets.rows, -1)
    counted = on_masks >= 0 if ignore_crowd else targets.labelled
    dice = similarity.dice(probabilities, on_masks, targets.areas, counted)  # [B, M, N]
    class_probability = similarity.class_probability(class_logits, targets.class_outputs)

    costs = tf.where(targets.is_real[..., None], -dice * class_probability, 0)
    finite = tf.reduce_all(tf.math.is_finite(costs), axis=[1, 2])  # [B]
    row_slots = _assign(tf.where(finite[:, None, None], costs, 0), targets.is_real, solver)
    taken = tf.one_hot(row_slots, class_logits.shape[1], True, False, dtype=tf.bool)  # [B, M, N]
    is_matched = tf.reduce_any(taken, axis=1)
    own_slot = tf.gather(row_slots, tf.maximum(targets.rows, 0), batch_dims=1)

    def of_row(values, default):
        """Values of the row each slot is matched to: [B, M, N] -> [B, N]."""
        return tf.where(is_matched, tf.reduce_sum(tf.where(taken, values, 0), axis=1), default)

    unmatched = 1.0
    if unmatched_weight is not UnmatchedWeight.UNIFORM:
        unmatched = similarity.void_ratio(probabilities, targets.labelled)
        if unmatched_weight is UnmatchedWeight.LABELLED_RATIO:
            unmatched = 1 - unmatched
    return MaskMatch(
        row_slots=row_slots,
        pixel_slots=tf.where(targets.rows >= 0, own_slot, -1),
        is_matched=is_matched,
        target_classes=of_row(targets.class_outputs[..., None], class_logits.shape[2] - 1),
        class_weights=tf.maximum(of_row(dice, unmatched), _LEAST_WEIGHT),
        mask_weights=of_row(tf.maximum(class_probability, _LEAST_WEIGHT), 0.0),
        poison=tf.where(finite, 0.0, np.nan),
    )


def _assign(costs: tf.Tensor, is_real: tf.Tensor, solver: hungarian.Solver) -> tf.Tensor:
    """Assigns slots to the real rows, wherever these stand: [B, M, N], [B, M] -> [B, M] int32."""
    real_first = tf.argsort(tf.where(is_real, 0, 1), axis=1, stable=True)
    num_real = tf.reduce_sum(tf.cast(is_real, tf.int32), axis=1)
    slots = hungarian.linear_sum_assignment(tf.gather(costs, real_first, batch_dims=1), num_real, solver=solver)
    return tf.gather(slots, tf.argsort(real_first, axis=1), batch_dims=1)


def _number(labels: tf.Tensor, numbers: Mapping[int, int]) -> tf.Tensor:
    """Looks labels up: any shape -> int32 of that shape, -1 for labels that have no number."""
    table = np.full(max(numbers, default=0) + 2, -1, np.int32)  # The last entry is for all higher labels.
    for label, number in numbers.items():
        table[label] = number
    known = tf.gather(table, tf.clip_by_value(labels, 0, len(table) - 1))
    return tf.where(labels >= 0, known, -1)
