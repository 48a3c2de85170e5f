"""What mask slots say about the class of every pixel, for averages over several passes of a network.

"Per-Pixel Classification is Not All You Need for Semantic Segmentation" (MaskFormer, 2021, arXiv 2107.06278): a pixel
has a class as far as it belongs to a mask, times as far as the mask has the class. Here masks share a pixel by softmax.
"""

from __future__ import annotations

import tensorflow as tf

from deeplab2_kmax.postprocess import mask_merging, semantic
from deeplab2_kmax.structures import MaskClasses, MaskPrediction


def probabilities(prediction: MaskPrediction) -> tf.Tensor:
    """[B, h, w, K] float32: the probabilities of the outputs of the class head; what is missing to 1 is void's."""
    masks = tf.nn.softmax(tf.cast(prediction.mask_logits, tf.float32))
    classes = tf.nn.softmax(tf.cast(prediction.class_logits, tf.float32))[..., :-1]
    return tf.einsum("bhwn,bnk->bhwk", masks, classes)


def most_probable(values: tf.Tensor, size: mask_merging.Size, *, classes: MaskClasses) -> tf.Tensor:
    """The class of every pixel, never void: probabilities [B, h, w, K], size (H, W) -> [B, H, W] int32."""
    found = semantic.classify({semantic.PROBABILITIES: values}, size)
    return tf.gather(tf.constant(classes.class_ids, tf.int32), found.semantic)
