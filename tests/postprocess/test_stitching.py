"""Ids from frame to frame, on maps small enough to check by hand."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.postprocess import stitching

D = 10  # label divisor: 20 is crowd or stuff of class 2, 21 its first instance


def stitch(carried, own, offset=None):
    maps = [tf.constant([[rows]]) for rows in (carried, own)]
    return stitching.stitch(*maps, label_divisor=D, offset=offset)[0, 0].numpy().tolist()


def track(carried, current, following, given=(0, 0, 0, 0)):
    maps = [tf.constant([rows]) for rows in (carried, current, following)]
    found = stitching.track(*maps, tf.constant(given), label_divisor=D)
    return [found.current[0].numpy().tolist(), found.following[0].numpy().tolist(), found.given.numpy().tolist()]


def test_instances_take_the_id_of_the_one_they_overlap_most():
    carried = [21, 21, 21, 22, 22, 0, 0]
    assert stitch(carried, [22, 22, 22, 21, 21, 0, 0]) == [21, 21, 21, 22, 22, 0, 0]
    # 21 covers more of 22 than 23 does, which is new: it gets half the divisor, or the offset.
    assert stitch([22] * 5 + [0, 0], [21, 21, 21, 23, 23, 0, 0]) == [22, 22, 22, 28, 28, 0, 0]
    assert stitch([22] * 5 + [0, 0], [21, 21, 21, 23, 23, 0, 0], offset=4) == [22, 22, 22, 27, 27, 0, 0]


def test_only_pairs_of_one_class_and_with_ids_count():
    assert stitch([31, 31, 20, 0], [21, 21, 22, 0]) == [26, 26, 27, 0]
    assert stitch([21, 21, 22, 10], [20, 20, 10, 10]) == [20, 20, 10, 10]


def test_the_union_counts_pixels_outside_the_overlap():
    # 21 shares two pixels with each; the second one is smaller.
    assert stitch([21, 21, 21, 21, 22, 22], [29, 29, 21, 21, 21, 21], offset=0)[2:] == [22] * 4


def test_of_equal_overlaps_the_higher_ids_count():
    assert stitch([21, 22], [21, 21]) == [22, 22]
    assert stitch([21, 21], [21, 22]) == [26, 21]


def test_an_offset_that_does_not_fit_is_an_error():
    assert stitch([0, 0], [24, 0]) == [29, 0]
    for run in (stitch, tf.function(lambda *maps: stitching.stitch(*maps, label_divisor=D))):
        maps = ([0, 0], [25, 0]) if run is stitch else [tf.constant([[rows]]) for rows in ([0, 0], [25, 0])]
        with pytest.raises(tf.errors.InvalidArgumentError, match="reaches the label divisor 10"):
            run(*maps)


def test_a_batch_is_its_images():
    random = np.random.RandomState(0)
    carried, own = (tf.constant(random.choice([0, 20, 21, 22, 31], [3, 4, 5]), tf.int32) for _ in range(2))
    whole = stitching.stitch(carried, own, label_divisor=D)
    each = [stitching.stitch(carried[i : i + 1], own[i : i + 1], label_divisor=D) for i in range(3)]
    np.testing.assert_array_equal(whole, tf.concat(each, axis=0))


def test_the_first_frames_of_a_video_keep_their_ids():
    current, following = [21, 22, 31, 0, 20], [22, 23, 31, 32, 0]
    assert track([0] * 5, current, following) == [current, following, [0, 0, 3, 2]]


def test_ids_of_a_video_go_on_in_the_following_frame():
    # 22 is what was called 25; 21 and 23 (which the following frame alone has) are new.
    current, following = [22, 22, 21, 0], [22, 23, 21, 21]
    assert track([25, 25, 0, 0], current, following, [0, 0, 6, 0]) == [[25, 25, 27, 0], [25, 28, 27, 27], [0, 0, 8, 0]]


def test_an_instance_that_left_gives_its_id_to_none():
    assert track([21, 0, 0], [0, 0, 21], [0, 0, 21], [0, 0, 1, 0])[0] == [0, 0, 22]


def test_ids_begin_anew_past_those_in_use():
    # 8 ids are given; 9 is next, then 1, which is in use, then 2.
    current = [24, 21, 22, 23]
    found = track([21, 0, 0, 0], current, current, [0, 0, 8, 0])
    assert found == [[21, 29, 22, 23], [21, 29, 22, 23], [0, 0, 3, 0]]


def test_ids_never_meet_in_a_long_video():
    random = np.random.RandomState(1)
    step = tf.function(lambda *maps: stitching.track(*maps, label_divisor=D))
    carried, given = tf.zeros([3, 6], tf.int32), tf.zeros([4], tf.int32)
    for _ in range(40):
        current, following = (tf.constant(random.choice([0, 21, 22, 23, 31], [3, 6]), tf.int32) for _ in range(2))
        found = step(carried, current, following, given)
        for before, after in ((current, found.current), (following, found.following)):
            pairs = set(zip(before.numpy().ravel(), after.numpy().ravel()))
            assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
            assert all(old // D == new // D and (new % D > 0) == (old % D > 0) for old, new in pairs)
        carried, given = found.following, found.given
    assert given.numpy().max() < D
