"""Numbers of batch norm and layer norm, on one device and on two."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import norm
from tests import replicas


def test_training_uses_the_batch_and_moves_the_statistics():
    layer = norm.BatchNorm(momentum=0.9, epsilon=0.0)
    y = layer(tf.constant([[1.0], [3.0]]), training=True)
    np.testing.assert_allclose(y, [[-1.0], [1.0]], rtol=1e-4)
    np.testing.assert_allclose(layer.moving_mean, [0.2], rtol=1e-5)
    # The variance over the batch is 1 (divided by 2, not by 1): 0.9 * 1 + 0.1 * 1.
    np.testing.assert_allclose(layer.moving_variance, [1.0], rtol=1e-5)


def test_moving_variance_is_the_biased_one():
    layer = norm.BatchNorm(momentum=0.0)
    layer(tf.constant([[0.0], [4.0]]), training=True)
    np.testing.assert_allclose(layer.moving_variance, [4.0], rtol=1e-5)


def test_inference_uses_the_moving_statistics():
    layer = norm.BatchNorm(epsilon=0.0, gamma=2.0)
    layer(tf.zeros([1, 1, 1, 1]))
    layer.moving_mean.assign([1.0])
    layer.moving_variance.assign([4.0])
    np.testing.assert_allclose(layer(tf.fill([1, 1, 1, 1], 5.0)), [[[[4.0]]]], rtol=1e-5)


def test_frozen_norms_do_not_learn():
    layer = norm.BatchNorm()
    layer.trainable = False
    layer(tf.constant([[1.0], [3.0]]), training=True)
    np.testing.assert_array_equal(layer.moving_mean, [0.0])


def test_parameters_along_several_axes():
    """Two terms and three heads: each pair is normalised by itself."""
    layer = norm.BatchNorm(axes=(0, 2), epsilon=0.0)
    x = np.random.RandomState(0).standard_normal([2, 4, 3, 5, 5]).astype(np.float32)
    y = layer(tf.constant(x), training=True)
    assert layer.gamma.shape == (2, 1, 3, 1, 1)
    np.testing.assert_allclose(tf.reduce_mean(y, [1, 3, 4]), np.zeros([2, 3]), atol=1e-5)
    np.testing.assert_allclose(tf.math.reduce_std(y, [1, 3, 4]), np.ones([2, 3]), rtol=1e-4)


def test_one_scale_for_everything():
    layer = norm.BatchNorm(gamma=0.1)
    y = layer(tf.random.stateless_normal([2, 4, 5, 6, 1], [1, 2]), training=True)
    assert layer.gamma.shape == (1,)
    np.testing.assert_allclose(tf.math.reduce_std(y), 0.1, rtol=1e-2)


def test_layer_norm():
    layer = norm.LayerNorm(epsilon=0.0)
    np.testing.assert_allclose(layer(tf.constant([[1.0, 3.0]])), [[-1.0, 1.0]], rtol=1e-5)


def test_agrees_with_keras():
    x = tf.random.stateless_normal([4, 5, 6, 3], [1, 2]) * 3 + 1
    ours, theirs = norm.BatchNorm(), keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.99)
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), rtol=1e-4, atol=1e-5)
    # Keras moves its variance by the unbiased one, which is 120 / 119 of ours here.
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("synchronized", [True, False])
def test_replicas_share_statistics(synchronized):
    strategy = replicas.two()
    x = np.random.RandomState(0).standard_normal([2, 4, 5, 5, 3]).astype(np.float32)
    x[1] += 2.0
    with strategy.scope():
        layer = norm.BatchNorm(synchronized=synchronized, momentum=0.0)
        layer.build([None, 5, 5, 3])

    @tf.function
    def run():
        def one_replica():
            mine = tf.constant(x)[tf.distribute.get_replica_context().replica_id_in_sync_group]
            with tf.GradientTape() as tape:
                tape.watch(mine)
                y = layer(mine, training=True)
                loss = tf.reduce_sum(tf.square(y) * tf.constant(x[0]))
            return y, tape.gradient(loss, mine)

        return strategy.run(one_replica)

    y, _ = run()
    y = np.concatenate([part.numpy() for part in strategy.experimental_local_results(y)])
    alone = norm.BatchNorm(momentum=0.0)
    expected = alone(tf.constant(x.reshape([8, 5, 5, 3])), training=True)
    if synchronized:
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(layer.moving_mean, alone.moving_mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, alone.moving_variance, rtol=1e-3)
    else:
        np.testing.assert_allclose(y.reshape([2, -1]).mean(axis=1), [0.0, 0.0], atol=1e-4)
        assert np.abs(y - expected).max() > 0.5
