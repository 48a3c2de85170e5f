"""Data sets that a class file describes, wherever a data set is named."""

import json

import pytest

from deeplab2_kmax import architectures, config
from deeplab2_kmax.config_text import ConfigError
from deeplab2_kmax.data import datasets, mixture
from deeplab2_kmax.protos import dataset_pb2
from tests import shared

CONTENT = {
    "format": 1,
    "name": "mine",
    "ignore_label": 255,
    "label_divisor": 100,
    "classes": [
        {"id": 0, "name": "road", "color": [1, 2, 3], "thing": False, "eval_id": 7},
        {"id": 1, "name": "car", "color": [4, 5, 6], "thing": True},
    ],
}
TINY = shared.ROOT / "configs" / "tiny" / "kmax_synthetic.textproto"


def write(tmp_path, **changes):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({**CONTENT, **changes}))
    return str(path)


def test_read(tmp_path):
    found = datasets.lookup(write(tmp_path))
    assert found.name == "mine" and found.class_names == ("road", "car") and found.colors == ((1, 2, 3), (4, 5, 6))
    assert found.thing_ids == (1,) and found.stuff_ids == (0,) and found.eval_ids == (7, 1)
    assert found.void_id == 25500 and not found.is_video and not found.has_depth
    assert datasets.lookup(write(tmp_path, is_video=True, name="a film")).is_video  # a changed file is read again


def test_written_files_are_read_back(tmp_path):
    for row in datasets.DATASETS.values():
        if not row.camera_names:
            path = tmp_path / f"{row.name}.json"
            path.write_text(datasets.to_json(row))
            read = datasets.read(path)
            for field in ("class_names", "colors", "thing_ids", "eval_ids", "void_id", "is_video", "has_depth", "name"):
                assert getattr(read, field) == getattr(row, field)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"format": 2}, "expected {"),
        ({"classes": []}, "at least one class"),
        ({"classes": [{"id": 0}]}, r"classes\[0\]: expected id, name, color and thing"),
        ({"classes": [dict(CONTENT["classes"][1])]}, r"classes\[0\]: ids run from 0 without gaps, but this one is 1"),
        ({"classes": [{**CONTENT["classes"][0], "color": [1, 2]}]}, "three numbers"),
        ({"classes": [CONTENT["classes"][0], {**CONTENT["classes"][1], "name": "road"}]}, "'road' comes twice"),
        ({"label_divisor": 10**8}, "no ids of 32 bits"),
        ({"label_divisor": 0}, "no ids of 32 bits"),
        ({"things": []}, "unknown entry 'things'"),
    ],
)
def test_bad_files(changes, said, tmp_path):
    path = write(tmp_path, **changes)
    with pytest.raises(ValueError, match=said) as error:
        datasets.lookup(path)
    assert path in str(error.value)


def test_missing_entries_and_files(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({key: value for key, value in CONTENT.items() if key != "ignore_label"}))
    with pytest.raises(ValueError, match="'ignore_label' is missing"):
        datasets.lookup(str(path))
    with pytest.raises(ValueError, match="cannot be read"):
        datasets.lookup(str(tmp_path / "none.json"))


def test_a_config_may_name_one(tmp_path):
    path = write(tmp_path)
    change = f'train_dataset_options {{ dataset: "{path}" }} eval_dataset_options {{ dataset: "{path}" }}'
    with pytest.raises(
        ConfigError, match="output_channels: expected 2, the classes of train_dataset_options.dataset 'm"
    ):
        config.load(TINY, [change])
    heads = "model_options { max_deeplab { auxiliary_semantic_head { output_channels: 2 } } }"
    slots = "train_dataset_options { max_thing_id: 99 } eval_dataset_options { max_thing_id: 99 }"
    loaded = config.load(TINY, [change, heads, slots])
    assert architectures.dataset_of(loaded) is datasets.lookup(path)
    with pytest.raises(ConfigError, match="train_dataset_options.dataset: expected a class file.*cannot be read"):
        config.load(TINY, ['train_dataset_options { dataset: "nowhere.json" }'])


def test_its_path_says_nothing_about_the_model():
    """DeepLab2 chooses some sizes by the data set's name."""
    assert datasets.kmax_defaults("cityscapes/classes.json") == datasets.kmax_defaults("own")


def test_a_mixture_may_name_one(tmp_path):
    write(tmp_path)
    (tmp_path / "a.tfrecord").write_bytes(b"")
    part = {"dataset": str(tmp_path / "classes.json"), "file_pattern": [str(tmp_path / "a.tfrecord")]}
    options = dataset_pb2.DatasetOptions(mixture=[part])
    found = mixture.sources(options, datasets.lookup("synthetic_panoptic"))
    assert found[0].dataset.name == "mine" and found[0].classes == {255: 255, 0: 0, 1: 6}
