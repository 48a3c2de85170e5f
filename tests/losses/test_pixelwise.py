import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.losses import pixelwise


def test_softmax_cross_entropy():
    logits = tf.math.log([[[0.5, 0.5], [0.1, 0.9], [0.5, 0.5]]])
    losses = pixelwise.softmax_cross_entropy(logits, tf.constant([[0, 1, 255]]), ignore_label=255)
    np.testing.assert_allclose(losses, [[-np.log(0.5), -np.log(0.9), 0]], rtol=1e-6)


def test_softmax_cross_entropy_of_bfloat16_is_float32():
    losses = pixelwise.softmax_cross_entropy(tf.zeros([1, 2, 4], tf.bfloat16), tf.constant([[0, 3]]), ignore_label=255)
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, np.full([1, 2], np.log(4)), rtol=1e-6)


def test_reduce_averages_what_is_not_zero():
    np.testing.assert_allclose(pixelwise.reduce(tf.constant([[1.0, 0.0, 3.0, 0.0], [0.0] * 4])), [2, 0])


def test_reduce_keeps_the_hardest():
    losses = tf.constant([[1.0, 0.0, 3.0, 4.0], [5.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(pixelwise.reduce(losses, top_k_percent=0.5), [3.5, 5])


@pytest.mark.parametrize(("num_pixels", "percent", "kept"), [(5, 0.5, 2), (7, 0.5, 4), (425, 0.7, 298), (3, 0.1, 0)])
def test_hardest_rounds_half_to_even_in_float32(num_pixels, percent, kept):
    losses = tf.range(num_pixels, dtype=tf.float32)[None]
    percent = float(np.float32(percent))  # As a proto holds it.
    np.testing.assert_array_equal(
        np.sort(pixelwise.hardest(losses, percent)[0]), np.arange(num_pixels)[num_pixels - kept :]
    )
    dynamic = tf.function(lambda x: pixelwise.hardest(x, percent), input_signature=[tf.TensorSpec([1, None])])
    assert dynamic(losses).shape == [1, kept]


@pytest.mark.parametrize("percent", [1.0, 0.2])
def test_a_nan_stays(percent):
    losses = np.zeros([1, 100], np.float32)
    losses[0, 57] = np.nan
    losses[0, 3] = 5
    assert np.isnan(pixelwise.reduce(tf.constant(losses), top_k_percent=percent).numpy()).all()
    logits = tf.fill([1, 2, 3], np.nan)
    assert np.isnan(pixelwise.softmax_cross_entropy(logits, tf.constant([[0, 255]]), ignore_label=255).numpy()).all()


def test_gradient_reaches_only_the_hardest():
    losses = tf.Variable([[1.0, 2.0, 3.0, 4.0]])
    with tf.GradientTape() as tape:
        value = pixelwise.reduce(losses, top_k_percent=0.5)
    np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(value, losses)), [[0, 0, 0.5, 0.5]])
