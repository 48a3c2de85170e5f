"""Targets of DeeperLab by hand: keypoints, discs and offsets at every fourth pixel."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.data.datasets import DATASETS
from deeplab2_kmax.data.targets import centers, keypoints, keys, segments

CITYSCAPES = DATASETS["cityscapes_panoptic"]
PAIRS = structures.KEYPOINT_PAIRS


def label_of(height, width, boxes, rest=7000):
    """A label with boxes (id: top, left, bottom, right, both ends included)."""
    label = np.full([height, width], rest, np.int32)
    for number, (top, left, bottom, right) in boxes.items():
        label[top : bottom + 1, left : right + 1] = number
    return tf.constant(label)


def make(label, radius):
    found = segments.find(label, CITYSCAPES)
    made = keypoints.make(found, centers.find(found), radius=radius, dataset=CITYSCAPES)
    return {key: values.numpy() for key, values in made.items()}


def test_keypoints_are_corners_of_the_box_and_the_centre_of_mass():
    # An L: the centre of mass is not that of the box.
    label = label_of(9, 9, {13001: (0, 0, 8, 0), 13002: (0, 4, 2, 8)}).numpy()
    label[8, :5] = 13001
    points = keypoints.of_instances(centers.find(segments.find(tf.constant(label), CITYSCAPES)))
    assert points.numpy().tolist() == [
        [[0, 0], [0, 4], [8, 0], [8, 4], [5, 1]],  # 68 / 13, 10 / 13
        [[0, 4], [0, 8], [2, 4], [2, 8], [1, 6]],
    ]
    assert structures.KEYPOINTS == ("top_left", "top_right", "bottom_left", "bottom_right", "center")


@pytest.fixture(scope="module")
def made():
    # A car from (4, 4) to (12, 20), centre (8, 12); void in the last row of the grid, a crowd in the last column.
    label = label_of(17, 33, {13001: (4, 4, 12, 20), 255000: (14, 0, 16, 32), 13000: (0, 30, 13, 32)})
    return make(label, radius=4.0)


def test_discs(made):
    discs = made[keys.KEYPOINTS]
    assert discs.shape == (5, 9, 5)
    for kind, (y, x) in enumerate([(1, 1), (1, 5), (3, 1), (3, 5), (2, 3)]):
        expected = np.zeros([5, 9])
        expected[y, x - 1 : x + 2] = expected[y - 1 : y + 2, x] = 1  # within 4 pixels: the next places, no diagonals
        np.testing.assert_array_equal(discs[..., kind], expected)


def test_offsets_from_discs(made):
    short, middle = made[keys.SHORT_OFFSET], made[keys.MIDDLE_OFFSET]
    assert short[1, 1, :2].tolist() == [0, 0] and short[0, 1, :2].tolist() == [4, 0]
    assert short[2, 4, 8:].tolist() == [0, -4]  # a place right of the centre
    assert not short[made[keys.KEYPOINTS].repeat(2, axis=-1) == 0].any()
    to_top_left, from_bottom_right = PAIRS.index((4, 0)), PAIRS.index((3, 4))
    assert middle[2, 4, 2 * to_top_left : 2 * to_top_left + 2].tolist() == [4 - 8, 4 - 16]
    assert middle[3, 6, 2 * from_bottom_right : 2 * from_bottom_right + 2].tolist() == [8 - 12, 12 - 24]
    np.testing.assert_array_equal(
        made[keys.MIDDLE_OFFSET_WEIGHT], made[keys.KEYPOINTS][..., [start for start, _ in PAIRS]]
    )


def test_offsets_of_instances_and_weights(made):
    long, weight = made[keys.LONG_OFFSET], made[keys.LONG_OFFSET_WEIGHT]
    inside = np.zeros([5, 9])
    inside[1:4, 1:6] = 1
    np.testing.assert_array_equal(weight, inside)
    assert long[1, 2].tolist() == [0, -4, 0, 12, 8, -4, 8, 12, 4, 4]
    assert not long[inside == 0].any()
    counted = np.ones([5, 9])
    counted[4] = counted[:, 8] = 0
    np.testing.assert_array_equal(made[keys.KEYPOINT_WEIGHT], counted)


def test_the_nearer_of_two_keypoints_counts_and_of_equal_ones_the_first_instance():
    made = make(label_of(9, 33, {13001: (0, 0, 8, 8), 13002: (0, 24, 8, 32)}), radius=16.0)
    # Centres at (4, 4) and (4, 28): columns 0 to 3 are nearer to the first, 4 is as near to both.
    x = made[keys.SHORT_OFFSET][1, :, 9]
    assert x.tolist() == [4, 0, -4, -8, -12, 8, 4, 0, -4]


def test_an_image_without_instances():
    made = make(tf.fill([9, 9], 7000), radius=8.0)
    assert {key: values.shape[:2] for key, values in made.items()} == dict.fromkeys(made, (3, 3))
    for key, values in made.items():
        assert values.any() == (key == keys.KEYPOINT_WEIGHT), key
