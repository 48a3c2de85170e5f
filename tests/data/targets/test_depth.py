"""Depth and normals under resize and flip."""

import numpy as np
import tensorflow as tf

from deeplab2_kmax.data.targets import depth


def test_metres():
    assert depth.metres(tf.constant([0, 128, 2560])).numpy().tolist() == [0, 0.5, 10]


def test_an_image_twice_as_large_is_half_as_far():
    assert depth.scale_depth(tf.constant([0, 5, 512]), tf.constant(2.0)).numpy().tolist() == [0, 2, 256]


def test_normals_stay_those_of_the_scaled_depth():
    """A plane z = a x + b y + c has the normal (a, b, -1) / length; enlarging the image divides its z."""
    a, b, factor = 0.5, -0.25, 1.6
    normal = np.array([a, b, -1]) / np.linalg.norm([a, b, -1])
    nearer = np.array([a / factor, b / factor, -1]) / np.linalg.norm([a / factor, b / factor, -1])
    made = depth.scale_normals(tf.constant([[normal, [0, 0, 0]]], tf.float32), tf.constant(factor))
    np.testing.assert_allclose(made, [[nearer, [0, 0, 0]]], atol=1e-6)
    np.testing.assert_array_equal(depth.flip_normals(tf.constant([0.6, 0.0, -0.8])), np.float32([-0.6, 0.0, -0.8]))
