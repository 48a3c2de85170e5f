"""Colours, outlines and overlays, on maps small enough to check by eye."""

import numpy as np
import pytest

from deeplab2_kmax import visualize

COLORS = [(10, 20, 30), (100, 100, 100), (0, 200, 250)]


def test_semantic_colors_are_those_of_the_table_and_black_elsewhere():
    colored = visualize.semantic_colors(np.array([[0, 2], [255, -1]]), COLORS)
    np.testing.assert_array_equal(colored, [[(10, 20, 30), (0, 200, 250)], [(0, 0, 0), (0, 0, 0)]])


def test_panoptic_colors_shade_things_by_the_rule_of_deeplab2():
    panoptic = np.array([[1001, 1002, 2000], [1001, 9000, 0]])
    colored = visualize.panoptic_colors(panoptic, colors=COLORS, thing_ids=(1,), label_divisor=1000)
    random = np.random.RandomState(0)
    first, second = (np.clip(100 + random.randint(-60, 61, size=3), 0, 255) for _ in range(2))
    np.testing.assert_array_equal(colored[0], [first, second, (0, 200, 250)])
    np.testing.assert_array_equal(colored[1], [first, (0, 0, 0), (10, 20, 30)])
    assert colored.dtype == np.uint8


def test_cluster_colors_are_distinct():
    colored = visualize.cluster_colors(np.arange(256).reshape(16, 16)).reshape(-1, 3)
    assert len(np.unique(colored, axis=0)) == 256
    np.testing.assert_array_equal(colored[1:4], [(128, 0, 0), (0, 128, 0), (128, 128, 0)])  # PASCAL VOC


def test_outlines_lie_between_segments():
    edges = visualize.outlines(np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]]))
    np.testing.assert_array_equal(edges, [[False, True, False], [True, True, True], [False, False, False]])


def test_overlay_mixes_and_lets_void_through():
    image = np.full((1, 3, 3), 100, np.uint8)
    colored = np.array([[(200, 0, 0), (0, 0, 0), (0, 0, 0)]], np.uint8)
    mixed = visualize.overlay(image, colored, np.array([[1, 1, 2]]), alpha=0.5)
    np.testing.assert_array_equal(mixed[0], [(150, 50, 50), (255, 255, 255), (100, 100, 100)])
    with pytest.raises(ValueError, match="one shape"):
        visualize.overlay(image, colored[:, :2])


def test_names_are_written_inside_their_segment():
    ids = np.ones((40, 60), int)
    ids[:, 30:] = 2
    black = np.zeros((40, 60, 3), np.uint8)
    written = visualize.draw_names(black, ids, {2: "car"}, min_area=100)
    changed = np.argwhere(written.any(-1))
    assert len(changed) and changed[:, 1].min() >= 30
    np.testing.assert_array_equal(visualize.draw_names(black, ids, {2: "car"}, min_area=5000), black)


def test_names_do_not_cover_each_other():
    ids = np.full((40, 60), 1)
    ids[20:22] = 2
    black = np.zeros((40, 60, 3), np.uint8)
    alone = visualize.draw_names(black, ids, {1: "wall"}, min_area=1)
    np.testing.assert_array_equal(visualize.draw_names(black, ids, {1: "wall", 2: "line"}, min_area=1), alone)
    assert visualize.draw_names(black, ids, {2: "line"}, min_area=1).any()
    # A name that is too wide at the border moves into the picture.
    at_border = np.zeros((40, 60), int)
    at_border[:, :4] = 1
    written = visualize.draw_names(black, at_border, {1: "wall"}, min_area=1, font_size=14)
    assert not written[:, 0].any(axis=-1).all() and written[:, 20].any()


def test_legend_and_nearest_resize():
    strip = visualize.legend([("road", (1, 2, 3)), ("sky", (4, 5, 6))], height=30)
    assert strip.shape == (30, 340, 3)
    np.testing.assert_array_equal(strip[10, 10], (1, 2, 3))
    np.testing.assert_array_equal(strip[10, 180], (4, 5, 6))
    np.testing.assert_array_equal(visualize.resize_nearest(np.array([[1, 2]]), (2, 4)), [[1, 1, 2, 2], [1, 1, 2, 2]])
