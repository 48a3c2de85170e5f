import numpy as np
import tensorflow as tf

from deeplab2_kmax.layers import reference_masks

HALF = float(np.log(0.5))


def test_coordinates_have_corners_at_0_and_1():
    grid = reference_masks.coordinates(2, 3)
    np.testing.assert_allclose(grid[..., 0], [[0, 0.5, 1], [0, 0.5, 1]])  # x
    np.testing.assert_allclose(grid[..., 1], [[0, 0, 0], [1, 1, 1]])  # y
    np.testing.assert_allclose(reference_masks.coordinates(1, 1), [[[0, 0]]])


def test_gaussians_by_hand():
    # In the middle, one image wide; the same, half as wide; at x = 3/4.
    references = tf.constant([[[0, 0, 0, 0], [0, 0, HALF, 0], [np.log(3), 0, 0, 0]]], tf.float32)
    maps = reference_masks.log_gaussian(references, 3, 3)
    assert maps.shape == (1, 3, 3, 3)
    # -(1/2)^2 / 2 = -1/8 for each axis at the edge.
    np.testing.assert_allclose(maps[0, ..., 0], [[-0.25, -0.125, -0.25], [-0.125, 0, -0.125], [-0.25, -0.125, -0.25]])
    np.testing.assert_allclose(maps[0, 1, :, 1], [-0.5, 0, -0.5], rtol=1e-6)
    np.testing.assert_allclose(maps[0, :, 1, 1], [-0.125, 0, -0.125], rtol=1e-6)
    np.testing.assert_allclose(maps[0, 1, :, 2], [-0.28125, -0.03125, -0.03125], rtol=1e-5)
    np.testing.assert_allclose(reference_masks.centers(references)[0], [[0.5, 0.5], [0.5, 0.5], [0.75, 0.5]])


def test_sizes_may_be_tensors_and_extents_are_bounded():
    references = tf.constant([[[0, 0, -100, 100]]], tf.float32)
    run = tf.function(lambda h, w: reference_masks.log_gaussian(references, h, w))
    maps = run(tf.constant(3), tf.constant(5))
    assert maps.shape == (1, 3, 5, 1) and np.isfinite(maps).all()
