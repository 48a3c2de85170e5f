"""What every public layer must do, over the table of cases."""

import contextlib
import functools
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import heads, layers
from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import restore
from deeplab2_kmax.layers import drop_path
from tests import cases

# Bases that cannot run by themselves.
ABSTRACT = {"ResidualBlock"}

CASES = {case.name: case for case in cases.CASES}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def call(layer, arguments, training=False):
    options = {"training": training} if "training" in inspect.signature(layer.call).parameters else {}
    with drop_path.seeded(tf.constant([1, 2])):
        return layer(*arguments, **options)


def live_layer(case, seed=0):
    """The layer with variables and non-trivial values in all of them, so that no zero hides a mistake."""
    layer = case.make()
    call(layer, case.arguments())
    random = np.random.RandomState(seed)
    for path, variable in restore.variable_paths(layer).items():
        noise = 0.2 * random.standard_normal(variable.shape)
        variable.assign(np.exp(noise) if path.endswith(("gamma", "moving_variance")) else noise)
    return layer


@functools.cache
def _made(name):
    layer = live_layer(CASES[name])
    return layer, layer.get_weights()


def shared_layer(case):
    """The live layer of a case, made once for all tests that change nothing but its variables."""
    layer, weights = _made(case.name)
    layer.set_weights(weights)
    return layer


@contextlib.contextmanager
def policy(name):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def test_every_public_layer_has_a_case():
    assert len(CASES) == len(cases.CASES), "two cases have the same name"
    covered = {type(case.make()).__name__ for case in cases.CASES}
    for package in (layers, heads):
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            for name, value in vars(module).items():
                if not inspect.isclass(value) or value.__module__ != module.__name__ or name.startswith("_"):
                    continue
                if issubclass(value, keras.layers.Layer) and name not in ABSTRACT:
                    assert name in covered, f"{module.__name__}.{name} has no row in tests/cases.py"


def assert_graph_equals_eager(case, graph, training):
    layer = shared_layer(case)
    eager = call(layer, case.arguments(), training)
    shapes = tf.nest.map_structure(lambda x: tuple(x.shape), eager)
    assert tf.nest.flatten(shapes) == tf.nest.flatten(case.output)
    shared_layer(case)  # statistics are back
    for expected, actual in zip(tf.nest.flatten(eager), tf.nest.flatten(graph(*case.arguments()))):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@every_case
def test_training_has_the_output_shape_and_eager_equals_graph(case):
    layer = shared_layer(case)
    graph = tf.function(lambda *arguments: call(layer, arguments, training=True))
    assert_graph_equals_eager(case, graph, training=True)


@every_case
def test_inference_has_the_output_shape_and_eager_equals_a_graph_for_any_size(case):
    layer, arguments = shared_layer(case), case.arguments()

    def any_size(x):
        channels_only = [None] * (x.shape.rank - 1) + [x.shape[-1]]
        return tf.TensorSpec(channels_only if x.dtype.is_floating else [None] * x.shape.rank, x.dtype)

    signature = tf.nest.map_structure(any_size, arguments)
    if case.name in ("batch_norm_of_axes", "mask_predictor", "kmeans_update"):
        # Axes with parameters and the number of clusters are fixed.
        signature = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in arguments]
        if case.name == "batch_norm_of_axes":
            signature = [tf.TensorSpec([3, None, 2, None], tf.float32)]
    graph = tf.function(lambda *args: call(layer, args), input_signature=signature)
    assert_graph_equals_eager(case, graph, training=False)


@every_case
def test_every_weight_gets_a_finite_gradient(case):
    layer = shared_layer(case)
    arguments = case.arguments()
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(call(layer, arguments, training=True))
        random = np.random.RandomState(1)
        loss = sum(tf.reduce_sum(tf.cast(x, tf.float32) * random.standard_normal(x.shape)) for x in outputs)
    gradients = tape.gradient(loss, layer.trainable_variables)
    for variable, gradient in zip(layer.trainable_variables, gradients):
        assert gradient is not None, variable.name
        assert not isinstance(gradient, tf.IndexedSlices), variable.name
        assert np.isfinite(gradient).all(), variable.name


@every_case
def test_inference_agrees_with_the_norms_unfolded(case, monkeypatch):
    """Folding norms into kernels changes no number: training mode with frozen norms is the plain order of things."""
    layer = live_layer(case)
    folded = tf.nest.flatten(call(layer, case.arguments(), training=False))
    for child in layer._flatten_layers():
        if type(child).__name__ == "BatchNorm":
            child.trainable = False
        if type(child).__name__ in ("DropPath", "Dropout"):
            child.rate = 0.0
    plain = tf.nest.flatten(call(layer, case.arguments(), training=True))
    for expected, actual in zip(plain, folded):
        np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)


@every_case
def test_bfloat16(case):
    full = call(shared_layer(case), case.arguments())
    with policy("mixed_bfloat16"):
        layer = live_layer(case)
        outputs = call(layer, case.arguments())
        trained = call(layer, case.arguments(), training=True)
    for expected, actual in zip(tf.nest.flatten(full), tf.nest.flatten(outputs)):
        actual = tf.cast(actual, tf.float32)
        scale = np.std(expected) + 1e-3
        assert np.mean(np.abs(actual - expected)) < 0.1 * scale
    assert all(np.isfinite(tf.cast(x, tf.float32)).all() for x in tf.nest.flatten(trained))
    assert all(variable.dtype == tf.float32 for variable in layer.variables)


@every_case
def test_save_and_restore(case, tmp_path):
    layer = shared_layer(case)
    expected = tf.nest.flatten(call(layer, case.arguments()))
    prefix = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "ckpt"))
    other = live_layer(case, seed=1)
    tf.train.Checkpoint(layer=other).read(prefix).assert_consumed()
    for before, after in zip(expected, tf.nest.flatten(call(other, case.arguments()))):
        np.testing.assert_array_equal(after, before)
