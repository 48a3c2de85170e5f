"""Losses of matched masks: the PQ-style class and Dice terms, and the cross-entropy of mask ids.

MaX-DeepLab: End-to-End Panoptic Segmentation with Mask Transformers (2021, arXiv 2012.00759), sections 3.2 and 3.3.
Factors that the paper leaves open are DeepLab2's. CMT-DeepLab
(2022, arXiv 2206.08948) adds reference masks. All terms are in slot space: what a slot should predict is the
ground-truth mask it was matched to.
"""

from __future__ import annotations

import tensorflow as tf

from deeplab2_kmax.losses import pixelwise, relaxation

_MATCHED_WEIGHT = 0.75  # Of the class term, and of the Dice term as a whole.
_VOID_WEIGHT = 0.25


def class_term(
    class_logits: tf.Tensor,
    target_classes: tf.Tensor,
    weights: tf.Tensor,
    is_matched: tf.Tensor,
    *,
    relaxed_targets: tf.Tensor | None = None,
) -> tf.Tensor:
    """The class half of the PQ-style loss.

    Args:
        class_logits: [B, N, K + 1] float32.
        target_classes: [B, N] int32, void (K) for slots without a mask.
        weights: [B, N], how well the slot's mask fits (matched), how much of it is void (others).
        is_matched: [B, N] bool.
        relaxed_targets: [B, N, K + 1], targets that take the place of `target_classes`, or None.

    Returns:
        [B], the mean over slots.
    """
    if relaxed_targets is None:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target_classes, logits=class_logits)
    else:
        losses = relaxation.cross_entropy(class_logits, relaxed_targets)
    return pixelwise.reduce(tf.where(is_matched, _MATCHED_WEIGHT, _VOID_WEIGHT) * weights * losses)


def dice_term(mask_probabilities: tf.Tensor, pixel_slots: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The mask half of the PQ-style loss: 1 - Dice, weighted per slot.

    Args:
        mask_probabilities: [B, P, N] float32, per pixel a distribution over slots.
        pixel_slots: [B, P] int32, the slot each pixel should choose, -1 for none; such pixels do not count.
        weights: [B, N], how sure the slot is of its class; 0 for slots without a mask.

    Returns:
        [B].
    """
    losses = dice_losses(mask_probabilities, pixel_slots)
    return tf.reduce_sum(weights * losses, axis=1) * (_MATCHED_WEIGHT / mask_probabilities.shape[2])


def dice_losses(mask_probabilities: tf.Tensor, pixel_slots: tf.Tensor) -> tf.Tensor:
    """1 - Dice of every slot's mask and the pixels that should choose it: [B, P, N], [B, P] -> [B, N].

    Pixels of slot -1 do not count.
    """
    num_slots = mask_probabilities.shape[2]
    targets = tf.one_hot(pixel_slots, num_slots, dtype=mask_probabilities.dtype)  # All zero where the slot is -1.
    overlaps = tf.reduce_sum(mask_probabilities * targets, axis=1)
    has_slot = tf.cast(pixel_slots >= 0, mask_probabilities.dtype)
    predicted_areas = tf.einsum("bpn,bp->bn", mask_probabilities, has_slot)
    return 1 - (2 * overlaps + 1) / (predicted_areas + tf.reduce_sum(targets, axis=1) + 1)


def reference_mask_term(log_masks: tf.Tensor, pixel_slots: tf.Tensor, is_matched: tf.Tensor) -> tf.Tensor:
    """How far the Gaussians of CMT-DeepLab are from the masks of their slots: 1 - Dice, averaged over matched slots.

    Args:
        log_masks: [B, P, N] float32, at most 0.
        pixel_slots: [B, P] int32, the slot each pixel should choose, -1 for none; such pixels do not count.
        is_matched: [B, N] bool; other slots may lie anywhere.

    Returns:
        [B].
    """
    return pixelwise.reduce(tf.cast(is_matched, tf.float32) * dice_losses(tf.exp(log_masks), pixel_slots))


def mask_id_cross_entropy(
    mask_logits: tf.Tensor, pixel_slots: tf.Tensor, labelled: tf.Tensor, *, top_k_percent: float = 1.0
) -> tf.Tensor:
    """Each pixel's cross-entropy over slots, averaged.

    Args:
        mask_logits: [B, P, N] float32.
        pixel_slots: [B, P] int32, the slot each pixel should choose, -1 for none; such pixels add nothing.
        labelled: [B, P] bool; void pixels add nothing.
        top_k_percent: the share of the hardest pixels that is kept.

    Returns:
        [B].
    """
    losses = pixelwise.softmax_cross_entropy(mask_logits, tf.where(labelled, pixel_slots, -1), ignore_label=-1)
    return pixelwise.reduce(losses, top_k_percent=top_k_percent)
