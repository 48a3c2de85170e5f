"""Folding weights: the same function, less arithmetic."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.serving import folding


class Scaled(tf.Module):
    """x times a kernel whose columns are scaled, plus a bias; and the sum of the scales, which no input changes."""

    def __init__(self, size: int):
        super().__init__()
        random = np.random.RandomState(0)
        self.kernel = tf.Variable(random.standard_normal((size, size)), dtype=tf.float32)
        self.scale = tf.Variable(random.standard_normal(size), dtype=tf.float32)
        self.bias = tf.Variable(random.standard_normal(size), dtype=tf.float32)

    def __call__(self, x):
        first, _ = tf.split(tf.concat([self.bias, self.scale], 0), 2)
        return tf.matmul(x, self.kernel * self.scale) + first, tf.reduce_sum(self.scale), self.kernel


@pytest.fixture
def module() -> Scaled:
    return Scaled(80)


def trace(module):
    return tf.function(module, autograph=False).get_concrete_function(tf.TensorSpec([None, 80], tf.float32))


def test_the_same_numbers_and_less_arithmetic(module):
    folded = folding.Folded(trace(module))
    run = tf.function(lambda x: folded(x), autograph=False)
    x = tf.random.stateless_normal([3, 80], [1, 2])
    for got, expected in zip(run(x), module(x)):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    operations = {op.type for op in run.get_concrete_function(x).graph.get_operations()}
    assert "MatMul" in operations
    assert not operations & {"Mul", "Split", "Sum", "ConcatV2"}


def test_later_changes_of_the_model_do_not_reach_it(module):
    folded = folding.Folded(trace(module))
    run = tf.function(lambda x: folded(x), autograph=False)
    x = tf.ones([1, 80])
    before = run(x)[0].numpy()
    module.kernel.assign(tf.zeros_like(module.kernel))
    np.testing.assert_array_equal(run(x)[0], before)


def test_large_results_are_variables_of_their_own_type():
    kernel = tf.Variable(tf.ones([80, 80]))

    def cast(x):
        return tf.matmul(tf.cast(x, tf.bfloat16), tf.cast(2.0 * kernel, tf.bfloat16))

    traced = tf.function(cast).get_concrete_function(tf.TensorSpec([1, 80], tf.float32))
    folded = folding.Folded(traced)
    (weight,) = folded.weights
    assert weight.dtype == tf.bfloat16 and weight.shape == (80, 80) and not folded.trainable_variables
    np.testing.assert_array_equal(tf.cast(folded.weights[0], tf.float32), 2.0)


def test_conditions_and_loops_are_refused(module):
    def either(x):
        return tf.cond(tf.reduce_sum(x) > 0.0, lambda: module(x)[0], lambda: x)

    with pytest.raises(ValueError, match="without conditions and loops to fold, found cond"):
        folding.Folded(trace(either))


def test_a_function_without_weights():
    traced = tf.function(lambda x: x + 1.0).get_concrete_function(tf.TensorSpec([2], tf.float32))
    folded = folding.Folded(traced)
    assert folded.weights == []
    (got,) = tf.function(lambda x: folded(x))(tf.constant([1.0, 2.0]))
    np.testing.assert_array_equal(got, [2.0, 3.0])
