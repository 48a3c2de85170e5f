"""Optimizers against the reference and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.protos import trainer_pb2
from tests import shared
from trainer import optimizers

SOLVER_FIELDS = {field.name for field in trainer_pb2.SolverOptions.DESCRIPTOR.fields}


@pytest.mark.parametrize("name", ["adamw", "adamw_clipped", "adam", "sgd"])
@pytest.mark.parametrize("compiled", [False, True])
def test_reference_steps(name, compiled):
    manifest, arrays = shared.case("adamw_step")
    settings = manifest["settings"][name]
    solver = trainer_pb2.SolverOptions(**{key: value for key, value in settings.items() if key in SOLVER_FIELDS})
    names = [key.removeprefix("var/") for key in arrays if key.startswith("var/")]
    variables = [tf.Variable(arrays[f"var/{key}"], name=key.replace(".", "/")) for key in names]
    optimizer = optimizers.build(solver, variables)

    def step(gradients):
        if solver.use_gradient_clipping:
            gradients = optimizers.clip(gradients, tf.linalg.global_norm(gradients), solver.clip_gradient_norm)
        optimizer.apply_gradients(zip(gradients, variables))

    run = tf.function(step) if compiled else step
    for index in range(arrays[f"grad/{names[0]}"].shape[0]):
        run([tf.constant(arrays[f"grad/{key}"][index]) for key in names])
        for key, variable in zip(names, variables):
            np.testing.assert_allclose(variable.numpy(), arrays[f"{name}/{key}"][index], rtol=1e-5, atol=1e-7)


def test_backbone_rate_and_decay_by_hand():
    solver = trainer_pb2.SolverOptions(
        optimizer="adamw",
        base_learning_rate=0.1,
        poly_learning_power=0.0,
        adamw_weight_decay=0.5,
        backbone_learning_rate_multiplier=0.1,
    )
    backbone = tf.Variable([2.0], name="stem/kernel")
    head = tf.Variable([2.0], name="head/kernel")
    bias = tf.Variable([2.0], name="head/bias")
    optimizer = optimizers.build(solver, [backbone, head, bias], [backbone])
    optimizer.apply_gradients([(tf.constant([3.0]), variable) for variable in (backbone, head, bias)])
    # The first Adam step is the learning rate; the decay before it is rate * 0.5 * 2.
    np.testing.assert_allclose(backbone.numpy(), [2 - 0.01 - 0.01], rtol=1e-6)
    np.testing.assert_allclose(head.numpy(), [2 - 0.1 - 0.1], rtol=1e-6)
    np.testing.assert_allclose(bias.numpy(), [2 - 0.1], rtol=1e-6)


def test_table():
    solver = trainer_pb2.SolverOptions(optimizer="adamw", backbone_learning_rate_multiplier=0.1)
    backbone = tf.Variable(tf.zeros([3, 3, 1, 2]), name="stem/depthwise_kernel")
    gamma = tf.Variable(tf.zeros([2]), name="head/gamma")
    rows = optimizers.table(solver, [("stem/kernel", backbone), ("head/gamma", gamma)], [backbone])
    assert [tuple(row)[:3] for row in rows] == [("stem/kernel", (3, 3, 1, 2), True), ("head/gamma", (2,), False)]
    np.testing.assert_allclose([row.learning_rate_factor for row in rows], [0.1, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    "name, decayed",
    [("a/kernel", True), ("a/qkv_kernel", True), ("a/depthwise_kernel", True), ("a/weight", True), ("a/bias", False)]
    + [(f"a/{name}", False) for name in ("gamma", "beta", "embeddings", "cluster_centers", "layer_scale")],
)
def test_decayed_names(name, decayed):
    assert optimizers.is_decayed(tf.Variable(0.0, name=name)) is decayed


def test_l2_loss():
    kernel = tf.Variable([1.0, 2.0], name="stem/kernel")
    gamma = tf.Variable([9.0], name="stem/gamma")
    assert float(optimizers.l2_loss(0.1, [kernel, gamma])) == pytest.approx(0.1 / 2 * 5)


def test_state_is_restored(tmp_path):
    solver = trainer_pb2.SolverOptions(optimizer="adam")

    def make():
        variable = tf.Variable([1.0, -1.0], name="kernel")
        return variable, optimizers.build(solver, [variable])

    variable, optimizer = make()
    gradients = [tf.constant([0.3, -0.1]), tf.constant([0.2, 0.4])]
    optimizer.apply_gradients([(gradients[0], variable)])
    path = tf.train.Checkpoint(variable=variable, optimizer=optimizer).write(str(tmp_path / "state"))
    optimizer.apply_gradients([(gradients[1], variable)])
    other, other_optimizer = make()
    status = tf.train.Checkpoint(variable=other, optimizer=other_optimizer).read(path)
    status.assert_existing_objects_matched()
    other_optimizer.apply_gradients([(gradients[1], other)])
    assert other.numpy().tolist() == variable.numpy().tolist()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"optimizer": "adamv"}, "Unknown optimizer 'adamv'. Did you mean"),
        ({"use_gradient_clipping": True, "clip_gradient_norm": 0.0}, "clip_gradient_norm must be positive"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        optimizers.build(trainer_pb2.SolverOptions(**options), [tf.Variable(0.0)])
