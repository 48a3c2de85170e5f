import re

import pytest

from deeplab2_kmax import architectures, config
from deeplab2_kmax.backbones import BACKBONES
from tests import shared

TINY = shared.ROOT / "configs/tiny/kmax_synthetic.textproto"


@pytest.fixture
def data(tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"{split}-00000-of-00001.tfrecord").touch()
    return str(tmp_path)


def load(data, *overrides):
    return config.load(TINY, overrides, variables={"DATA": data})


@pytest.mark.parametrize("mode", config.MODES)
def test_complete_config_passes(mode, data):
    assert config.check(load(data), mode) == []


@pytest.mark.parametrize(
    ("mode", "override", "problem"),
    [
        ("train", 'experiment_name: "${NAME}"', "experiment_name: expected a value in place of the placeholder"),
        (
            "train",
            'model_options { initial_checkpoint: "${INIT}" }',
            "model_options.initial_checkpoint: expected a value in place of the placeholder, got '${INIT}'; "
            "fill it in with --override, or --set INIT=...",
        ),
        (
            "train",
            'train_dataset_options { file_pattern: ["/nowhere/a*"] }',
            "train_dataset_options.file_pattern[0]: expected a pattern that matches files, got '/nowhere/a*'",
        ),
        (
            "train_and_eval",
            'eval_dataset_options { file_pattern: ["/nowhere/a*"] }',
            "eval_dataset_options.file_pattern[0]: expected a pattern that matches files",
        ),
        (
            "train",
            "train_dataset_options { decode_groundtruth_label: false }",
            "train_dataset_options.decode_groundtruth_label: expected true",
        ),
        (
            "train",
            "train_dataset_options { thing_id_mask_annotations: false }",
            "train_dataset_options.thing_id_mask_annotations: expected true, got false",
        ),
        (
            "train",
            "trainer_options { steps_per_loop: 3 }",
            "trainer_options.save_summaries_steps: expected a multiple of steps_per_loop (3), got 10",
        ),
    ],
)
def test_missing_of_a_mode_is_refused(mode, override, problem, data):
    loaded = load(data, override)
    with pytest.raises(config.ConfigError, match=re.escape(problem)):
        config.check(loaded, mode)


@pytest.mark.parametrize(
    ("mode", "override"),
    [
        ("eval", "eval_dataset_options { batch_size: 2 }"),
        ("eval", 'train_dataset_options { file_pattern: ["/nowhere/a*"] }'),
        ("eval", 'model_options { initial_checkpoint: "${INIT}" }'),
        ("export", 'experiment_name: "${NAME}" eval_dataset_options { file_pattern: ["/nowhere/a*"] }'),
    ],
)
def test_what_a_mode_does_not_use_is_not_checked(mode, override, data):
    config.check(load(data, override), mode)


def test_batch_is_divided_over_replicas(data):
    with pytest.raises(
        config.ConfigError, match="batch_size: expected a multiple of the 4 replicas, got 2; nearest: 4"
    ):
        config.check(load(data), "train", num_replicas=4)
    config.check(load(data), "train", num_replicas=2)


def test_unset_fields_are_named():
    empty = config.config_pb2.ExperimentOptions()
    with pytest.raises(config.ConfigError) as error:
        config.check(empty, "train")
    for field in ("crop_size", "dataset", "file_pattern"):
        assert f"train_dataset_options.{field}" in str(error.value)
    assert "trainer_options.loss_options" in str(error.value)


def test_training_needs_a_loss(data):
    loaded = load(data)
    loaded.trainer_options.loss_options.Clear()
    loaded.trainer_options.loss_options.matching_ignores_crowd = True
    with pytest.raises(config.ConfigError, match="trainer_options.loss_options: expected at least one loss"):
        config.check(loaded, "train")


def test_unknown_mode_is_refused(data):
    with pytest.raises(config.ConfigError, match="mode: expected one of train, eval"):
        config.check(load(data), "evaluate")


def test_architecture_that_is_not_available_is_refused(data, monkeypatch):
    loaded = load(data)
    monkeypatch.delitem(architectures.ARCHITECTURES, "kmax_deeplab")
    with pytest.raises(config.ConfigError, match="max_deeplab.*not available"):
        config.check(loaded, "train")


def test_backbone_that_is_not_available_is_refused(data, monkeypatch):
    loaded = load(data)
    loaded.model_options.backbone.name = "kmax_moat0_pretrain_224_1k"
    monkeypatch.delitem(BACKBONES, "kmax_moat0_pretrain_224_1k")
    with pytest.raises(config.ConfigError, match="backbone.name: expected a backbone that is available"):
        config.check(loaded, "train")
