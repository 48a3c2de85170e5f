"""Mapillary Vistas -> records: categories, void, the test images, compressed labels."""

import numpy as np

from deeplab2_kmax.data import datasets, example
from deeplab2_kmax.data.convert import mapillary_vistas
from tests import converters, image_trees

VISTAS = datasets.lookup("mapillary_vistas")
EXPECTED = [[19002, 19002, 19001, 255000, 255000], [55001, 55001, 27000, 27000, 255000]]


def test_constants_are_those_of_the_descriptor():
    assert (VISTAS.ignore_label, VISTAS.label_divisor) == (255, 1000)
    assert (mapillary_vistas.IGNORE_LABEL, mapillary_vistas.LABEL_DIVISOR) == (255, 1000)
    assert [VISTAS.class_names[class_id] for class_id in (19, 55, 27)] == ["Person", "Car", "Sky"]


def test_records(tmp_path):
    arguments = [*image_trees.mapillary_vistas(tmp_path / "raw"), f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(mapillary_vistas, *arguments) == 0
    for split, folder in (("train", "training"), ("val", "validation")):
        samples = converters.read(tmp_path / "out", split)
        assert [s["image_name"].numpy().decode() for s in samples] == [f"{folder}_{k}" for k in "abc"]
        for sample in samples:
            np.testing.assert_array_equal(sample["label"][..., 0], EXPECTED)
        features = converters.features(tmp_path / "out", split)[0]
        assert features[example.LABEL_FORMAT] == b"zlib"
    assert len(converters.read(tmp_path / "out", "test", label=False)) == 3


def test_first_and_last_category(tmp_path):
    segments = image_trees.panoptic_segments(1, 65, 65)
    segments[2]["iscrowd"] = 0
    arguments = [*image_trees.mapillary_vistas(tmp_path / "raw", segments_info=segments)]
    assert converters.run(mapillary_vistas, *arguments, f"--output_dir={tmp_path / 'out'}") == 0
    label = converters.read(tmp_path / "out", "val")[0]["label"][..., 0].numpy()
    assert label.tolist() == [[2, 2, 1, 255000, 3], [64000, 64000, 64000, 64000, 3]]


def test_bad_input_is_one_line(tmp_path, capsys):
    arguments = [f"--vistas_root={tmp_path}", f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(mapillary_vistas, *arguments) == 2
    assert "holds none of training/images" in capsys.readouterr().err
    image_trees.mapillary_vistas(tmp_path, segments_info=image_trees.panoptic_segments(20, 56, 66))
    assert converters.run(mapillary_vistas, *arguments) == 2
    assert "unknown category 66" in capsys.readouterr().err.splitlines()[-1]
