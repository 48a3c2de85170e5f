"""The main job in one go: records -> training -> checkpoints -> evaluation, and what it leaves behind."""

import json

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.protos import config_pb2
from tests.trainer import tiny
from trainer import experiment

STEPS = 30
OVERRIDE = f"""
trainer_options {{
  save_checkpoints_steps: 10 steps_per_loop: 10 save_summaries_steps: 10
  solver_options {{ training_number_of_steps: {STEPS} base_learning_rate: 0.01 ema_decay: 0 }}
}}
evaluator_options {{ eval_interval: 100 }}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, its config and the values of its evaluation."""
    folder = tmp_path_factory.mktemp("end_to_end")
    tiny.write_records(folder / "data")
    config = tiny.load(folder, OVERRIDE)
    values = experiment.run(config, "train_and_eval", folder / "runs")
    return folder / "runs" / "tiny", config, values


def test_losses_fall(finished):
    folder, _, _ = finished
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["mode"] == "train"]
    assert [line["step"] for line in train] == [10, 20, 30]
    assert train[-1]["losses/train_total_loss"] < 0.95 * train[0]["losses/train_total_loss"]
    assert train[-1]["losses/train_semantic_loss"] < train[0]["losses/train_semantic_loss"]
    names = set(train[0])
    assert {"learning_rate", "steps_per_second", "gradient_norm"} <= names
    assert {"losses/train_aux_0pq_style_loss_class_term", "losses/train_mask_id_cross_entropy_loss"} <= names
    terms = sum(value for name, value in train[0].items() if name.startswith("losses/") and "total" not in name)
    assert train[0]["losses/train_total_loss"] == pytest.approx(terms, rel=1e-4)


def test_evaluation(finished):
    folder, _, values = finished
    assert 0.0 <= values["evaluation/pq/PQ"] <= 1.0
    assert np.isfinite(values["losses/eval_total_loss"])
    assert not [name for name in values if "aux" in name]
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last.pop("mode") == "eval"
    assert last.pop("step") == STEPS
    assert last == pytest.approx(values)


def test_what_the_folder_holds(finished):
    folder, config, _ = finished
    text = (folder / "config.textproto").read_text()
    assert text_format.Parse(text, config_pb2.ExperimentOptions()) == config
    assert sorted(path.name for path in folder.glob("ckpt-*.index")) == [
        "ckpt-10.index",
        "ckpt-20.index",
        "ckpt-30.index",
    ]
    pictures = {path.name.removeprefix("000000_") for path in (folder / "vis").iterdir()}
    assert {"image.png", "panoptic_prediction.png", "panoptic_label.png", "clusters_0.png"} <= pictures


def test_tensorboard(finished):
    folder, _, _ = finished
    found = {}
    for part in ("train", "eval"):
        (events,) = (folder / part).glob("events*")
        found[part] = {
            value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value
        }
    assert {"losses/train_total_loss", "learning_rate", "steps_per_second"} <= found["train"]
    assert {"losses/eval_total_loss", "evaluation/pq/PQ", "evaluation/iou/IoU"} <= found["eval"]
    assert {"image/0", "panoptic_label/0", "panoptic_prediction/0", "clusters_0/0", "clusters_2/0"} <= found["eval"]


def test_evaluating_the_checkpoint_gives_the_same(finished):
    folder, config, values = finished
    assert experiment.run(config, "eval", folder.parent) == pytest.approx(values, rel=1e-4, abs=1e-6)


def test_finished_run_does_nothing(finished):
    folder, config, _ = finished
    before = (folder / "metrics.jsonl").read_text()
    assert experiment.run(config, "train", folder.parent) == {}
    assert (folder / "metrics.jsonl").read_text() == before
