"""COCONut -> records: one split whose images lie in several folders."""

import json

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import coco, coconut
from tests import converters, image_trees

COCONUT = datasets.lookup("coconut_panoptic")
EXPECTED = image_trees.panoptic_label(1, 17, 120, divisor=256, ignore=0)  # person, dog, sky


def convert(tmp_path, *flags, change=None, **changes):
    arguments = image_trees.coconut(tmp_path / "raw", **changes)
    if change:
        path = tmp_path / "raw" / "coconut_b.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return converters.run(coconut, *arguments, f"--output_dir={tmp_path / 'out'}", *flags)


def test_constants_are_those_of_the_descriptor():
    assert (COCONUT.ignore_label, COCONUT.label_divisor) == (coco.IGNORE_LABEL, coco.LABEL_DIVISOR)
    assert COCONUT.class_names == datasets.lookup("coco_panoptic").class_names


def test_records(tmp_path):
    assert convert(tmp_path) == 0
    samples = converters.read(tmp_path / "out", "train_b")
    names = [s["image_name"].numpy() for s in samples]
    assert names == [b"000000000009", b"000000000025", b"objects365_v2_00000001"]  # the bare image is left out
    assert [int(s["image"][0, 0, 0]) for s in samples] == [90, 92, 99]  # from all three folders
    for sample in samples:
        np.testing.assert_array_equal(sample["label"][..., 0], EXPECTED)


def test_areas_may_be_wrong_on_request(tmp_path, capsys):
    segments = image_trees.panoptic_segments(1, 18, 187, area=5)
    assert convert(tmp_path, segments_info=segments) == 2
    assert "segment 70000 has 1 pixels, but the JSON says 5" in capsys.readouterr().err
    assert convert(tmp_path, "--nocheck_area", segments_info=segments) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["images"].pop(), "image_id 1 of objects365_v2_00000001.png is not in `images`"),
        (lambda content: content.pop("images"), "expected a list `images`"),
        (lambda content: content["images"][0].update(file_name="../9.jpg"), "'../9.jpg' is not a file name below"),
        (lambda content: content["images"][0].update(file_name="/etc/9.jpg"), "'/etc/9.jpg' is not a file name below"),
        (lambda content: content["images"][0].update(file_name="8.jpg"), "found it in 0"),
        (lambda content: content["images"][0].update(id=25, file_name="000000000009.jpg"), "image_id 9 of"),
        (lambda content: content["annotations"].append(content["annotations"][0]), "annotated twice"),
        (lambda content: content["annotations"][0].update(file_name="../x.png"), "not a plain file name"),
    ],
)
def test_bad_annotations_are_one_line(tmp_path, capsys, change, message):
    assert convert(tmp_path, change=change) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]


def test_an_image_in_two_folders(tmp_path, capsys):
    converters.save(tmp_path / "raw" / "coco" / "unlabeled2017" / "000000000009.jpg", image_trees.picture(1))
    assert convert(tmp_path) == 2
    assert "found it in 2" in capsys.readouterr().err
