"""Checkpoints of a run: leftovers, other models, numbers that are not finite."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.protos import config_pb2
from trainer import checkpointing


def make(folder, value=1.0):
    step = tf.Variable(0, dtype=tf.int64)
    weight = tf.Variable([value, value], name="kernel")
    checkpoint = tf.train.Checkpoint(weight=weight, global_step=step)
    manager = checkpointing.Manager(checkpoint, str(folder), max_to_keep=2, step_counter=step, checkpoint_interval=10)
    return manager, step, weight


def save(manager, step, number, **kwargs):
    step.assign(number)
    return manager.save(checkpoint_number=number, **kwargs)


def test_interval_goes_on_after_resuming(tmp_path):
    manager, step, _ = make(tmp_path)
    assert save(manager, step, 10)
    manager, step, _ = make(tmp_path)
    assert save(manager, step, 10, check_interval=False) is None  # it is there
    assert save(manager, step, 15) is None
    assert save(manager, step, 20)
    assert sorted(path.name for path in tmp_path.glob("*.index")) == ["ckpt-10.index", "ckpt-20.index"]


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    manager, step, weight = make(tmp_path)
    save(manager, step, 10)
    weight.assign([1.0, np.inf])
    with pytest.raises(
        checkpointing.NonFiniteWeights, match=r"After step 20, 1 variables are not finite, for example kernel.*ckpt-10"
    ):
        save(manager, step, 20, check_interval=False)
    assert not list(tmp_path.glob("ckpt-20*"))


def test_leftovers_of_a_kill(tmp_path):
    manager, step, _ = make(tmp_path)
    save(manager, step, 10)
    (tmp_path / "ckpt-20_temp").mkdir()
    (tmp_path / "ckpt-20_temp" / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"x")
    (tmp_path / "ckpt-20.data-00000-of-00001").write_bytes(b"x")  # without an index
    checkpointing.clean(tmp_path)
    assert not (tmp_path / "ckpt-20_temp").exists()
    assert checkpointing.newest(tmp_path) == str(tmp_path / "ckpt-10")


def test_copied_checkpoint_counts(tmp_path):
    manager, step, weight = make(tmp_path / "a", 3.0)
    save(manager, step, 150)
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a").glob("ckpt-*"):
        path.rename(tmp_path / "b" / path.name)
    checkpointing.clean(tmp_path / "b")
    assert tf.train.latest_checkpoint(str(tmp_path / "b")) == str(tmp_path / "b" / "ckpt-150")
    other, _, other_weight = make(tmp_path / "b", 0.0)
    checkpointing.restore(other.checkpoint, checkpointing.newest(tmp_path / "b"), whole=True)
    assert other_weight.numpy().tolist() == [3.0, 3.0]


def test_nothing_there(tmp_path):
    assert checkpointing.newest(tmp_path / "absent") is None


def test_damaged_checkpoint(tmp_path):
    manager, step, _ = make(tmp_path)
    prefix = save(manager, step, 10)
    data = tmp_path / "ckpt-10.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:3])
    with pytest.raises(ValueError, match="ckpt-10 cannot be restored.*delete its files"):
        checkpointing.restore(manager.checkpoint, prefix, whole=True)


def test_checkpoint_that_lacks_something(tmp_path):
    manager, step, weight = make(tmp_path)
    prefix = save(manager, step, 10)
    wanted = tf.train.Checkpoint(weight=weight, global_step=step, more=tf.Variable(1.0))
    with pytest.raises(ValueError, match="ckpt-10 does not fit this config"):
        checkpointing.restore(wanted, prefix, whole=False)


def test_config_of_another_model(tmp_path):
    config = config_pb2.ExperimentOptions(experiment_name="x")
    config.model_options.backbone.name = "kmax_resnet50"
    config.trainer_options.solver_options.base_learning_rate = 0.5
    assert checkpointing.check_config(config, tmp_path) == []
    checkpointing.write_config(config, tmp_path)
    manager, step, _ = make(tmp_path)
    save(manager, step, 10)
    assert checkpointing.check_config(config, tmp_path) == []
    config.trainer_options.solver_options.base_learning_rate = 0.25
    config.model_options.initial_checkpoint = "elsewhere"
    assert checkpointing.check_config(config, tmp_path) == [
        '+ initial_checkpoint: "elsewhere"',
        "- base_learning_rate: 0.5",
        "+ base_learning_rate: 0.25",
    ]
    config.model_options.backbone.name = "kmax_axial_resnet50"
    with pytest.raises(ValueError, match="another model: .*kmax_axial_resnet50.*Use another experiment_name"):
        checkpointing.check_config(config, tmp_path)
