import contextlib
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from evaluation import boundary_quality, instance_ap, segments

CLASSES, IGNORE, DIVISOR, THINGS = 4, 255, 1000, (0, 1, 2)
VOID = IGNORE * DIVISOR
STUFF = 3 * DIVISOR


def coco(**options):
    options = {"max_detections": 4096, **options}
    return instance_ap.CocoAveragePrecision(CLASSES, IGNORE, DIVISOR, THINGS, **options)


def cityscapes(**options):
    options = {"max_detections": 4096, **options}
    return instance_ap.CityscapesAveragePrecision(CLASSES, IGNORE, DIVISOR, THINGS, **options)


def scene(rng, size, *, block=4):
    """Ground truth, prediction, two score maps; equal blocks give IoUs of exactly a half, coarse scores give ties."""
    labels = [STUFF, VOID, *(c * DIVISOR + i for c in THINGS for i in range(4))]
    if rng.uniform() < 0.15:
        labels = rng.choice(labels, 1)  # one segment: all void, all crowd, ...
    y_true = rng.choice(labels, (size // block, size // block)).repeat(block, 0).repeat(block, 1)
    for _ in range(rng.integers(0, 3)):
        row, column, *extent = rng.integers(0, size // 2, 4)
        y_true[row : row + extent[0], column : column + extent[1]] = rng.choice(labels)
    y_pred = np.where(y_true == VOID, 1, y_true)
    for _ in range(rng.integers(1, 6)):
        row, column, *extent = rng.integers(1, size, 4) // block * block
        y_pred[row : row + extent[0], column : column + extent[1]] = rng.choice([*labels, VOID])
    scores = rng.integers(1, 9, (2, size, size)).astype(np.float32) / 8
    if rng.uniform() < 0.5:
        scores[:] = 0.5
    return (y_true.astype(np.int32), y_pred.astype(np.int32), *scores)


def scenes(seed, count=12):
    rng = np.random.default_rng(seed)
    return [scene(rng, rng.choice([12, 24, 48, 144]), block=rng.choice([2, 4, 12])) for _ in range(count)]


def detections_of(y_pred, semantic, instance):
    """Label, mask and score of every predicted thing, in the order of first appearance."""
    labels, first = np.unique(y_pred, return_index=True)
    for label in labels[np.argsort(first)]:
        if label // DIVISOR in THINGS:
            mask = y_pred == label
            score = np.float32(semantic[mask].mean(dtype=np.float64)) * np.float32(
                instance[mask].mean(dtype=np.float64)
            )
            yield label, mask, score


def pycocotools(images):
    """stats and precision of the official tool."""
    from pycocotools import mask as masks
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = {"images": [], "annotations": [], "categories": [{"id": c + 1} for c in THINGS]}
    predicted = []
    for index, (y_true, *prediction) in enumerate(images):
        truth["images"].append({"id": index + 1, "height": y_true.shape[0], "width": y_true.shape[1]})
        for label in np.unique(y_true):
            if label // DIVISOR in THINGS:
                mask = y_true == label
                truth["annotations"].append(
                    {
                        "id": len(truth["annotations"]) + 1,
                        "image_id": index + 1,
                        "category_id": int(label // DIVISOR) + 1,
                        "area": int(mask.sum()),
                        "iscrowd": int(label % DIVISOR == 0),
                        "segmentation": masks.encode(np.asfortranarray(mask.astype(np.uint8))),
                    }
                )
        for label, mask, score in detections_of(*prediction):
            predicted.append(
                {
                    "image_id": index + 1,
                    "category_id": int(label // DIVISOR) + 1,
                    "segmentation": masks.encode(np.asfortranarray(mask.astype(np.uint8))),
                    "score": float(score),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = truth
        dataset.createIndex()
        tool = COCOeval(dataset, dataset.loadRes(predicted), "segm")
        tool.evaluate()
        tool.accumulate()
        tool.summarize()
    return tool.stats, tool.eval["precision"][..., -1], tool.eval["recall"][..., -1]


def stats(metric):
    return [float(metric.result()[name]) for name in instance_ap.COCO_STATS]


@pytest.mark.parametrize("seed", range(8))
def test_random_scenes_as_pycocotools(seed):
    pytest.importorskip("pycocotools", reason="needs pycocotools")
    images = scenes(seed)
    metric = coco()
    for index, image in enumerate(images):
        metric.update_state(*image, index)
    expected, precision, recall = pycocotools(images)
    np.testing.assert_allclose(stats(metric), expected, atol=1e-12)
    np.testing.assert_allclose(metric.result()["precision"], precision, atol=1e-12)
    np.testing.assert_allclose(metric.result()["recall"], recall, atol=1e-12)


def test_more_than_a_hundred_detections_of_a_class_as_pycocotools():
    pytest.importorskip("pycocotools", reason="needs pycocotools")
    rng = np.random.default_rng(0)
    y_true = (1 + np.arange(400).reshape(20, 20)).repeat(2, 0).repeat(2, 1).astype(np.int32)
    y_pred = np.where(rng.uniform(size=y_true.shape) < 0.15, STUFF, y_true).astype(np.int32)
    images = [(y_true, y_pred, *rng.uniform(size=(2, *y_true.shape)).astype(np.float32))]
    metric = coco()
    metric.update_state(*images[0])
    expected, precision, _ = pycocotools(images)
    np.testing.assert_allclose(stats(metric), expected, atol=1e-12)
    np.testing.assert_allclose(metric.result()["precision"], precision, atol=1e-12)
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
    images = scenes(3)
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


def test_two_thousand_instances():
    y_true = np.arange(2_000).reshape(40, 50).astype(np.int32) + 1
    ones = np.ones((40, 50), np.float32)
    metric = instance_ap.CocoAveragePrecision(1, 255, 20_000, [0], max_segments=2_000, max_detections=128)
    metric.update_state(y_true, y_true, ones, ones)
    result = metric.result()
    np.testing.assert_allclose(result["ar100"], 0.05)  # the 100 best count
    assert result["overflow"] == 0


def test_boundary_precision_is_the_lower_one():
    images = scenes(5, 6)
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


RAW_IDS = {0: 24, 1: 25, 2: 26}  # person, rider, car


def official_cityscapes(images, folder):
    """AP per class and IoU of the Cityscapes scripts, from the files that they read."""
    tool = pytest.importorskip(
        "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling", reason="needs cityscapesscripts"
    )
    truth, predicted = [], []
    for index, (y_true, *prediction) in enumerate(images):
        raw = np.full(y_true.shape, 7, np.int32)  # road
        raw[y_true == VOID] = 0
        for class_id, raw_id in RAW_IDS.items():
            raw[y_true == class_id * DIVISOR] = raw_id
            inside = (y_true // DIVISOR == class_id) & (y_true % DIVISOR > 0)
            raw[inside] = raw_id * 1000 + y_true[inside] % DIVISOR - 1
        truth.append(str(folder / f"gt_{index}.png"))
        Image.fromarray(raw.astype(np.uint16)).save(truth[-1])
        lines = []
        for label, mask, score in detections_of(*prediction):
            name = f"mask_{index}_{label}.png"
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / name)
            lines.append(f"{name} {RAW_IDS[label // DIVISOR]} {float(score)!r}\n")
        predicted.append(str(folder / f"pred_{index}.txt"))
        (folder / f"pred_{index}.txt").write_text("".join(lines))
    args = tool.args
    args.quiet, args.JSONOutput, args.predictionPath = True, False, str(folder)
    args.gtInstancesFile = str(folder / "instances.json")
    args.instLabels = []
    tool.setInstanceLabels(args)
    with contextlib.redirect_stdout(io.StringIO()):
        matches = tool.matchGtWithPreds(predicted, truth, tool.getGtInstances(truth, args), args)
    values = tool.evaluateMatches(json.loads(json.dumps(matches)), args)
    names = [label.name for label in tool.labels]
    order = [args.instLabels.index(names[[label.id for label in tool.labels].index(i)]) for i in RAW_IDS.values()]
    return np.asarray(values)[0][order]  # the first of the distance settings has no limit


@pytest.mark.parametrize("seed", range(4))
def test_random_scenes_as_the_cityscapes_scripts(seed, tmp_path):
    images = scenes(100 + seed)
    expected = official_cityscapes(images, tmp_path)
    metric = cityscapes()
    for image in images:
        metric.update_state(*image)
    np.testing.assert_allclose(metric.result()["ap_per_iou"], expected, atol=1e-9)


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
