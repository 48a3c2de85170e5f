"""Padding, strides and folded norms of the convolutions."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.layers import conv, norm

NORM = norm.batch_norm()


def ones_kernel(layer, x):
    layer(x)
    layer.kernel.assign(tf.ones_like(layer.kernel))
    return layer(x)


def test_strided_convolution_pads_both_sides_alike():
    """For an even side TensorFlow's SAME would start at pixel 0 and pad behind only."""
    row = tf.reshape(tf.constant([1.0, 10.0, 100.0, 1000.0]), [1, 4, 1, 1]) * tf.ones([1, 1, 4, 1])
    y = ones_kernel(conv.Conv(1, 3, stride=2), row)
    # Rows: zero padding, 1, 10 | 10, 100, 1000; the first column lacks one of three columns, the second has all.
    np.testing.assert_allclose(y[0, :, :, 0], [[22, 33], [2220, 3330]])


def test_dilated_strided_padding():
    x = tf.ones([1, 7, 7, 1])
    y = ones_kernel(conv.Conv(1, 3, stride=2, dilation=2), x)
    # Taps 4 apart around rows 0, 2, 4, 6 with two zeros on each side.
    np.testing.assert_allclose(y[0, :, 0, 0] / y[0, 1, 1, 0] * 3, [4 / 3, 2, 2, 4 / 3])


def test_strided_1x1_takes_every_second_pixel_from_the_first():
    x = tf.reshape(tf.range(12.0), [1, 3, 4, 1])
    np.testing.assert_allclose(ones_kernel(conv.Conv(1, stride=2), x)[0, :, :, 0], [[0, 2], [8, 10]])


def test_dilation_has_the_same_result_in_training():
    x = tf.random.stateless_normal([1, 7, 9, 2], [1, 2])
    layer = conv.Conv(3, 3, dilation=2)
    np.testing.assert_allclose(layer(x, training=True), layer(x), rtol=1e-5, atol=1e-5)


def test_norm_folds_into_the_kernel():
    layer = conv.ConvNormAct(1, norm=NORM)
    layer(tf.zeros([1, 1, 1, 1]))
    layer.conv.kernel.assign([[[[3.0]]]])
    for name, value in (("gamma", 2.0), ("beta", 5.0), ("moving_mean", 1.0), ("moving_variance", 4.0 - 1e-3)):
        getattr(layer.norm, name).assign([value])
    # (3 * 7 - 1) / 2 * 2 + 5
    np.testing.assert_allclose(layer(tf.fill([1, 1, 1, 1], 7.0)), [[[[25.0]]]], rtol=1e-6)


def test_other_norms_stay_unfolded():
    layer = conv.ConvNormAct(4, norm=norm.layer_norm())
    y = layer(tf.random.stateless_normal([1, 2, 2, 3], [1, 2]))
    np.testing.assert_allclose(tf.reduce_mean(y, -1), tf.zeros([1, 2, 2]), atol=1e-5)


def test_activation_follows_both_halves_of_a_separable_convolution():
    layer = conv.SeparableConvNormAct(1, 1, norm=NORM, activation="relu")
    layer(tf.zeros([1, 1, 1, 1]))
    layer.depthwise.conv.depthwise_kernel.assign([[[[-1.0]]]])
    layer.pointwise.conv.kernel.assign([[[[1.0]]]])
    # -2 becomes 0 after the first half; activated only once it would be 0 for 2 and 2 for -2 alike.
    x = tf.reshape(tf.constant([2.0, -2.0]), [1, 1, 2, 1])
    np.testing.assert_allclose(layer(x)[0, 0, :, 0], [0.0, 2.0 / np.sqrt(1.001) / np.sqrt(1.001)], rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (2, 4, 5, 3)])
def test_dense_works_on_the_last_axis(shape):
    x = tf.random.stateless_normal(shape, [1, 2])
    layer = conv.Dense(4)
    y = layer(x)
    np.testing.assert_allclose(y, np.asarray(x) @ layer.kernel.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(2, 7, 9, 4), (1, 3, 2, 4)])
def test_depthwise_gradients_are_tensorflows(shape, size):
    layer = conv.DepthwiseConv(size)
    x = tf.random.stateless_normal(shape, [1, 2])
    results = []
    for training in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(tf.sin(y))
        results.append([y, *tape.gradient(loss, [x, layer.depthwise_kernel])])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dilation", "side"), [(2, 7), (3, 5), (6, 5)])
def test_wide_dilation_is_a_sum_of_taps(dilation, side):
    """Of a map of known size; else it is TensorFlow's convolution."""
    layer = conv.Conv(4, 3, dilation=dilation)
    x = tf.random.stateless_normal([2, side, side + 2, 3], [1, 2])
    layer(x)
    results = []
    for size in (side, None):
        shape = [2, size, None if size is None else size + 2, 3]
        call = tf.function(lambda x: layer(x, training=True), input_signature=[tf.TensorSpec(shape)])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
            loss = tf.reduce_sum(tf.sin(y))
        results.append([y, *tape.gradient(loss, [x, layer.kernel])])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["symmetric", "same", "valid"])
@pytest.mark.parametrize("side", [6, 7])
def test_strided_projection_is_the_same_in_training(side, padding):
    layer = conv.Conv(4, stride=2, padding=padding)
    x = tf.random.stateless_normal([2, side, side + 1, 3], [1, 2])
    np.testing.assert_allclose(layer(x, training=True), layer(x), rtol=1e-5, atol=1e-6)
