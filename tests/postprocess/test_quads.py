"""Pixels among the places of a coarser grid."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.postprocess import quads


def test_five_pixels_lie_on_and_between_three_places():
    side = quads.side(3, 5)
    assert side.before.numpy().tolist() == [0, 0, 1, 1, 2]
    assert side.after.numpy().tolist() == [0, 1, 1, 2, 2]
    assert side.part.numpy().tolist() == [0, 0.5, 0, 0.5, 0]
    assert side.of_places.numpy().tolist() == [0, 2, 4]
    assert side.step.numpy() == 2


def test_one_place_holds_all_pixels_and_one_pixel_lies_on_the_first_place():
    assert quads.side(1, 3).before.numpy().tolist() == [0, 0, 0]
    assert quads.side(3, 1).before.numpy().tolist() == [0]


@pytest.mark.parametrize(("places", "pixels"), [(9, 33), (7, 40), (5, 5), (257, 1025)])
def test_pixels_lie_where_the_resize_kernel_has_them(places, pixels):
    line = tf.range(places, dtype=tf.float32)[tf.newaxis, :, tf.newaxis, tf.newaxis]
    resized = tf.raw_ops.ResizeBilinear(images=line, size=[pixels, 1], align_corners=True)[0, :, 0, 0]
    side = quads.side(places, pixels)
    # Values between whole numbers: equal to the last bit but for the sum.
    np.testing.assert_allclose(tf.cast(side.before, tf.float32) + side.part, resized, atol=1e-4)


def test_grids_are_spread_and_images_sampled():
    grid = tf.constant([[1, 2], [3, 4]])
    y, x = quads.sides(grid, (3, 5))
    image = quads.spread(grid, y, x)
    assert image.numpy().tolist() == [[1, 1, 1, 1, 2], [1, 1, 1, 1, 2], [3, 3, 3, 3, 4]]
    assert quads.sample(image, y, x).numpy().tolist() == grid.numpy().tolist()


def test_places_differ_from_those_below_and_behind():
    grid = tf.constant([[1, 1, 1], [1, 1, 2], [1, 1, 1]])
    assert quads.differ(grid).numpy().astype(int).tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 0]]


def test_neighbours_lie_on_all_eight_sides():
    marks = np.zeros([4, 4], bool)
    marks[1, 3] = True
    expected = np.zeros([4, 4], bool)
    expected[:3, 2:] = True
    np.testing.assert_array_equal(quads.around(tf.constant(marks)), expected)
