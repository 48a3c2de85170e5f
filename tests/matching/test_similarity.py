import numpy as np
import tensorflow as tf

from deeplab2_kmax.matching import similarity

# Four pixels: two of mask 0, one crowd (label, but no mask), one void. Two slots.
PROBABILITIES = tf.constant([[[1.0, 0.0], [0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]])
ROWS = tf.constant([[0, 0, -1, -1]])
LABELLED = tf.constant([[True, True, True, False]])
AREAS = tf.constant([[2.0, 0.0]])  # A second row that does not exist.


def test_dice():
    dice = similarity.dice(PROBABILITIES, ROWS, AREAS, LABELLED)
    # Overlaps 1.5 and 0.5; predicted areas 2.5 and 0.5, without the void pixel.
    np.testing.assert_allclose(dice[0, 0], [1.5 / 2.25, 0.5 / 1.25], rtol=1e-4)
    np.testing.assert_array_equal(dice[0, 1], [0, 0])


def test_dice_without_crowd_in_the_area():
    dice = similarity.dice(PROBABILITIES, ROWS, AREAS, ROWS >= 0)
    np.testing.assert_allclose(dice[0, 0], [1.5 / 1.75, 0.5 / 1.25], rtol=1e-4)


def test_class_probability():
    logits = tf.math.log([[[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]]])
    probability = similarity.class_probability(logits, tf.constant([[1, 0, 1]]))
    np.testing.assert_allclose(probability, [[[0.3, 0.1], [0.2, 0.6], [0.3, 0.1]]], rtol=1e-6)


def test_void_ratio():
    ratio = similarity.void_ratio(PROBABILITIES, LABELLED)
    np.testing.assert_allclose(ratio, [[0.25 / 2.75, 0.75 / 1.25]], rtol=1e-4)


def test_segment_sum_keeps_examples_apart():
    values = tf.constant([[[1.0], [2.0], [4.0]], [[8.0], [16.0], [32.0]]])
    sums = similarity.segment_sum(values, tf.constant([[1, -1, 1], [0, 1, -1]]), 2)
    np.testing.assert_array_equal(sums[..., 0], [[0, 5], [8, 16]])
