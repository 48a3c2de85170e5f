"""Data set descriptors against the published facts."""

import csv

import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.datasets import DATASETS
from tests import shared

# Name -> classes, ignore label, label divisor, things, video, depth.
FACTS = {
    "cityscapes_panoptic": (19, 255, 1000, range(11, 19), False, False),
    "kitti_step": (19, 255, 1000, (11, 13), True, False),
    "motchallenge_step": (7, 255, 1000, (4,), True, False),
    "cityscapes_dvps": (19, 32, 1000, range(11, 19), True, True),
    "semkitti_dvps": (19, 255, 65536, range(8), True, True),
    "cityscapes_vps": (19, 255, 1000, range(11, 19), True, False),
    "vspw": (125, 0, 1000, (), True, False),
    "coco_panoptic": (134, 0, 256, range(1, 81), False, False),
    "wod_pvps_image_panoptic_seg": (29, 0, 100000, (2, 3, 4, 5, 8, 9, 10, 11), True, False),
    "wod_pvps_depth_video_panoptic_seg": (29, 0, 100000, (2, 3, 4, 5, 8, 9, 10, 11), True, True),
}
ADE20K_STUFF = [
    1, 2, 3, 4, 5, 6, 7, 10, 12, 14, 17, 18, 22, 26, 27, 29, 30, 35, 41, 47, 49, 52, 53, 55, 60, 61, 62, 64, 69, 78, 80,
    85, 92, 95, 97, 100, 101, 102, 106, 107, 110, 114, 115, 118, 123, 129, 132, 141, 142, 146,
]  # fmt: skip


@pytest.mark.parametrize("name", FACTS)
def test_descriptors(name):
    row = DATASETS[name]
    num_classes, ignore_label, label_divisor, things, is_video, has_depth = FACTS[name]
    assert (row.num_classes, row.ignore_label, row.label_divisor) == (num_classes, ignore_label, label_divisor)
    assert row.thing_ids == tuple(things)
    assert (row.is_video, row.has_depth) == (is_video, has_depth)


def test_ade20k_stuff_classes():
    row = DATASETS["ade20k_panoptic"]
    assert (row.num_classes, row.ignore_label, row.label_divisor) == (151, 0, 1000)
    assert list(row.stuff_ids) == ADE20K_STUFF
    assert len(row.thing_ids) == 100


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_is_consistent(name):
    row = DATASETS[name]
    assert row.name == name
    assert len(row.class_names) == len(row.colors) == len(row.eval_ids) == row.num_classes
    assert len(set(row.class_names)) == row.num_classes
    assert all(0 <= value <= 255 for color in row.colors for value in color)
    assert all(0 <= thing < row.num_classes for thing in row.thing_ids)
    assert row.void_id < 2**31 and (row.num_classes + 1) * row.label_divisor < 2**31


def test_mask_classes_are_ordered_things_stuff():
    classes = DATASETS["coco_panoptic"].mask_classes()
    assert classes.class_ids == tuple(range(1, 134)) and classes.num_outputs == 134
    classes = DATASETS["cityscapes_panoptic"].mask_classes()
    assert classes.class_ids == (*range(11, 19), *range(11)) and classes.num_outputs == 20
    assert (classes.ignore_label, classes.label_divisor) == (255, 1000)
    assert DATASETS["ade20k_panoptic"].mask_classes().num_outputs == 151


def test_void_is_no_real_class():
    sizes = {
        "coco_panoptic": 133,
        "ade20k_panoptic": 150,
        "cityscapes_panoptic": 19,
        "cityscapes_dvps": 19,
        "vipseg": 124,
    }
    assert {name: DATASETS[name].num_real_classes for name in sizes} == sizes


@pytest.mark.parametrize(
    "name, table",
    [
        ("cityscapes_panoptic", "cityscapes_classes.csv"),
        ("coco_panoptic", "coco_panoptic_classes.csv"),
        ("ade20k_panoptic", "ade20k_panoptic_classes.csv"),
        ("semkitti_dvps", "semkitti_dvps_classes.csv"),
        ("motchallenge_step", "motchallenge_step_classes.csv"),
        ("wod_pvps_image_panoptic_seg", "wod_pvps_classes.csv"),
        ("vipseg", "vipseg_classes.csv"),
        ("mapillary_vistas", "mapillary_vistas_v1.2_classes.csv"),
    ],
)
def test_class_tables_equal_the_published_ones(name, table):
    row = DATASETS[name]
    with open(shared.path("data", table), newline="") as file:
        for line in csv.DictReader(file):
            class_id = int(line["train_id"])
            assert row.class_names[class_id] == line["name"]
            assert row.colors[class_id] == (int(line["r"]), int(line["g"]), int(line["b"]))
            assert (class_id in row.thing_ids) == (line["isthing"] == "1")
            if "eval_id" in line:
                assert row.eval_ids[class_id] == int(line["eval_id"])


def test_defaults_of_kmax_follow_the_name():
    assert datasets.kmax_defaults("cityscapes_panoptic") == (256, 2, False, 0.8)
    assert datasets.kmax_defaults("cityscapes_dvps") == (256, 2, False, 0.8)
    assert datasets.kmax_defaults("coco_panoptic") == (128, 4, True, 0.8)
    assert datasets.kmax_defaults("ade20k_panoptic") == (128, 4, True, 1.0)
    assert datasets.kmax_defaults("synthetic_panoptic") == (128, 4, True, 0.8)


def test_unknown_name_gives_the_nearest():
    with pytest.raises(ValueError, match="Did you mean: coco_panoptic"):
        datasets.lookup("coco_panoptics")
