"""Every data set has a base, which resolves, passes the checks, and names a data set and its shards."""

import pytest

from deeplab2_kmax import config
from deeplab2_kmax.data import datasets
from tests.configs import resolved

BASES = resolved.CONFIGS / "_base_" / "datasets"
SPLITS = {"nyud_v2": "test", "motchallenge_step": "train"}  # evaluated where there is no val with labels


def test_every_data_set_has_a_base():
    assert {path.stem for path in BASES.glob("*.textproto")} == set(datasets.DATASETS)


@pytest.mark.parametrize("name", sorted(path.stem for path in BASES.glob("*.textproto")))
def test_base_makes_an_experiment_of_its_data_set(name, tmp_path):
    """A tiny kMaX-DeepLab on it, its class count from the data set."""
    path = tmp_path / "config.textproto"
    classes = datasets.DATASETS[name].num_classes
    path.write_text(
        f'base: "{resolved.CONFIGS / "tiny" / "kmax_synthetic.textproto"}"\nbase: "{BASES / name}.textproto"\n'
        f"model_options {{ max_deeplab {{ auxiliary_semantic_head {{ output_channels: {classes} }} }} }}\n"
    )
    options = config.load(path)
    assert config.check(options) == []
    train, evaluation = options.train_dataset_options, options.eval_dataset_options
    assert train.dataset == evaluation.dataset == name
    assert list(train.file_pattern) == ["${DATA}/train-*.tfrecord"]
    assert list(evaluation.file_pattern) == [f"${{DATA}}/{SPLITS.get(name, 'val')}-*.tfrecord"]
