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
    assert np.array_equal(whole(region, (40, 50)), mask == 1)


def whole(region, size):
    """A region's mask over the whole image."""
    window, pixels = regions.mask(region, size)
    found = np.zeros(size, bool)
    found[window] = pixels
    return found


def test_a_region_takes_no_more_room_than_it_covers():
    outline = regions.Region(1, ((2.2, 3.0, 6.7, 3.9, 4.0, 7.5), (7.0, 6.0, 9.0, 6.0, 9.0, 8.0)))
    window, pixels = regions.mask(outline, (4000, 3000))
    assert window == (slice(3, 8), slice(2, 9)) and pixels.shape == (5, 7)
    expected = [regions.fill(polygon, (9, 12)) for polygon in outline.polygons]
    assert np.array_equal(whole(outline, (9, 12)), expected[0] | expected[1]) and expected[1].sum() == 3
    outside = regions.Region(1, ((-5, -5, -1, -5, -1, -1),))
    assert regions.mask(outside, (9, 12))[1].size == 0
    # Runs along rows, in a box at (3, 1) of two rows of three pixels.
    runs = regions.Region(1, runs=(1, 2, 2, 1), by_columns=False, box=(3, 1, 3, 2))
    assert np.argwhere(whole(runs, (4, 8))).tolist() == [[1, 4], [1, 5], [2, 5]]
    assert regions.mask(runs, (4, 8))[1].shape == (2, 2)
    assert regions.mask(regions.Region(1, runs=(32,)), (4, 8))[1].size == 0


def test_the_smaller_region_lies_on_top():
    large = regions.Region("large", ((0, 0, 6, 0, 6, 4, 0, 4),))
    small = regions.Region("small", ((1, 1, 3, 1, 3, 3, 1, 3),))
    found = {region.category: (window, pixels, area) for region, window, pixels, area in paint(large, small)}
    assert found["small"][1].all() and found["small"][2] == 4
    window, pixels, area = found["large"]
    assert window == (slice(0, 4), slice(0, 6)) and area == 24 and pixels.sum() == 20 and not pixels[1:3, 1:3].any()


def paint(*listed):
    return list(regions.paint(listed, (5, 7)))
