"""Means over windows: by hand, and as TensorFlow's pooling has them."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.layers import pooling


def test_means_of_windows_by_hand():
    x = tf.reshape(tf.constant([1.0, 2.0, 3.0, 5.0, 8.0, 13.0]), [1, 2, 3, 1])
    got = pooling.window_means(x, (2, 2))[0, :, :, 0]
    np.testing.assert_allclose(got, [[(1 + 2 + 5 + 8) / 4, (2 + 3 + 8 + 13) / 4]])
    np.testing.assert_allclose(pooling.window_means(x, (1, 3))[0, :, :, 0], [[2.0], [26 / 3]], rtol=1e-6)
    np.testing.assert_allclose(pooling.window_means(x, (3, 3))[0, :, :, 0], [[32 / 6]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_windows_as_the_pooling_of_tensorflow_has_them(dtype):
    x = tf.random.stateless_normal([2, 7, 9, 3], seed=[3, 4])
    for steps in ((1, 1), (2, 3)):
        expected = tf.nn.avg_pool2d(x, [3, 4], steps, "VALID")
        got = pooling.window_means(tf.cast(x, dtype), (3, 4), steps=steps)
        assert got.dtype == dtype
        np.testing.assert_allclose(tf.cast(got, tf.float32), expected, atol=1e-6 if dtype == tf.float32 else 1e-2)
    scaled = pooling.window_means(x, (5, 7), scale=0.5)  # (3, 4)
    np.testing.assert_allclose(scaled, tf.nn.avg_pool2d(x, [3, 4], 1, "VALID"), atol=1e-6)
