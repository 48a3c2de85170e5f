"""Recomputation changes neither numbers nor traces; it does save memory."""

from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, axial_block, drop_path, norm, recompute, residual
from tests import replicas, shared

NORM = norm.batch_norm(momentum=0.9)
SEED = tf.constant([3, 4])


class Drop(keras.layers.Layer):
    """A dense layer, batch norm and drop path; counts its calls."""

    def __init__(self):
        super().__init__()
        self.norm = NORM()
        self.drop_path = drop_path.DropPath(0.5)
        self.calls = 0

    def build(self, input_shape):
        self.kernel = self.add_weight("kernel", shape=[input_shape[-1]], initializer="ones")
        self.built = True

    def call(self, x, training=False):
        self.calls += 1
        return self.drop_path(self.norm(tf.square(x) * self.kernel, training=training), training=training)


def test_moves_statistics_once():
    x = tf.constant([[1.0], [3.0]])
    layers = [Drop(), Drop()]
    for layer, enabled in zip(layers, (False, True)):
        layer(x)
        with tf.GradientTape() as tape, drop_path.seeded(SEED):
            loss = tf.reduce_sum(tf.sin(recompute.layer(layer, x, enabled=enabled, training=True)))
        tape.gradient(loss, layer.trainable_variables)
    # The mean of 1 and 9, with weight 0.1; the variance is 16.
    np.testing.assert_allclose(layers[1].norm.moving_mean, [0.5], rtol=1e-6)
    np.testing.assert_allclose(layers[1].norm.moving_variance, [0.9 + 1.6], rtol=1e-6)
    assert [layer.calls for layer in layers] == [2, 3]
    assert not recompute.is_repeating()


@pytest.mark.parametrize("seed", [SEED, None], ids=["seeded", "unseeded"])
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_both_passes_drop_the_same(graph, seed):
    """y = x * mask, so the gradient is the mask that y shows; a second layer goes on drawing behind the first."""
    first, second = drop_path.DropPath(0.5), drop_path.DropPath(0.5)

    def step(x):
        with tf.GradientTape() as tape, drop_path.seeded(seed):
            tape.watch(x)
            y = recompute.layer(first, x, enabled=True, training=True)
            z = recompute.layer(second, y, enabled=True, training=True)
        return y, z, tape.gradient(z, x)

    y, z, gradient = (tf.function(step) if graph else step)(tf.ones([64, 1]))
    np.testing.assert_array_equal(gradient, z)
    assert set(np.unique(y)) == {0.0, 2.0} and 4.0 in z and np.any((y == 2.0) & (z == 0.0))


def test_draws_go_on_as_without():
    layer = drop_path.DropPath(0.5)
    results = []
    for enabled in (False, True):
        with drop_path.seeded(SEED):
            x = tf.ones([64, 1])
            results.append([x := recompute.layer(layer, x, enabled=enabled, training=True) for _ in range(3)])
    np.testing.assert_array_equal(*results)


def test_inference_and_integers_pass_through():
    layer = Drop()
    np.testing.assert_array_equal(recompute.layer(layer, tf.ones([1, 1]), enabled=True, training=False), layer([[1.0]]))
    with tf.GradientTape() as tape:
        x = tf.constant([2.0, 5.0])
        tape.watch(x)
        best, nothing, (square,) = recompute.call(lambda x: (tf.argmax(x), None, (x * x,)), x)
    assert int(best) == 1 and nothing is None
    np.testing.assert_array_equal(tape.gradient(square, x), [4.0, 10.0])


def _blocks(kind, enabled):
    shared_options = {"norm": NORM, "activation": activations.gelu, "drop_path": 0.3, "recompute": enabled}
    make = {
        "bottleneck": functools.partial(residual.Bottleneck, 4, stride=2),
        "basic": functools.partial(residual.Basic, 4, stride=2),
        "axial": functools.partial(axial_block.AxialBlock, 8, num_heads=2),
    }[kind]
    keras.utils.set_random_seed(1)
    stage = residual.Stage([make(**shared_options) for _ in range(2)])
    stage(tf.zeros([1, 9, 9, 8]))
    for index, variable in enumerate(stage.trainable_variables):
        if "gamma" in variable.name:  # the last ones start at zero
            variable.assign(tf.random.stateless_uniform(variable.shape, [index, 1], 0.5, 1.5))
    return stage


def _step(stage, x):
    with tf.GradientTape() as tape, drop_path.seeded(SEED):
        tape.watch(x)
        y = stage(x, training=True)
        loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
    return y, tape.gradient(loss, [x, *stage.trainable_variables])


@pytest.mark.parametrize("policy", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("kind", ["bottleneck", "basic", "axial"])
def test_blocks_give_the_same(kind, graph, policy, request):
    request.addfinalizer(functools.partial(keras.mixed_precision.set_global_policy, "float32"))
    keras.mixed_precision.set_global_policy(policy)
    x = tf.random.stateless_normal([4, 9, 9, 8], [1, 2])
    stages = [_blocks(kind, enabled) for enabled in (False, True)]
    step = tf.function(_step) if graph else _step
    (y, gradients), (recomputed_y, recomputed) = (step(stage, x) for stage in stages)
    # The rewriter of graphs may fuse other operations, where there are fewer readers.
    tolerance = {"float32": 1e-5, "mixed_bfloat16": 0.03 if graph else 1e-5}[policy]
    np.testing.assert_allclose(_numbers(recomputed_y), _numbers(y), atol=tolerance * np.abs(_numbers(y)).max())
    largest = max(np.abs(_numbers(gradient)).max() for gradient in gradients)
    for gradient, other in zip(gradients, recomputed):
        np.testing.assert_allclose(_numbers(other), _numbers(gradient), atol=tolerance * largest)
    for variable, other in zip(*(stage.non_trainable_variables for stage in stages)):
        np.testing.assert_allclose(other, variable, rtol=1e-2 if policy == "mixed_bfloat16" else 1e-4, atol=1e-5)


def _numbers(x):
    return tf.cast(x, tf.float32).numpy()


@pytest.mark.slow
def test_replicas_with_synchronised_norms():
    strategy = replicas.two()
    results = []
    for enabled in (False, True):
        with strategy.scope():
            stage = _blocks("bottleneck", enabled)
        x = tf.random.stateless_normal([4, 9, 9, 8], [1, 2])

        @tf.function
        def run(x, stage=stage):
            def replica():
                index = tf.distribute.get_replica_context().replica_id_in_sync_group
                return _step(stage, x[2 * index : 2 * index + 2])

            _, gradients = strategy.run(replica)
            return [strategy.reduce("sum", gradient, axis=None) for gradient in gradients]

        results.append([*run(x), *stage.non_trainable_variables])
    for plain, recomputed in zip(*results):
        np.testing.assert_allclose(_numbers(recomputed), _numbers(plain), rtol=1e-4, atol=1e-3)


_MEMORY = """
import sys
import tensorflow as tf
from deeplab2_kmax.layers import activations, norm, residual

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024

options = {"norm": norm.batch_norm(), "activation": activations.gelu, "recompute": sys.argv[1] == "True"}
stage = residual.Stage([residual.Bottleneck(8, **options) for _ in range(10)])
x = tf.ones([4, 128, 128, 32])
stage(x[:1, :4, :4])

@tf.function
def step(x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(stage(x, training=True) ** 2)
    return tape.gradient(loss, stage.trainable_variables)

step.get_concrete_function(x)
before = peak()
step(x)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_saved():
    """In a graph, where a rewriter could find the second pass equal to the first and keep what that made."""

    def peak(enabled: bool) -> int:
        command = [sys.executable, "-c", _MEMORY, str(enabled)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=shared.ROOT).stdout)

    assert peak(True) < 0.5 * peak(False)
