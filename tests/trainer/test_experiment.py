"""Whole runs of a tiny experiment: logs, files, stopping, resuming after a kill."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import architectures
from deeplab2_kmax.protos import config_pb2
from tests import replicas
from tests.trainer import tiny
from trainer import checkpointing, experiment

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Trains in a process of its own: folder, network, and what happens when the checkpoint of step 10 is there. "kill": the
# process is killed; "copy": the folder is copied to one named killed, which is what a kill would have left; or nothing.
SCRIPT = """
import os, pathlib, shutil, signal, sys
folder, network, then = pathlib.Path(sys.argv[1]), *sys.argv[2:]
from tests.trainer import tiny
from trainer import checkpointing, experiment

save = checkpointing.Manager.save
def save_and(self, *args, **kwargs):
    path = save(self, *args, **kwargs)
    if path and path.endswith("-10"):
        if then == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif then == "copy":
            shutil.copytree(folder, folder.with_name("killed"))
    return path
checkpointing.Manager.save = save_and
if network == "convolutions":
    tiny.install_convolutions()
config = tiny.load(folder.parent, "trainer_options { save_summaries_steps: 1000 }", deterministic=True)
experiment.run(config, "train", folder)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_records(folder / "data")
    return folder


def start(folder, network, then=""):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), network, then],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def variables(run_folder):
    reader = tf.train.load_checkpoint(str(run_folder / "tiny" / "ckpt-20"))
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    return {name: reader.get_tensor(name) for name in names if "save_counter" not in name}


@pytest.mark.parametrize(
    "network, really",
    [
        pytest.param("convolutions", False, id="convolutions"),
        pytest.param("convolutions", True, id="convolutions-really", marks=pytest.mark.slow),
        pytest.param("kmax", True, id="kmax-really", marks=pytest.mark.slow),
    ],
)
def test_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, network, really):
    folder = tmp_path
    tiny.write_records(folder / "data")
    straight = start(folder / "straight", network, "" if really else "copy")
    if really:
        killed = start(folder / "killed", network, "kill")
        killed_log = killed.communicate()[0]
        assert killed.returncode == -signal.SIGKILL, killed_log
    straight_log = straight.communicate()[0]
    assert straight.returncode == 0, straight_log
    assert "ckpt-10" in checkpointing.newest(folder / "killed" / "tiny")
    (folder / "killed" / "tiny" / "ckpt-15_temp").mkdir()  # as a kill while saving leaves it
    resumed = start(folder / "killed", network)
    resumed_log = resumed.communicate()[0]
    assert resumed.returncode == 0, resumed_log
    assert "goes on from" in resumed_log and "ckpt-10" in resumed_log
    expected, found = variables(folder / "straight"), variables(folder / "killed")
    assert set(found) == set(expected)
    groups = {name.split("/")[0] for name in expected}
    assert groups == {"model", "optimizer", "averages", "global_step"}
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert not (folder / "killed" / "tiny" / "ckpt-15_temp").exists()


def test_batches_after_resuming_are_those_of_one_run(folder):
    config = tiny.load(folder)
    dataset = architectures.dataset_of(config)
    whole = list(experiment._training_data(config, dataset, start_batch=0)().take(4))
    later = list(experiment._training_data(config, dataset, start_batch=2)().take(2))
    for expected, found in zip(whole[2:], later):
        assert expected["sample_id"].numpy().tolist() == found["sample_id"].numpy().tolist()
        np.testing.assert_array_equal(expected["image"], found["image"])
    ids = list(experiment._sample_ids(config, dataset, config.train_dataset_options, 2))
    assert ids == [value.decode() for value in whole[2]["sample_id"].numpy()]


def test_a_record_that_is_broken_in_the_middle_is_named(tmp_path, monkeypatch):
    tiny.write_records(tmp_path / "data")
    config = tiny.load(tmp_path, "trainer_options { solver_options { training_number_of_steps: 4 } }")
    path = tmp_path / "data/train-00000-of-00001.tfrecord"
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    broken = tf.train.Example.FromString(records[2])  # not one of those that are looked at before the start
    broken.features.feature["image/encoded"].bytes_list.value[0] = b"no picture"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, record in enumerate(records):
            writer.write(broken.SerializeToString() if number == 2 else record)
    row = architectures.ARCHITECTURES["kmax_deeplab"]
    monkeypatch.setitem(architectures.ARCHITECTURES, "kmax_deeplab", row)  # put back afterwards
    tiny.install_convolutions()
    with pytest.raises(ValueError, match=f"^{path}, record 2 train2.png image/encoded is not a readable JPEG or PNG$"):
        experiment.run(config, "train", tmp_path)


def test_evaluating_without_a_checkpoint(folder, tmp_path):
    with pytest.raises(ValueError, match="There is no checkpoint in .*nothing to evaluate"):
        experiment.run(tiny.load(folder), "eval", tmp_path)
    assert not list(tmp_path.iterdir())


def test_checkpoint_of_another_model(folder, tmp_path):
    config = tiny.load(folder)
    other = config_pb2.ExperimentOptions()
    other.CopyFrom(config)
    other.model_options.max_deeplab.kmax.num_mask_slots = 9
    checkpointing.write_config(other, tmp_path / "tiny")
    weight = tf.train.Checkpoint(weight=tf.Variable(1.0))
    weight.write(str(tmp_path / "tiny" / "ckpt-5"))
    with pytest.raises(ValueError, match="checkpoints of another model: - num_mask_slots: 9"):
        experiment.run(config, "train", tmp_path)


def test_unknown_mode(folder, tmp_path):
    with pytest.raises(ValueError, match="mode must be one of train, eval"):
        experiment.run(tiny.load(folder), "test", tmp_path)


def test_batch_that_replicas_cannot_share(folder, tmp_path):
    strategy = replicas.two()
    config = tiny.load(folder, "train_dataset_options { batch_size: 3 }")
    with pytest.raises(ValueError, match="train_dataset_options.batch_size"):
        experiment.run(config, "train", tmp_path, strategy=strategy)


@pytest.mark.slow
def test_mirrored_run_with_evaluation(folder, tmp_path):
    strategy = replicas.two()
    config = tiny.load(
        folder,
        "trainer_options { steps_per_loop: 1 save_summaries_steps: 1 solver_options { training_number_of_steps: 1 "
        "warmup_steps: 0 gradient_accumulation_steps: 2 } } evaluator_options { eval_interval: 1 }",
    )
    values = experiment.run(config, "train_and_eval", tmp_path, strategy=strategy)
    truths = values["evaluation/pq/TP"] + values["evaluation/pq/FN"]
    assert truths == 3 * 4  # two stuff regions and two things in each of three images, no image twice
    lines = [json.loads(line) for line in (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["mode"]) for line in lines] == [(1, "train"), (1, "eval")]
    assert np.isfinite(lines[0]["losses/train_total_loss"])
