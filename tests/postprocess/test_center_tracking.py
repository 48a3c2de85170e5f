"""Following instances: who gets which track, how long tracks are kept, and which numbers new ones get."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.postprocess import center_tracking

CLASSES = structures.MaskClasses((1, 2), (0,), ignore_label=255, label_divisor=6)
SIZE = (33, 65)


def tracking(classes=CLASSES):
    return center_tracking.CenterTracking(None, classes, sigma=2.0)


@pytest.fixture(scope="module")
def track():
    own = tracking()
    specs = [tf.TensorSpec([1, *SIZE], tf.int32), tf.TensorSpec([1, *SIZE, 2], tf.float32), own.spec()]
    return tf.function(own.track, input_signature=specs)


def frame(**squares):
    """Squares of 5x5 pixels on stuff 0: `c1n2` is class 1, instance 2, by the (y, x) of its middle."""
    panoptic = np.zeros((1, *SIZE), np.int32)
    for name, (y, x) in squares.items():
        panoptic[0, y - 2 : y + 3, x - 2 : x + 3] = int(name[1:].split("n")[0]) * 6 + int(name.split("n")[1])
    return tf.constant(panoptic)


STILL = tf.zeros([1, *SIZE, 2])


def offsets(y, x):
    return tf.broadcast_to(tf.constant([y, x], tf.float32), [1, *SIZE, 2])


def ids(tracked, *places):
    return [int(tracked.panoptic[0, y, x]) for y, x in places]


def test_an_instance_keeps_its_id_where_its_offset_leads(track):
    first = track(frame(c1n1=(8, 8), c1n2=(8, 30)), STILL, tracking().start())
    assert ids(first, (8, 8), (8, 30), (20, 20)) == [7, 8, 0]
    # Both moved by 20: without offsets the left one would be taken for the right one that was there.
    moved = frame(c1n1=(8, 28), c1n2=(8, 50))
    second = track(moved, offsets(0, -20), first.tracks)
    assert ids(second, (8, 28), (8, 50)) == [7, 8]
    wrong = track(moved, STILL, first.tracks)
    assert ids(wrong, (8, 28), (8, 50)) == [8, 9]


def test_only_tracks_of_the_class_and_within_the_box_count(track):
    first = track(frame(c1n1=(8, 8)), STILL, tracking().start())
    assert first.tracks.rows.numpy().tolist() == [[8, 8, 7, 16, 1]]  # extents of 4, not sides of 5
    # Nearer than the root of 16, not at it.
    assert ids(track(frame(c1n1=(8, 11)), STILL, first.tracks), (8, 11)) == [7]
    assert ids(track(frame(c1n1=(8, 12)), STILL, first.tracks), (8, 12)) == [8]
    assert ids(track(frame(c2n1=(8, 8)), STILL, first.tracks), (8, 8)) == [14]


def test_a_track_is_forgotten_after_six_frames_without_it(track):
    empty = frame()
    for gap, expected in ((6, 7), (7, 8)):
        tracked = track(frame(c1n1=(8, 8)), STILL, tracking().start())
        for _ in range(gap - 1):
            tracked = track(empty, STILL, tracked.tracks)
        again = track(frame(c1n1=(8, 8)), STILL, tracked.tracks)
        assert ids(again, (8, 8)) == [expected]
    assert tracked.tracks.rows.shape == (0, 5)
    assert np.max(tracked.heatmap) == 0


def test_numbers_start_over_and_avoid_live_tracks(track):
    """Numbers are 1 to 5. The instance at (8, 8) stays; the others jump and are new each time."""
    tracks, given = tracking().start(), []
    for x in (20, 30, 40, 50, 60, 20, 30, 40, 50, 60):
        tracked = track(frame(c1n1=(8, 8), c1n2=(25, x)), STILL, tracks)
        tracks = tracked.tracks
        stays, jumps = ids(tracked, (8, 8), (25, x))
        assert stays == 7
        given.append(jumps - 6)
    assert set(given) <= {2, 3, 4, 5}
    assert all(before != after for before, after in zip(given, given[1:]))
    assert len(tracks.rows) <= 5


def test_more_instances_than_numbers_for_all_classes_still_have_ids_of_their_own(track):
    squares = {f"c{c}n{n}": (4 + 8 * c, 4 + 10 * n) for c in (1, 2) for n in (1, 2, 3, 4, 5)}
    tracks = tracking().start()
    for _ in range(3):
        tracked = track(frame(**squares), STILL, tracks)
        tracks = tracked.tracks
        found = ids(tracked, *squares.values())
        assert len(set(found)) == 10
        assert [number // 6 for number in found] == [1] * 5 + [2] * 5


def test_crowd_stuff_and_void_are_no_instances(track):
    panoptic = frame(c1n1=(8, 8), c1n0=(20, 8), c255n0=(20, 30), c255n3=(8, 40))
    tracked = track(panoptic, STILL, tracking().start())
    np.testing.assert_array_equal(tracked.panoptic, panoptic)
    assert len(tracked.tracks.rows) == 1
    heat = tracked.heatmap[0].numpy()
    assert heat[8, 8] == 1
    np.testing.assert_allclose(heat[8, 10], np.exp(-4 / 8), rtol=1e-6)
    assert heat[20, 8] == heat[20, 30] == heat[8, 40] == 0
