"""Panoptic quality and mean IoU against the official COCO and Cityscapes tools."""

import numpy as np
import pytest
import tensorflow as tf

from evaluation import mean_iou, panoptic_quality
from tests import shared

MODES = ("eager", "graph", "xla")
MEAN_SIZES = {  # pixels of an average instance, from the Cityscapes scripts, by train id
    11: 3462.4756337644,
    12: 3930.4788056518,
    13: 12794.0202738185,
    14: 27855.1264367816,
    15: 35732.1511111111,
    16: 67583.7075812274,
    17: 6298.7200839748,
    18: 4672.3249222261,
}


def update(metric, mode, pairs):
    """Feeds every pair of maps to the metric, eagerly, in a graph of any size, or compiled."""
    if mode == "eager":
        for y_true, y_pred in pairs:
            metric.update_state(tf.constant(y_true), tf.constant(y_pred))
        return
    shape = tf.TensorSpec([None, None], tf.int32)

    @tf.function(jit_compile=mode == "xla", input_signature=None if mode == "xla" else [shape, shape])
    def step(y_true, y_pred):
        metric.update_state(y_true, y_pred)

    for y_true, y_pred in pairs:
        step(tf.constant(y_true), tf.constant(y_pred))


def maps(arrays, count):
    return [(arrays[f"gt_{i:03d}"], arrays[f"pred_{i:03d}"]) for i in range(count)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["pq_panopticapi", "pq_cityscapes"])
def test_panoptic_quality_equals_the_official_tool(name, mode):
    manifest, expected = shared.case(name)
    config = manifest["config"]
    metric = panoptic_quality.PanopticQuality(
        config["num_classes"], config["ignore_label"], config["label_divisor"], config["thing_classes"]
    )
    update(metric, mode, maps(expected, config["num_images"]))
    result = metric.result()
    for key in ("tp", "fp", "fn"):
        np.testing.assert_array_equal(result[key], expected[key])
    np.testing.assert_allclose(result["iou"], expected["iou"], rtol=1e-12)
    per_class = np.stack([result[f"{key}_per_class"] for key in ("pq", "sq", "rq")], axis=1)
    np.testing.assert_allclose(per_class, expected["per_class_pq_sq_rq"], rtol=1e-12)
    summary = [[result[key + group] for key in ("pq", "sq", "rq", "n")] for group in ("", "_things", "_stuff")]
    np.testing.assert_allclose(summary, expected["summary"], rtol=1e-12)
    assert result["overflow"] == 0 and result["invalid"] == 0


def test_every_image_alone_equals_the_official_tool():
    manifest, expected = shared.case("pq_panopticapi")
    config = manifest["config"]
    metric = panoptic_quality.PanopticQuality(
        config["num_classes"], config["ignore_label"], config["label_divisor"], config["thing_classes"]
    )
    for index, pair in enumerate(maps(expected, config["num_images"])):
        metric.reset_state()
        metric.update_state(*pair)
        for key in ("tp", "fp", "fn", "iou"):
            np.testing.assert_allclose(metric.result()[key], expected[f"per_image_{key}"][index], rtol=1e-12)


def test_crowd_as_void_is_deeplab2():
    manifest, expected = shared.case("pq_panopticapi")
    config = manifest["config"]
    metric = panoptic_quality.PanopticQuality(
        config["num_classes"],
        config["ignore_label"],
        config["label_divisor"],
        config["thing_classes"],
        crowd_as_void=True,
    )
    update(metric, "graph", maps(expected, config["num_images"]))
    assert round(float(metric.result()["pq"]), 4) == 0.5686
    assert tf.reduce_sum(metric.result()["fp"]) == 101


@pytest.mark.parametrize("mode", MODES)
def test_mean_iou_equals_the_official_tool(mode):
    manifest, expected = shared.case("miou")
    config = manifest["config"]
    results = {}
    for variant in mean_iou.VARIANTS:
        metric = mean_iou.MeanIoU(config["num_classes"], config["ignore_label"], variant=variant)
        update(metric, mode, maps(expected, config["num_images"]))
        results[variant] = metric.result()
    np.testing.assert_array_equal(results["present"]["confusion"], expected["confusion"])
    np.testing.assert_allclose(results["present"]["iou_per_class"], expected["iou"], rtol=1e-12)
    np.testing.assert_allclose(results["present"]["iou"], expected["miou"], rtol=1e-12)
    np.testing.assert_allclose(results["all"]["iou"], expected["miou_all_classes_zero"], rtol=1e-12)
    np.testing.assert_allclose(results["stq"]["iou"], expected["miou_stq"], rtol=1e-12)
    np.testing.assert_allclose(results["present"]["accuracy"], expected["pixel_accuracy"], rtol=1e-12)


@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_instance_weighted_iou_equals_the_official_tool(mode):
    manifest, expected = shared.case("miou")
    _, panoptic = shared.case("pq_cityscapes")
    metric = mean_iou.InstanceWeightedIoU(19, 255, 1000, MEAN_SIZES)
    count = manifest["config"]["num_images"]
    update(metric, mode, [(panoptic[f"gt_{i:03d}"], expected[f"pred_{i:03d}"]) for i in range(count)])
    np.testing.assert_allclose(metric.result()["iiou_per_class"], expected["iiou"], rtol=1e-12)
    np.testing.assert_allclose(metric.result()["iiou"], np.nanmean(expected["iiou"]), rtol=1e-12)


COLORS = {
    (0, 0, 0): 0,
    (0, 0, 255): 1,
    (255, 0, 0): 2,
    (0, 255, 0): 3,
    (255, 0, 255): 4,
    (0, 255, 255): 5,
    (255, 255, 0): 6,
}


def picture_case(name, divisor):
    """Ground truth and prediction of one of DeepLab2's test pictures, as panoptic labels."""
    from PIL import Image

    folder = shared.path("data", "reference_testdata", "evaluation")

    def ids(file, mode):
        return np.asarray(Image.open(folder / file).convert(mode)).astype(np.int32)

    true_ids = ids("team_gt_instance.png" if name == "team" else f"{name}_gt.png", "L")
    classes = {"bird": {92: 5, 176: 3, 255: 4}, "cat": {0: 0, 255: 6}, "team": {0: 0, 198: 2}}[name]
    true_class = np.vectorize(lambda value: classes.get(value, 1))(true_ids).astype(np.int32)
    rgb = ids(f"{name}_pred_class.png", "RGB")
    pred_class = np.zeros(rgb.shape[:2], np.int32)
    for color, index in COLORS.items():
        pred_class[(rgb == color).all(-1)] = index
    return true_class * divisor + true_ids, pred_class * divisor + ids(f"{name}_pred_instance.png", "L")


def test_reference_picture_team():
    metric = panoptic_quality.PanopticQuality(3, 0, 1000, thing_ids=[1, 2])
    metric.update_state(*picture_case("team", 1000))
    result = metric.result()
    np.testing.assert_allclose([result[k] for k in ("pq", "sq", "rq")], [0.62156284, 0.64664984, 0.9666667], rtol=1e-6)
    # The reference gives means over the classes that occur: 4 and 0.5.
    assert [float(tf.reduce_sum(result[key])) / 2 for key in ("tp", "fn", "fp")] == [4.0, 0.5, 0.0]


def test_reference_pictures_together():
    metric = panoptic_quality.PanopticQuality(7, 0, 256, thing_ids=[1, 2, 4, 6])
    for name in ("bird", "cat", "team"):
        metric.update_state(*picture_case(name, 256))
    result = metric.result()
    np.testing.assert_allclose([result[k] for k in ("pq", "sq", "rq")], [0.76855499, 0.7769174, 0.98888892], rtol=1e-6)
    assert [float(tf.reduce_sum(result[key])) for key in ("tp", "fn", "fp", "n")] == [12.0, 1.0, 0.0, 6.0]
