"""Class maps and MOTS instance maps -> STEP's panoptic maps."""

import numpy as np
import pytest

from deeplab2_kmax.data.convert import files, panoptic_png, step_maps
from tests import converters

PERSON, CAR, VOID = 11, 13, 255


def row(values):
    """A map of one line."""
    return np.asarray([values], np.int32)


def test_borders_become_void():
    # Twenty people, of whom the mask of track 4 covers the first two: seven pixels around it are nobody's.
    classes, instances = row([PERSON] * 20), row([2004] * 2 + [0] * 18)
    merged, ids = step_maps.merge(classes, instances)
    assert merged.tolist() == [[PERSON] * 2 + [VOID] * 7 + [PERSON] * 11]
    assert ids.tolist() == [[5] * 2 + [0] * 18]  # counted from 1


def test_only_the_same_class_becomes_void():
    classes = row([PERSON, PERSON, 0, CAR, PERSON])
    merged, ids = step_maps.merge(classes, row([2000, 0, 0, 0, 10000]))
    assert merged.tolist() == [[PERSON, VOID, 0, CAR, VOID]]  # regions to ignore are no instances
    assert ids.tolist() == [[1, 0, 0, 0, 0]]


def test_masks_win_over_classes_and_over_borders():
    # The car's mask covers road, and a pixel of class person beside the person is the car's.
    classes, instances = row([PERSON, PERSON, 0]), row([2001, 1012, 1012])
    merged, ids = step_maps.merge(classes, instances)
    assert merged.tolist() == [[PERSON, CAR, CAR]] and ids.tolist() == [[2, 13, 13]]


def test_the_box_is_square():
    classes, instances = np.full((20, 20), CAR, np.int32), np.zeros((20, 20), np.int32)
    instances[10, 9] = 1000
    merged, _ = step_maps.merge(classes, instances)
    expected = np.full((20, 20), CAR)
    expected[3:18, 2:17] = VOID
    expected[10, 9] = CAR
    np.testing.assert_array_equal(merged, expected)


def test_classes_of_motchallenge():
    classes = row([0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 17, 18, 255])
    merged, ids = step_maps.merge(classes, np.zeros_like(classes), "motchallenge")
    assert merged.tolist() == [[0, 0, 1, VOID, 2, 2, 3, 4, 5, VOID, VOID, 6, VOID]]
    merged, ids = step_maps.merge(row([PERSON, 0]), row([2007, 0]), "motchallenge")
    assert (merged.tolist(), ids.tolist()) == ([[4, 0]], [[8, 0]])


@pytest.mark.parametrize(
    "classes, instances, dataset, message",
    [
        ([33, 0], [0, 0], "kitti", "class map: expected classes 0 to 18 and 255 for void, found 33"),
        ([0, 0], [0, 3001], "kitti", "kind 3"),
        ([0, 0], [0, 1001], "motchallenge", "kind 1"),
        ([0, 0], [0, 2999], "kitti", "track 999"),
        ([0, 0], [0], "kitti", "the class map has [1, 2] pixels, the instance map [1, 1]"),
    ],
)
def test_strange_values(classes, instances, dataset, message):
    with pytest.raises(ValueError) as caught:
        step_maps.merge(row(classes), row(instances), dataset)
    assert message in str(caught.value)


def test_the_program(tmp_path, capsys):
    for name, frame in (("0001", "000000"), ("0002", "000000"), ("0002", "000001")):
        converters.save(tmp_path / "classes" / name / f"{frame}.png", [[PERSON, 0, CAR]])
        converters.save16(tmp_path / "mots" / name / f"{frame}.png", [[2299, 0, 10000]])
    arguments = [
        f"--class_maps={tmp_path / 'classes'}",
        f"--instance_maps={tmp_path / 'mots'}",
        f"--output_dir={tmp_path / 'out'}",
    ]
    assert converters.run(step_maps, *arguments) == 0
    assert "3 maps in" in capsys.readouterr().out
    path = tmp_path / "out" / "0002" / "000001.png"
    assert files.read_map(path, channels=3).tolist() == [[[PERSON, 1, 44], [0, 0, 0], [CAR, 0, 0]]]
    label = panoptic_png.read(str(path), label_divisor=1000, num_classes=19, ignore_label=255)
    assert label.tolist() == [[11300, 0, 13000]]
    (tmp_path / "mots" / "0002" / "000001.png").unlink()
    assert converters.run(step_maps, *arguments) == 2
    assert capsys.readouterr().err.startswith("step_maps: ")
    assert converters.run(step_maps, *arguments[:2], f"--output_dir={tmp_path / 'mots'}") == 2
    assert "holds the input" in capsys.readouterr().err


def test_several_processes_write_the_same(tmp_path):
    for frame in range(3):
        converters.save(tmp_path / "classes" / "0001" / f"{frame:06d}.png", [[PERSON, 0, CAR]])
        converters.save16(tmp_path / "mots" / "0001" / f"{frame:06d}.png", [[2000 + frame, 0, 0]])
    arguments = [f"--class_maps={tmp_path / 'classes'}", f"--instance_maps={tmp_path / 'mots'}"]
    assert converters.run(step_maps, *arguments, f"--output_dir={tmp_path / 'a'}") == 0
    assert converters.run(step_maps, *arguments, f"--output_dir={tmp_path / 'b'}", "--num_processes=2") == 0
    for path in (tmp_path / "a").glob("*/*.png"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
