"""COCO's segments -> panoptic ids, by hand."""

import numpy as np
import pytest

from deeplab2_kmax.data.convert import segments
from deeplab2_kmax.data.convert.segments import Category, Segment

CATEGORIES = {10: Category(1, True), 20: Category(2, True), 30: Category(5, False)}
#                 a thing      a thing      another kind    stuff        crowd        in the picture alone
ROWS = np.array([[300, 300, 2, 2, 70000, 70000, 5, 5, 9, 9, 11, 0]])
SEGMENTS = (
    Segment(2, 10, 2, False),
    Segment(300, 10, 2, False),
    Segment(70000, 20, 2, False),
    Segment(5, 30, 2, False),
    Segment(9, 20, 2, True),
)


def pixels(ids):
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def convert(listed=SEGMENTS, ids=ROWS, **options):
    options = {"ignore_label": 255, "label_divisor": 1000, "where": "it", **options}
    return segments.to_panoptic(pixels(ids), listed, CATEGORIES, **options)


def test_instances_are_numbered_in_the_order_of_the_list():
    void = 255000
    expected = [1002, 1002, 1001, 1001, 2001, 2001, 5000, 5000, void, void, void, void]
    np.testing.assert_array_equal(convert(), [expected])
    assert convert().dtype == np.int32


def test_crowd_may_keep_its_class():
    assert convert(treat_crowd_as_ignore=False)[0, 8:10].tolist() == [2000, 2000]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([Segment(2, 10, 3, False)], "has 2 pixels, but the JSON says 3"),
        ([Segment(4, 10, 1, False)], "has 0 pixels"),
        ([Segment(2, 11, 2, False)], "unknown category 11"),
        ([Segment(5, 30, 2, True)], "stuff"),
    ],
)
def test_contradictions_are_errors(listed, message):
    with pytest.raises(ValueError, match=f"it: .*{message}"):
        convert(listed)


def test_the_area_check_may_be_left_out():
    assert convert([Segment(2, 10, 3, False)], check_area=False)[0, 2] == 1001


def test_as_many_instances_as_the_divisor_holds():
    ids = np.arange(1, 5)[None]
    listed = [Segment(k, 10, 1, False) for k in range(1, 5)]
    with pytest.raises(ValueError, match="label divisor is 4"):
        convert(listed, ids, label_divisor=4)
    assert convert(listed, ids, label_divisor=5).max() == 1 * 5 + 4


@pytest.mark.parametrize(
    "entries",
    [
        [{"id": 1, "category_id": 10}],
        [{"id": "x", "category_id": 10, "area": 3}],
        ["segment"],
        [{"id": 0, "category_id": 10, "area": 3}],
        [{"id": 2**24, "category_id": 10, "area": 3}],
        [{"id": 1, "category_id": 10, "area": 3}] * 2,
    ],
)
def test_malformed_lists_are_errors(entries):
    with pytest.raises(ValueError, match="here: "):
        segments.read_segments(entries, "here")


def test_lists_are_read():
    entries = [
        {"id": 7, "category_id": 10, "area": 3, "iscrowd": 1, "bbox": []},
        {"id": 8, "category_id": 1, "area": 4},
    ]
    assert segments.read_segments(entries, "") == (Segment(7, 10, 3, True), Segment(8, 1, 4, False))
