"""Outlines and run lengths become pixels."""

import numpy as np
import pytest

from deeplab2_kmax.data.convert.own import regions


def test_a_pixel_belongs_to_a_polygon_by_its_centre():
    triangle = regions.fill([0, 0, 4, 0, 0, 4], (4, 5))
    assert triangle.astype(int).tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert regions.fill([0, 4, 4, 0, 0, 0], (4, 5)).tolist() == triangle.tolist()  # either way round
    assert regions.fill([-9, -9, 99, -9, 99, 99, -9, 99], (2, 3)).all()
    assert regions.fill([0.6, 0, 2.4, 0, 2.4, 1, 0.6, 1], (1, 3)).tolist() == [[False, True, False]]
    # Where it crosses itself both parts count: two triangles that meet in the middle.
    hourglass = regions.fill([0, 0, 6, 0, 0, 4, 6, 4], (4, 6)).astype(int).tolist()
    assert hourglass == [[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0]]
    with pytest.raises(ValueError, match="three points"):
        regions.fill([0, 0, 1, 1], (2, 2))


def test_neighbouring_polygons_share_no_pixel():
    left = regions.fill([0, 0, 2.5, 0, 3.5, 6, 0, 6], (6, 6))
    right = regions.fill([2.5, 0, 6, 0, 6, 6, 3.5, 6], (6, 6))
    assert (left ^ right).all()


def test_coco_runs():
    assert regions.coco_runs("52203", "x") == (5, 2, 2, 2, 5)
    with pytest.raises(ValueError, match="end too soon"):
        regions.coco_runs("5P", "x")
    encode = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((40, 50), np.uint8)
    mask[3:30, 7:21] = 1
    mask[10:12, 40] = 1
    text = encode.encode(np.asfortranarray(mask))["counts"].decode()
    region = regions.Region(1, runs=regions.coco_runs(text, "x"))
    assert np.array_equal(regions.mask(region, (40, 50)), mask == 1)
