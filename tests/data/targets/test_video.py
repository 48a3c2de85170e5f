"""Targets over two frames: noise, motion, track indices."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data.datasets import DATASETS
from deeplab2_kmax.data.targets import centers, keys, segments, video

CITYSCAPES = DATASETS["cityscapes_panoptic"]


def find(label):
    return segments.find(tf.constant(label), CITYSCAPES)


def test_motion_points_to_the_previous_centre_of_the_same_instance():
    # The car moved right by two; the person is new, the other car gone.
    before, now = find([[13001, 7000, 7000, 13002]]), find([[7000, 11001, 13001, 7000]])
    previous = centers.find(before)
    made = video.make_motion(now, previous, previous.points)
    assert made[keys.FRAME_OFFSET].numpy().tolist() == [[[0, 0], [0, 0], [0, -2], [0, 0]]]
    assert made[keys.FRAME_OFFSET_WEIGHT].numpy().tolist() == [[0, 0, 1, 0]]


def test_next_offsets_stand_on_the_pixels_of_the_next_frame():
    now, after = find([[13001, 7000, 7000, 13002]]), find([[7000, 13001, 13001, 13003]])
    made = video.make_next(centers.find(now), after)
    assert made[keys.NEXT_OFFSET].numpy().tolist() == [[[0, 0], [0, -1], [0, -2], [0, 0]]]
    assert made[keys.NEXT_OFFSET_WEIGHT].numpy().tolist() == [[0, 1, 1, 0]]


def test_the_noise_of_previous_centres():
    previous = centers.Centers(
        ids=tf.range(2000),
        points=tf.fill([2000, 2], 500.0),
        extents=tf.tile([[0.0, 400.0]], [2000, 1]),
        lowest=tf.tile([[500.0, 300.0]], [2000, 1]),
    )
    points, peaks = video.noisy(previous, tf.constant([1000, 1000]), seed=tf.constant([1, 2]))
    assert np.all(points[:, 0].numpy() == 500)  # no extent, no noise
    x = points[:, 1].numpy()
    assert np.all(x == np.round(x)) and abs(x.mean() - 500) < 2 and x.std() == pytest.approx(20, rel=0.08)
    # A fifth has a second peak, moved once more by as much.
    extra = len(peaks) - 2000
    assert extra == pytest.approx(400, rel=0.15)
    assert peaks[2000:, 1].numpy().std() == pytest.approx(20 * np.sqrt(2), rel=0.15)
    again, _ = video.noisy(previous, tf.constant([1000, 1000]), seed=tf.constant([1, 2]))
    np.testing.assert_array_equal(points, again)
    inside, _ = video.noisy(previous, tf.constant([501, 501]), seed=tf.constant([1, 2]))
    assert inside.numpy().max() == 500  # never outside the image


def test_track_indices_are_the_same_in_both_frames():
    label, other = tf.constant([[13001, 7000, 13002]]), tf.constant([[11005, 13002, 13001]])
    made = video.make_tracks(label, other, CITYSCAPES, max_things=4)
    assert made[keys.THING_ID_MASK].numpy().tolist() == [[0, -1, 1]]
    assert made[keys.OTHER_THING_ID_MASK].numpy().tolist() == [[2, 1, 0]]
    assert made[keys.THING_ID_CLASS].numpy().tolist() == [13, 13, 11, -1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="max_thing_id 2"):
        video.make_tracks(label, other, CITYSCAPES, max_things=2)
