"""ADE20K -> records: categories, void, areas that are not checked."""

import numpy as np

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import ade20k
from tests import converters, image_trees

ADE20K = datasets.lookup("ade20k_panoptic")
EXPECTED = [[13002, 13002, 13001, 0, 0], [21001, 21001, 3000, 3000, 0]]  # person 13, car 21, sky 3


def test_constants_are_those_of_the_descriptor():
    assert (ADE20K.ignore_label, ADE20K.label_divisor) == (ade20k.IGNORE_LABEL, ade20k.LABEL_DIVISOR)
    names = [ADE20K.class_names[class_id].split(",")[0] for class_id in (13, 21, 3)]
    assert names == ["person", "car", "sky"]


def test_records(tmp_path):
    arguments = [*image_trees.ade20k(tmp_path / "raw"), f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(ade20k, *arguments) == 0  # areas in the JSON are wrong
    for split in ("train", "val"):
        samples = converters.read(tmp_path / "out", split)
        assert [s["image_name"].numpy().decode() for s in samples] == [f"ADE_{split}_0000000{k}" for k in (1, 2, 3)]
        for sample in samples:
            np.testing.assert_array_equal(sample["label"][..., 0], EXPECTED)


def test_category_255_is_void(tmp_path):
    segments = image_trees.panoptic_segments(0, 149, 255)
    del segments[2]  # the crowd: walls have none
    arguments = [*image_trees.ade20k(tmp_path / "raw", segments_info=segments), f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(ade20k, *arguments) == 0
    label = converters.read(tmp_path / "out", "val")[0]["label"][..., 0].numpy()
    assert ADE20K.class_names[150].startswith("flag") and 150 in ADE20K.thing_ids and 1 in ADE20K.stuff_ids
    assert label.tolist() == [[1000, 1000, 1000, 0, 0], [150001, 150001, 0, 0, 0]]


def test_bad_input_is_one_line(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    arguments = [f"--ade20k_root={tmp_path}", f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(ade20k, *arguments) == 2
    assert "holds neither images/training nor images/validation" in capsys.readouterr().err
    image_trees.ade20k(tmp_path, segments_info=image_trees.panoptic_segments(12, 20, 150))
    assert converters.run(ade20k, *arguments) == 2
    assert "unknown category 150" in capsys.readouterr().err.splitlines()[-1]
