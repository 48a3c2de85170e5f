import dataclasses
import functools
import itertools
import pickle

import numpy as np
import pytest

from evaluation import error_analysis, mean_iou, panoptic_quality
from tests.evaluation.small_errors import DATASET, VOID

CLASSES = dataclasses.replace(DATASET, label_divisor=1)


def scene(right):
    """A road of ten pixels, of which `right` are predicted as one: below six it was missed."""
    return np.zeros((1, 10), np.int64), np.array([[0] * right + [VOID] * (10 - right)])


def filled(numbers, **options):
    analysis = error_analysis.Analysis(DATASET, **options)
    for right in numbers:
        analysis.add(f"image {right}", *scene(right))
    return analysis


def names(examples):
    return [example.name for example in examples]


def test_worst_and_best_images():
    analysis = filled([7, 9, 10, 6, 8], keep=2)
    assert names(analysis.worst()) == ["image 6", "image 7"]
    assert names(analysis.best()) == ["image 10", "image 9"]
    assert [example.score for example in analysis.worst()] == [0.6, 0.7]
    assert analysis.num_images == 5
    # Of a few images none is in both, and what is perfect is not bad.
    assert (names(filled([7, 9]).worst()), names(filled([7, 9]).best())) == (["image 7"], ["image 9"])
    assert (names(filled([10]).worst()), names(filled([10]).best())) == ([], ["image 10"])


def test_merging_parts_is_the_same_as_one_run():
    whole = filled(range(1, 11), keep=3)
    for numbers in ([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], [[10, 3, 8, 2], [], [9, 1, 4, 7, 6, 5]]):
        first, *others = [pickle.loads(pickle.dumps(filled(part, keep=3))) for part in numbers]
        for other in others:
            first.merge(other)
        assert names(first.worst()) == names(whole.worst())
        assert names(first.best()) == names(whole.best())
        for mine, theirs in zip(first.counts, whole.counts):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12)
        np.testing.assert_array_equal(first.confusion, whole.confusion)
    with pytest.raises(ValueError, match="Expected the errors of small"):
        whole.merge(error_analysis.Analysis(dataclasses.replace(DATASET, num_classes=3), keep=3))


def test_pictures_are_loaded_when_they_are_shown():
    def picture(*shape):
        loaded.append(shape)
        return np.full((*shape, 3), 7, np.uint8)

    loaded = []
    analysis = error_analysis.Analysis(DATASET, keep=1)
    for right in (8, 9, 7):
        analysis.add(f"image {right}", *scene(right), load_image=functools.partial(picture, 1, 10))
    assert not loaded
    assert analysis.worst()[0].picture().tolist() == [[[7] * 3] * 10] and loaded == [(1, 10)]
    analysis.add("wide", *scene(6), load_image=functools.partial(picture, 1, 5))
    with pytest.raises(ValueError, match=r"wide: expected a picture \[1, 10, 3\] uint8, got \(1, 5, 3\)"):
        analysis.worst()[0].picture()
    large = error_analysis.Analysis(DATASET)
    maps = np.zeros((1080, 1440), np.int32)
    large.add("large", maps, maps, load_image=functools.partial(picture, 1080, 1440))
    assert large.best()[0].picture().shape == (540, 720, 3)
    assert len(large.best()[0].runs.true) == 1


def test_confusion_and_mistaken_segments_by_hand():
    analysis = error_analysis.Analysis(DATASET)
    # A car of 4 pixels called a truck, a road of 3 of which 1 is void and 1 grass; void ground truth.
    analysis.add("a", np.array([[21] * 4 + [0] * 3 + [VOID] * 2]), np.array([[31] * 4 + [0, VOID, 10] + [0, VOID]]))
    expected = np.zeros((5, 5), int)
    expected[2, 3], expected[0, 0], expected[0, 4], expected[0, 1], expected[4, 0], expected[4, 4] = 4, 1, 1, 1, 1, 1
    np.testing.assert_array_equal(analysis.confusion, expected)
    assert np.argwhere(analysis.mistaken).tolist() == [[2, 3]]
    assert analysis.breakdown().measure == "PQ"


def test_plain_classes():
    analysis = error_analysis.Analysis(CLASSES)
    # Road: 2 of 4 pixels right; grass: 1 right, 1 taken from the road; a pixel of road left void.
    analysis.add("a", np.array([[0, 0, 0, 0, 1, 255]]), np.array([[0, 0, 1, 255, 1, 1]]))
    assert analysis.worst()[0].score == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert analysis.breakdown().quality == pytest.approx(0.5)
    analysis.add("void", np.full((1, 3), 255), np.zeros((1, 3), int))  # nothing to score
    assert analysis.num_images == 2 and names(analysis.worst()) == ["a"]


def test_frames_of_a_sequence():
    analysis = error_analysis.Analysis(DATASET)
    road = np.zeros((1, 2), int)
    for sequence, frame in itertools.product(("a", "b"), range(3)):
        analysis.add(
            f"{sequence}{frame}", np.array([[21, 21]]), np.array([[21 + frame // 2] * 2]), None, sequence, frame
        )
    assert [(t.name, t.num_switches) for t in analysis.tracks.timelines()] == [("a", 1), ("b", 1)]
    with pytest.raises(ValueError, match="'a' comes in pieces"):
        analysis.add("again", road, road, None, "a", 7)


def test_the_name_stands_in_messages():
    with pytest.raises(ValueError, match="street.png: The prediction has the label 49"):
        error_analysis.Analysis(DATASET).add("street.png", np.zeros((1, 1), int), np.array([[49]]))


def test_more_than_ten_thousand_segments():
    # Every pixel is a thing of its own; one is missed and one is false.
    dataset = dataclasses.replace(DATASET, label_divisor=20000)
    true = (2 * 20000 + 1 + np.arange(12100)).reshape(110, 110)
    pred = true.copy()
    pred[0, 0] = 3 * 20000
    pred[0, 1] = 255 * 20000
    analysis = error_analysis.Analysis(dataset)
    analysis.add("many", true, pred)
    assert analysis.counts.matched.sum() == 12098
    assert (analysis.counts.wrong_true.sum(), analysis.counts.missed.sum()) == (1, 1)


def test_same_numbers_as_the_metrics():
    random = np.random.RandomState(0)

    def labels():
        """Blocks of any class, crowds, void."""
        classes = random.choice([0, 1, 2, 3, 255], (3, 4))
        instances = np.where(np.isin(classes, DATASET.thing_ids), random.randint(0, 3, classes.shape), 0)
        return np.kron(classes * 10 + instances, np.ones((3, 3), np.int32)).astype(np.int32)

    panoptic, semantic = error_analysis.Analysis(DATASET), error_analysis.Analysis(CLASSES)
    quality = panoptic_quality.PanopticQuality(4, 255, 10, DATASET.thing_ids)
    iou = mean_iou.MeanIoU(4, 255)
    for _ in range(25):
        true = labels()
        pred = np.where(random.rand(*true.shape) < 0.75, true, labels())
        panoptic.add("", true, pred)
        semantic.add("", true // 10, pred // 10)
        quality.update_state(true, pred)
        iou.update_state(true // 10, pred // 10)
    expected, counts = quality.result(), panoptic.counts
    np.testing.assert_array_equal(counts.matched, expected["tp"])
    np.testing.assert_array_equal(counts.poor + counts.wrong_pred + counts.false, expected["fp"])
    np.testing.assert_array_equal(counts.poor + counts.wrong_true + counts.missed, expected["fn"])
    for analysis, value in ((panoptic, expected["pq"]), (semantic, iou.result()["iou"])):
        found = analysis.breakdown()
        assert found.quality == pytest.approx(float(value), rel=1e-12)
        assert found.quality + sum(part.lost for part in found.parts) == pytest.approx(1, abs=1e-12)
        assert all(part.if_fixed > found.quality for part in found.parts if part.number)
