import numpy as np
import pytest
import tensorflow as tf

from evaluation import boundary_quality, instance_ap, segments
from tests.evaluation import official, scenes

CLASSES, IGNORE, DIVISOR, THINGS = 4, 255, 1000, (0, 1, 2)
VOID, STUFF = scenes.VOID, scenes.STUFF


def coco(**options):
    options = {"max_detections": 4096, **options}
    return instance_ap.CocoAveragePrecision(CLASSES, IGNORE, DIVISOR, THINGS, **options)


def cityscapes(**options):
    options = {"max_detections": 4096, **options}
    return instance_ap.CityscapesAveragePrecision(CLASSES, IGNORE, DIVISOR, THINGS, **options)


def stats(metric):
    return [float(metric.result()[name]) for name in instance_ap.COCO_STATS]


def test_more_than_a_hundred_detections_of_a_class_as_pycocotools():
    official.need("pycocotools")
    rng = np.random.default_rng(0)
    y_true = (1 + np.arange(400).reshape(20, 20)).repeat(2, 0).repeat(2, 1).astype(np.int32)
    y_pred = np.where(rng.uniform(size=y_true.shape) < 0.15, STUFF, y_true).astype(np.int32)
    images = [(y_true, y_pred, *rng.uniform(size=(2, *y_true.shape)).astype(np.float32))]
    metric = coco()
    metric.update_state(*images[0])
    expected, _ = official.coco_ap(images, scenes.DATA)
    np.testing.assert_allclose(stats(metric), expected["stats"], atol=1e-12)
    np.testing.assert_allclose(metric.result()["precision"], expected["precision"], atol=1e-12)
    assert metric.result()["overflow"] == 0


def one_row(y_true, y_pred, scores):
    ones = np.ones((1, len(y_true)), np.float32)
    return np.array([y_true], np.int32), np.array([y_pred], np.int32), ones, np.array([scores], np.float32)


class TestCocoByHand:
    def result(self, *images):
        metric = coco()
        for image in images:
            metric.update_state(*one_row(*image))
        return metric.result()

    def test_ground_truth_against_itself(self):
        labels = [1, 1, 2, 1001, STUFF, VOID]
        found = self.result((labels, labels, [0.5] * 6))
        for name in ("ap", "ap50", "ap75", "ap_small", "ar10", "ar100", "ar_small"):
            np.testing.assert_allclose(found[name], 1)
        assert found["ar1"] == 0.75  # one of the two of class 0, the one of class 1
        assert found["ap_medium"] == found["ap_large"] == found["ar_large"] == -1
        assert found["n"] == 2
        np.testing.assert_allclose(found["ap_per_class"], [1, 1, -1, -1])

    def test_an_iou_of_exactly_a_half_is_a_match_at_the_first_threshold(self):
        found = self.result(([1, 1], [1, STUFF], [1, 1]))
        np.testing.assert_allclose([found["ap50"], found["ap75"]], [1, 0])
        np.testing.assert_allclose(found["ap"], 0.1)

    def test_two_halves(self):
        # The better one matches; the other is a false positive behind it.
        found = self.result(([1, 1], [1, 2], [0.4, 0.6]))
        np.testing.assert_allclose([found["ap50"], found["ar100"]], [1, 0.1])
        # One detection, two instances: only one is found.
        assert abs(float(self.result(([1, 2], [1, 1], [1, 1]))["precision"][0, :, 0, 0].numpy().sum()) - 51) < 1e-9

    def test_a_false_positive_ahead(self):
        # Precision 1/2 at every recall.
        np.testing.assert_allclose(self.result(([1, STUFF], [1, 2], [0.5, 0.9]))["ap"], 0.5)

    def test_on_a_crowd_nothing_counts(self):
        found = self.result(([0, 0, 1], [2, 3, 1], [0.9, 0.9, 0.5]))
        np.testing.assert_allclose(found["ap"], 1)
        assert self.result(([0, 0], [2, 3], [1, 1]))["ap"] == -1

    def test_void_excuses_nothing(self):
        np.testing.assert_allclose(self.result(([VOID, 1], [2, 1], [0.9, 0.5]))["ap"], 0.5)

    def test_no_detections(self):
        assert self.result(([1, 1], [STUFF, VOID], [1, 1]))["ap"] == 0
        assert self.result(([STUFF, VOID], [STUFF, VOID], [1, 1]))["ap"] == -1


def test_the_order_of_images_does_not_matter_where_they_have_ids():
    images = scenes.scenes(3, 6)
    forward, backward, parts = coco(), coco(), [coco(), coco()]
    for index, image in enumerate(images):
        forward.update_state(*image, index)
        parts[(index + 1) % 2].update_state(*image, index)
    for index, image in reversed(list(enumerate(images))):
        backward.update_state(*image, index)
    parts[0].merge_state([parts[1]])
    assert stats(forward) == stats(backward) == stats(parts[0])


@pytest.mark.parametrize("make", [coco, cityscapes])
def test_capacity_of_detections(make):
    few = one_row([1, 2, 1001], [1, 2, 1001], [1, 1, 1])
    metric, two, one = make(max_detections=7), make(), make()
    two.update_state(*few)
    two.update_state(*few)
    one.update_state(*few)
    batch = [np.stack([each] * 3) for each in few]
    metric.update_state(*batch)
    assert metric.result()["overflow"] == 1
    np.testing.assert_array_equal(metric.result()["ap"], two.result()["ap"])
    np.testing.assert_array_equal(metric.num_true, two.num_true)
    with pytest.raises(tf.errors.InvalidArgumentError, match="max_detections"):
        make(max_detections=2).update_state(*few, strict=True)
    with pytest.raises(ValueError, match="at most 7 detections in all, got 9: raise max_detections"):
        other = make(max_detections=7)
        other.update_state(*few)
        metric.merge_state([other])


def test_scores_that_are_no_numbers():
    metric = coco()
    image = one_row([1, 2], [1, 2], [1, np.nan])
    metric.update_state(*image)
    assert metric.result()["not_finite"] == 1 and metric.result()["n"] == 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        metric.update_state(*image, strict=True)
    stuff = one_row([1, STUFF], [1, STUFF], [1, np.nan])  # nobody asks for the score of stuff
    metric.update_state(*stuff)
    assert metric.result()["not_finite"] == 1 and metric.result()["n"] == 1


def test_boundary_precision_is_the_lower_one():
    images = scenes.scenes(5, 6)
    for y_true, y_pred, *_ in images:
        labels = segments.Labels(CLASSES, IGNORE, DIVISOR)
        _, values = boundary_quality.overlaps(y_true, y_pred, labels, max_segments=20, dilation_ratio=0.02)
        assert tf.reduce_min(values) >= 0 and tf.reduce_max(values) <= 1
    plain, boundary = coco(), coco(boundary_ratio=0.02)
    for image in images:
        plain.update_state(*image)
        boundary.update_state(*image)
    assert 0 < boundary.result()["ap"] <= plain.result()["ap"]
    # A ring of 1 pixel is lost from a square of 40: IoU 38^2/40^2, boundaries 2 wide share 1 of 3 rings.
    y_true = np.full((60, 60), STUFF, np.int32)
    y_pred = y_true.copy()
    y_true[10:50, 10:50], y_pred[11:49, 11:49] = 1, 1
    ones = np.ones((60, 60), np.float32)
    plain, boundary = coco(), coco(boundary_ratio=0.02)
    for metric in (plain, boundary):
        metric.update_state(y_true, y_pred, ones, ones)
    np.testing.assert_allclose([plain.result()["ap"], boundary.result()["ap"]], [0.9, 0.0])


class TestCityscapesByHand:
    def result(self, *images, **options):
        metric = cityscapes(**{"min_region": 2, **options})
        for image in images:
            metric.update_state(*one_row(*image))
        return metric.result()

    def test_ground_truth_against_itself(self):
        labels = [1, 1, 2, 2, 1001, 1001, STUFF, VOID]
        found = self.result((labels, labels, [0.5] * 8))
        assert found["ap"] == found["ap50"] == 1 and found["n"] == 2
        np.testing.assert_allclose(found["ap_per_class"], [1, 1, np.nan, np.nan])

    def test_an_iou_of_exactly_a_half_is_no_match(self):
        assert self.result(([1, 1], [1, STUFF], [1, 1]))["ap50"] == 0

    def test_a_false_positive_ahead(self):
        # Ascending scores: (1/2, 1), (0, 0), then (1, 0): 1/2 * (1 - 0) / 2 + 0 * 1/2 + 1 * 0.
        found = self.result(([1, 1, STUFF, STUFF], [1, 1, 2, 2], [0.5, 0.5, 0.9, 0.9]))
        np.testing.assert_allclose(found["ap"], 0.25)

    def test_void_crowd_and_small_ones_excuse(self):
        assert self.result(([1, 1, VOID, 0, 3], [1, 1, 4, 4, 4], [0.5, 0.5, 0.9, 0.9, 0.9]))["ap"] == 1
        assert self.result(([1, 1, 2], [1, 1, 2], [0.5, 0.5, 0.9]), min_region=2)["ap"] == 1

    def test_no_detections_and_no_targets(self):
        found = self.result(([1, 1], [STUFF, VOID], [1, 1]))
        assert found["ap"] == 0 and found["n"] == 1
        found = self.result(([0, 0, VOID], [1, 1, 1], [1, 1, 1]))
        assert found["ap"] == 0 and found["n"] == 0 and np.isnan(found["ap_per_class"]).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least one thing id"):
        instance_ap.CocoAveragePrecision(3, 255, 10, [])
    with pytest.raises(ValueError, match="max_detections >= 1"):
        coco(max_detections=0)
    with pytest.raises(ValueError, match="max_segments >= 1"):
        cityscapes(max_segments=0)
    with pytest.raises(ValueError, match=r"dilation_ratio in \(0, 1\)"):
        coco(boundary_ratio=2.0)
    with pytest.raises(ValueError, match="semantic_scores"):
        coco().update_state(np.zeros((2, 2), np.int32), np.zeros((2, 2), np.int32), np.zeros((2, 3)), np.zeros((2, 2)))
