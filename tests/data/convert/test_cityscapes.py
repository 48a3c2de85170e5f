"""Cityscapes -> records: panoptic labels, groups, classes alone, the test split, complete splits."""

import numpy as np
import pytest

from deeplab2_kmax.data import datasets, example
from deeplab2_kmax.data.convert import cityscapes
from tests import converters, image_trees

CITYSCAPES = datasets.lookup("cityscapes_panoptic")
NAMES = [b"aachen_000000_000019", b"aachen_000001_000019", b"bochum_000000_000313"]  # by city, sequence, frame
EXPECTED = [[11002, 11002, 11001, 255000, 255000], [13001, 13001, 0, 0, 255000]]


def test_constants_are_those_of_the_descriptor():
    assert (CITYSCAPES.ignore_label, CITYSCAPES.label_divisor) == (cityscapes.IGNORE_LABEL, cityscapes.LABEL_DIVISOR)
    sizes = {f"{split}_fine": count for split, count in cityscapes.NUM_IMAGES.items()}
    assert sizes == {name: size for name, size in CITYSCAPES.split_sizes.items() if name != "trainval_fine"}


def test_panoptic_labels(tmp_path):
    arguments = [*image_trees.cityscapes(tmp_path / "raw"), f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(cityscapes, *arguments) == 0
    for split in ("train", "val"):
        samples = converters.read(tmp_path / "out", split)
        assert [s["image_name"].numpy() for s in samples] == NAMES
        assert [int(s["image"][0, 0, 0]) for s in samples] == [52, 51, 50]  # each image its own
        for sample in samples:
            np.testing.assert_array_equal(sample["label"][..., 0], EXPECTED)
    samples = converters.read(tmp_path / "out", "test", label=False)
    assert [s["image_name"].numpy() for s in samples] == NAMES


def test_groups_may_keep_their_class(tmp_path):
    arguments = [*image_trees.cityscapes(tmp_path / "raw", splits=["val"]), f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(cityscapes, *arguments, "--notreat_crowd_as_ignore") == 0
    label = converters.read(tmp_path / "out", "val")[0]["label"][..., 0].numpy()
    assert label.tolist() == [[11002, 11002, 11001, 255000, 11000], [13001, 13001, 0, 0, 11000]]


def test_classes_alone_are_the_png_itself(tmp_path):
    root = tmp_path / "raw"
    arguments = [*image_trees.cityscapes(root, splits=["val", "test"]), f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(cityscapes, *arguments, "--nocreate_panoptic_data") == 0
    path = root / "gtFine" / "val" / "aachen" / "aachen_000000_000019_gtFine_labelTrainIds.png"
    features = converters.features(tmp_path / "out", "val")[0]
    assert features[example.LABEL] == path.read_bytes()
    assert features[example.LABEL_FORMAT] == b"png"
    assert example.LABEL not in converters.features(tmp_path / "out", "test")[0]
    label = converters.read(tmp_path / "out", "val", label_divisor=1000)[0]["label"][..., 0].numpy()
    assert label.tolist() == [[0, 7000, 255000, 255000, 11000], [13000, 13000, 0, 0, 11000]]


def test_a_split_is_complete_unless_a_part_is_meant(tmp_path, capsys):
    arguments = image_trees.cityscapes(tmp_path / "raw", splits=["val"])
    arguments.remove("--nocheck_counts")
    assert converters.run(cityscapes, *arguments, f"--output_dir={tmp_path / 'out'}") == 2
    error = capsys.readouterr().err
    assert "holds 3 images, but the split has 500" in error and "--nocheck_counts" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lost", "flags", "message"),
    [
        ("gtFine/cityscapes_panoptic_val_trainId.json", [], "cityscapes_panoptic_val_trainId.json"),
        ("leftImg8bit/val/bochum/bochum_000000_000313_leftImg8bit.png", [], "1 images are not in"),
        ("gtFine/cityscapes_panoptic_val_trainId/bochum_000000_000313_gtFine_panoptic.png", [], "there is no file"),
        (
            "gtFine/val/bochum/bochum_000000_000313_gtFine_labelTrainIds.png",
            ["--nocreate_panoptic_data"],
            "there is no file",
        ),
    ],
)
def test_missing_files_are_one_line(tmp_path, capsys, lost, flags, message):
    arguments = [*image_trees.cityscapes(tmp_path / "raw", splits=["val"]), f"--output_dir={tmp_path / 'out'}", *flags]
    (tmp_path / "raw" / lost).unlink()
    assert converters.run(cityscapes, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]


def test_an_image_without_annotation(tmp_path, capsys):
    arguments = [*image_trees.cityscapes(tmp_path / "raw", splits=["val"]), f"--output_dir={tmp_path / 'out'}"]
    extra = tmp_path / "raw" / "leftImg8bit" / "val" / "ulm" / "ulm_000000_000019_leftImg8bit.png"
    converters.save(extra, image_trees.picture(1))
    assert converters.run(cityscapes, *arguments) == 2
    assert "does not annotate 1 images" in capsys.readouterr().err
    # Nothing of the panoptic files is needed for classes alone, but every image needs its PNG.
    assert converters.run(cityscapes, *arguments, "--nocreate_panoptic_data") == 2
    assert "ulm_000000_000019_gtFine_labelTrainIds.png" in capsys.readouterr().err


def test_a_png_of_classes_must_fit(tmp_path, capsys):
    arguments = [*image_trees.cityscapes(tmp_path / "raw", splits=["val"]), f"--output_dir={tmp_path / 'out'}"]
    path = tmp_path / "raw" / "gtFine" / "val" / "bochum" / "bochum_000000_000313_gtFine_labelTrainIds.png"
    converters.save(path, np.zeros((2, 4)))
    assert converters.run(cityscapes, *arguments, "--nocreate_panoptic_data") == 2
    assert "expected a PNG of one channel, 2x5, found PNG of mode L, 2x4" in capsys.readouterr().err
