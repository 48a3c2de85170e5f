"""Relaxations that help a mask transformer train: ReMaX (2023, arXiv 2306.17319).

ReMask: masks that lie on pixels of their own class are taken as surer than they are, so that the loss concentrates on
those that leak into other classes. ReClass: a slot's class target holds all classes that its mask covers. Where the
paper leaves room: only non-void classes take part, and void pixels belong to no class.
"""

from __future__ import annotations

import tensorflow as tf

from deeplab2_kmax.matching import similarity

_EPSILON = 1e-5


def class_agreement(class_logits: tf.Tensor, semantic_logits: tf.Tensor, class_ids: tuple[int, ...]) -> tf.Tensor:
    """How much a pixel's classes are those of a slot. No gradient passes.

    Args:
        class_logits: [B, N, K + 1]: the classes in the order of `class_ids`, then void, which does not take part.
        semantic_logits: [B, h, w, C] by class id.
        class_ids: of the K outputs of the class head before void.

    Returns:
        [B, h, w, N] float32: the sum over classes of the products of both sigmoids.
    """
    semantic = tf.gather(tf.cast(tf.stop_gradient(semantic_logits), tf.float32), class_ids, axis=-1)
    classes = tf.cast(tf.stop_gradient(class_logits), tf.float32)[..., : len(class_ids)]
    return tf.einsum("bhwk,bnk->bhwn", tf.sigmoid(semantic), tf.sigmoid(classes))


def relax_masks(mask_logits: tf.Tensor, agreement: tf.Tensor) -> tf.Tensor:
    """ReMask: mask logits and agreements of one shape -> mask logits l + l * g. Gradients scale with 1 + g."""
    return mask_logits + mask_logits * tf.stop_gradient(agreement)


def relax_classes(
    mask_logits: tf.Tensor, pixel_outputs: tf.Tensor, target_classes: tf.Tensor, *, num_outputs: int, eta: float
) -> tf.Tensor:
    """ReClass: the class target of every slot, from 0 to 1 per class; their sum may exceed 1. No gradient passes.

    Args:
        mask_logits: [B, P, N], not relaxed.
        pixel_outputs: [B, P] int32, the place of each pixel's class in the class head, -1 for void.
        target_classes: [B, N] int32, the class of the matched mask, or void.
        num_outputs: K + 1.
        eta: how much the cover o counts: the target is eta * o + (1 - eta * o) * one-hot.

    Returns:
        [B, N, K + 1] float32.
    """
    masks = tf.sigmoid(tf.cast(tf.stop_gradient(mask_logits), tf.float32))
    covered = similarity.segment_sum(masks, pixel_outputs, num_outputs)  # [B, K + 1, N]
    areas = similarity.segment_sum(tf.ones_like(masks[..., :1]), pixel_outputs, num_outputs)
    cover = eta * tf.transpose(covered / (areas + _EPSILON), [0, 2, 1])
    return cover + (1 - cover) * tf.one_hot(target_classes, num_outputs)


def cross_entropy(class_logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """-sum(targets * log softmax(logits)): two [B, N, K + 1] -> [B, N].

    TensorFlow's own has this value too, but a gradient that is right only for targets that sum to 1.
    """
    return -tf.reduce_sum(targets * tf.nn.log_softmax(class_logits), axis=-1)
