import numpy as np
import tensorflow as tf

from deeplab2_kmax.losses import masks


def test_class_term():
    # Slot 0 was matched to class 1, slots 1 and 2 to nothing; void is class 2.
    logits = tf.math.log([[[0.25, 0.5, 0.25], [0.4, 0.4, 0.2], [0.25, 0.25, 0.5]]])
    loss = masks.class_term(
        logits, tf.constant([[1, 2, 2]]), tf.constant([[0.8, 0.1, 1e-5]]), tf.constant([[True, False, False]])
    )
    expected = 0.75 * 0.8 * np.log(2) + 0.25 * 0.1 * np.log(5) + 0.25 * 1e-5 * np.log(2)
    np.testing.assert_allclose(loss, [expected / 3], rtol=1e-5)


def test_dice_term():
    probabilities = tf.constant([[[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]])
    # Two pixels of slot 0; the third has no mask and does not count.
    loss = masks.dice_term(probabilities, tf.constant([[0, 0, -1]]), tf.constant([[0.5, 0.0]]))
    dice = (2 * 1.5 + 1) / (1.5 + 2 + 1)
    np.testing.assert_allclose(loss, [0.5 * (1 - dice) * 0.75 / 2], rtol=1e-6)


def test_perfect_masks_cost_nothing():
    probabilities = tf.one_hot([[0, 0, 1]], 2)
    np.testing.assert_allclose(
        masks.dice_term(probabilities, tf.constant([[0, 0, 1]]), tf.ones([1, 2])), [0], atol=1e-7
    )


def test_mask_id_cross_entropy():
    logits = tf.math.log([[[0.5, 0.5], [0.2, 0.8], [0.1, 0.9], [0.1, 0.9]]])
    slots = tf.constant([[0, 0, 0, -1]])
    labelled = tf.constant([[True, True, False, True]])
    np.testing.assert_allclose(masks.mask_id_cross_entropy(logits, slots, labelled), [np.log(10) / 2], rtol=1e-6)
    hardest = masks.mask_id_cross_entropy(logits, slots, labelled, top_k_percent=0.25)
    np.testing.assert_allclose(hardest, [np.log(5)], rtol=1e-6)
