"""Class probabilities of pixels from masks, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.postprocess import mask_merging, mask_semantics

CLASSES = structures.MaskClasses(thing_ids=(7,), stuff_ids=(2, 3), ignore_label=255, label_divisor=1000)


def logs(values):
    return tf.math.log(tf.constant(values, tf.float32))


def test_masks_share_a_pixel_and_classes_a_mask():
    # Pixel: 3/4 of slot 0, 1/4 of slot 1. Slot 0: 1/2 class 7, 1/2 void; slot 1: class 3.
    prediction = structures.MaskPrediction(
        class_logits=logs([[[0.5, 1e-9, 1e-9, 0.5], [1e-9, 1e-9, 1.0, 1e-9]]]),
        mask_logits=logs([[[[0.75, 0.25]]]]),
        pixel_features=tf.zeros([0]),
    )
    found = mask_semantics.probabilities(prediction)
    assert found[0, 0, 0].numpy().tolist() == pytest.approx([0.375, 0.0, 0.25], abs=1e-6)
    semantic = mask_semantics.most_probable(found, (2, 3), classes=CLASSES)
    np.testing.assert_array_equal(semantic, np.full([1, 2, 3], 7))


def test_upsampled_in_blocks_as_at_once(monkeypatch):
    values = tf.random.stateless_uniform([2, 5, 4, 3], [1, 2])
    whole = tf.raw_ops.ResizeBilinear(images=values, size=[17, 13], align_corners=True)
    expected = np.take([7, 2, 3], np.argmax(whole, axis=-1))
    monkeypatch.setattr(mask_merging, "BLOCK_NUMBERS", 100)
    found = mask_semantics.most_probable(values, (17, 13), classes=CLASSES)
    assert found.dtype == tf.int32 and found.shape == (2, 17, 13)
    assert np.mean(found.numpy() == expected) > 0.99  # ties of rounding aside
