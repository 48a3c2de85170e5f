"""Tracks by overlap, on maps that can be followed by hand."""

import numpy as np
import pytest

from deeplab2_kmax.postprocess.iou_tracking import Flow, IoUTracker, Rules

RULES = Rules(thing_ids=(2, 1), label_divisor=100, memory=2)


def frame(text):
    """A row of panoptic ids: a digit is an instance of class 1, a letter one of class 2, a dot stuff of class 0."""
    ids = [0 if c == "." else 100 + int(c) if c.isdigit() else 200 + ord(c) - ord("a") + 1 for c in text]
    return np.array([ids], np.int32)


def tracked(tracker, *texts):
    return [tracker(frame(text))[0].tolist() for text in texts]


def test_ids_are_given_class_by_class_and_kept_by_overlap():
    first, second = tracked(IoUTracker(RULES), "11..aabb", ".77.bbaa")
    assert first == [103, 103, 0, 0, 201, 201, 202, 202]  # class 2 comes first in the rules
    assert second == [0, 103, 103, 0, 201, 201, 202, 202]  # IoU 1/3; the names of a frame mean nothing


def test_an_overlap_must_be_above_the_limit_and_of_the_class():
    tracker = IoUTracker(RULES._replace(least_overlap=1 / 3))
    assert tracked(tracker, "11..", ".11.", ".aa.")[1:] == [[0, 102, 102, 0], [0, 203, 203, 0]]


def test_the_assignment_is_best_in_all_not_greedy():
    """The left track overlaps the wide instance more than the right one does, but has another."""
    tracker = IoUTracker(RULES)
    tracked(tracker, "111111222222")
    (found,) = tracked(tracker, "334444444422")
    assert found == [101] * 2 + [102] * 8 + [103] * 2


@pytest.mark.parametrize("gap, number", [(2, 101), (3, 102)])
def test_memory(gap, number):
    tracker = IoUTracker(RULES)
    assert tracked(tracker, "11..", *["...."] * gap, "11..")[-1][0] == number
    assert tracker.state()["seen"].shape[0] <= RULES.memory + 1


def test_a_track_is_at_one_place_only():
    """Once it is seen elsewhere, its old mask attracts nothing."""
    tracker = IoUTracker(RULES)
    assert tracked(tracker, "111...", ".111..", "..111.", "111...")[-1] == [102, 102, 102, 0, 0, 0]


def test_flow_pulls_masks_back():
    right = Flow(np.full([1, 6, 2], [3.0, 0.0]))
    tracker = IoUTracker(RULES)
    tracker(frame("11...."))
    assert tracker(frame("...11."), right)[0].tolist() == [0, 0, 0, 101, 101, 0]
    assert tracker(frame("11...."))[0, 0] == 102, "the mask that is remembered is where it was seen"
    tracker.reset()
    tracker(frame("11...."))
    hidden = Flow(right.forward, np.array([[0, 1, 1, 0, 0, 0]]))
    assert tracker(frame("...11."), hidden)[0, 3] == 101, "one of two pixels is left"
    half = Flow(np.full([1, 6, 2], [2.5, 0.0]))
    tracker.reset()
    tracker(frame("11...."))
    # Any share counts: pixels 0, 1 and 2 are pulled from 2.5, 3.5 and 4.5, all of which touch the mask.
    assert tracker(frame("...11."), half)[0, 3] == 101
    with pytest.raises(ValueError, match=r"Expected a flow \[1, 6, 2\], found \[1, 5, 2\]"):
        tracker(frame("11...."), Flow(np.zeros([1, 5, 2])))


def test_a_saved_state_goes_on(tmp_path):
    films = "11..aa", ".11.aa", "......", "..1bb."
    whole = tracked(IoUTracker(RULES), *films)
    tracker, other = IoUTracker(RULES), IoUTracker(RULES)
    tracked(tracker, *films[:2])
    tracker.save(tmp_path / "state")
    other.load(tmp_path / "state")
    assert tracked(other, *films[2:]) == whole[2:]
    other.reset()
    assert tracked(other, *films) == whole


def test_frames_without_anything_and_what_does_not_fit():
    tracker = IoUTracker(RULES._replace(label_divisor=3, thing_ids=(1,)))
    empty = np.zeros([1, 4], np.int32)
    np.testing.assert_array_equal(tracker(empty), empty)
    tracker(np.array([[4, 5, 0, 0]]))
    with pytest.raises(ValueError, match="There are 2 tracks, more do not fit below the label divisor"):
        tracker(np.array([[0, 0, 4, 4]]))
    with pytest.raises(ValueError, match=r"found \[1, 5\]: call reset"):
        tracker(np.zeros([1, 5], np.int32))
    tracker.reset()
    tracker(np.zeros([1, 5], np.int32))


def test_numbers_begin_anew_in_endless_videos():
    tracker = IoUTracker(RULES._replace(label_divisor=10, thing_ids=(1,), memory=1, reuse_ids=True))
    stays = np.where(np.arange(8) < 2, 11, 0)
    seen = []
    for step in range(20):
        image = stays.copy()
        image[2 + step % 6] = 12  # a new track in every frame, at another place
        found = tracker(image[None])[0]
        assert found[0] == 11, "the track that is still there keeps its number"
        seen.append(found[2 + step % 6] - 10)
    assert seen == [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]
