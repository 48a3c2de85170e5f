"""What every backbone has to do, as functions that the tests of the families call."""

import numpy as np
import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import restore


def count_parameters(backbone):
    """Trainable and other numbers of a backbone."""
    backbone(tf.zeros([1, 33, 33, 3]))
    return tuple(
        sum(int(np.prod(variable.shape)) for variable in variables)
        for variables in (backbone.trainable_variables, backbone.non_trainable_variables)
    )


def randomize(backbone, seed=0):
    """Gives a built backbone lively values: no branch is off, and no signal dies."""
    random = np.random.default_rng(seed)
    for path, variable in sorted(restore.variable_paths(backbone).items()):
        name, shape = path.split("/")[-1], variable.shape
        if name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.8, 1.2, shape))
        elif name in ("beta", "moving_mean", "bias"):
            variable.assign(random.normal(0.0, 0.1, shape))
        else:
            fan_in = np.prod(shape[:2]) if name == "depthwise_kernel" else np.prod(shape[:-1])
            variable.assign(random.normal(0.0, (1.5 / fan_in) ** 0.5, shape))


def check_sizes(backbone):
    """One network takes every size; levels have the sizes, strides and channels it says."""
    call = tf.function(backbone, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for height, width in ((65, 65), (97, 97), (224, 224), (65, 129)):
        pyramid = call(tf.zeros([2, height, width, 3]))
        for kind in ("stage", "res"):
            for level in range(5):
                stride = backbone.strides[level]
                expected = [2, (height - 1) // stride + 1, (width - 1) // stride + 1, backbone.channels[level]]
                assert getattr(pyramid, f"{kind}{level + 1}").shape.as_list() == expected
        assert pyramid.output.shape == pyramid.res5.shape


def check_atrous(build, zero="", side=65):
    """At every output stride the last features are the same where their grids meet.

    build: output stride -> backbone. Variables with `zero` in their paths are zero.
    """
    images = tf.random.stateless_normal([1, side, side, 3], seed=[1, 2])
    values, outputs = {}, {}
    for output_stride in (32, 16, 8, 4):
        backbone = build(output_stride)
        backbone(images)
        variables = restore.variable_paths(backbone)
        if not values:
            randomize(backbone)
            for path, variable in variables.items():
                values[path] = np.zeros(variable.shape) if zero and zero in path else variable.numpy()
        assert values.keys() == variables.keys()
        for path, variable in variables.items():
            variable.assign(values[path])
        assert backbone.strides[-1] == output_stride
        outputs[output_stride] = np.asarray(tf.function(backbone)(images).res5)
    finest = outputs[4]
    assert finest.std() > 1e-2
    for output_stride in (8, 16, 32):
        step = output_stride // 4
        expected = finest[:, ::step, ::step]
        np.testing.assert_allclose(outputs[output_stride], expected, atol=1e-4 * finest.std(), rtol=0)


def check_training(build, rounding=0.05):
    """Finite gradients reach every variable, in float32 and bfloat16, and eager mode gives what a graph gives.

    In bfloat16 up to `rounding` standard deviations, as the two round at other places.
    """
    images = tf.random.stateless_normal([2, 33, 33, 3], seed=[3, 4])
    for policy, dtype in (("float32", tf.float32), ("mixed_bfloat16", tf.bfloat16)):
        before = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy(policy)
        try:
            backbone = build()
            backbone(images)
        finally:
            keras.mixed_precision.set_global_policy(before)
        randomize(backbone)
        backbone(images, training=True)  # brings batch norms of momentum 0 to the signals
        eager, graph = backbone(images), tf.function(backbone)(images)
        for left, right in zip(eager, graph):
            assert left.dtype == dtype
            left, right = (tf.cast(value, tf.float32) for value in (left, right))
            # Typical rather than largest difference.
            difference = tf.sqrt(tf.reduce_mean(tf.square(left - right)))
            assert difference <= (1e-5 if dtype == tf.float32 else rounding) * tf.math.reduce_std(left)
        variables = backbone.trainable_variables

        @tf.function
        def gradients(backbone=backbone, variables=variables):
            with tf.GradientTape() as tape:
                # All levels, squared: behind a batch norm the plain sum has no gradient.
                levels = backbone(images, training=True)[5:]
                loss = tf.add_n([tf.reduce_sum(tf.square(tf.cast(level, tf.float32))) for level in levels])
            return tape.gradient(loss, variables)

        for variable, gradient in zip(variables, gradients()):
            assert gradient is not None, variable.name
            assert np.isfinite(gradient).all() and np.any(gradient), variable.name


def check_every_variable_counts(backbone):
    """Changing any variable changes the features, except what adds to all keys alike: softmax does not see it.

    The backbone's batch norms should have momentum 0: after one training call they keep every signal at a scale where
    small changes show, and attention from choosing single keys.
    """
    images = tf.random.stateless_normal([1, 65, 65, 3], seed=[5, 6])
    backbone(images)
    randomize(backbone)
    backbone(images, training=True)
    run = tf.function(lambda: tf.nest.flatten(backbone(images)))
    before = [feature.numpy() for feature in run()]
    for path, variable in restore.variable_paths(backbone).items():
        if path.endswith(("similarity_norm/beta", "similarity_norm/moving_mean", "attention/key_bias")):
            continue
        kept = variable.numpy()
        noise = np.random.default_rng(1).uniform(0.5, 1.5, kept.shape)
        variable.assign(kept * noise if "moving_variance" in path else kept + noise)
        changed = max(np.abs(feature - old).max() / old.std() for feature, old in zip(run(), before))
        assert changed > 1e-4, path
        variable.assign(kept)
