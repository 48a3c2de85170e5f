import numpy as np
import pytest
import tensorflow as tf

from evaluation import segments


def test_runs_of_equal_pairs():
    true, pred, pixels = segments.label_pairs(tf.constant([[1, 1, 1], [2, 2, 1]]), tf.constant([[5, 5, 6], [6, 6, 6]]))
    np.testing.assert_array_equal([true, pred, pixels], [[1, 1, 2, 1], [5, 6, 6, 6], [2, 1, 2, 1]])


@pytest.mark.parametrize("length", [1, 64, 65, 4097])
def test_prefix_sum(length):
    values = np.random.default_rng(0).integers(0, 5, length).astype(np.int32)
    np.testing.assert_array_equal(segments.prefix_sum(tf.constant(values)), np.cumsum(values))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint32, np.uint64])
def test_integers_of_any_type(dtype):
    np.testing.assert_array_equal(segments.as_int32(tf.constant([[0, 7, 200]], dtype)), [[0, 7, 200]])


def test_integers_beyond_int32_are_no_class():
    huge = tf.constant([[2**32 + 10, -(2**40)]], tf.int64)
    np.testing.assert_array_equal(segments.as_int32(huge), [[-1, -1]])


def test_bad_arguments():
    with pytest.raises(ValueError, match="integer label map, got float32"):
        segments.as_int32(tf.constant([1.0]))
    with pytest.raises(ValueError, match="do not fit into int32"):
        segments.Labels(100, 255, 10_000_000).check()
    with pytest.raises(ValueError, match="label_divisor >= 1"):
        segments.Labels(100, 255, 0).check()
