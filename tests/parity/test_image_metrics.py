"""Metrics of single images against the official tools and formulas."""

import numpy as np
import pytest
import tensorflow as tf

from evaluation import boundary_quality, depth, instance_ap, mean_iou, parsing_covering, surface_normals
from tests import shared

MODES = ("eager", "graph", "xla")


def update(metric, mode, inputs):
    """Feeds every tuple of arrays to the metric, eagerly, in a graph of any size, or compiled."""

    def step(*arrays):
        metric.update_state(*arrays)

    if mode == "graph":
        specs = [tf.TensorSpec([None] * each.ndim, each.dtype) for each in inputs[0]]
        if specs[0].shape.rank == 3:
            specs = [tf.TensorSpec([None, None, 3], spec.dtype) for spec in specs]
        step = tf.function(step, input_signature=specs)
    elif mode == "xla":
        step = tf.function(step, jit_compile=True)
    for arrays in inputs:
        step(*[tf.constant(each) for each in arrays])


def images(arrays, config, *names):
    return [tuple(arrays[f"{name}_{i:03d}"] for name in names) for i in range(config["num_images"])]


def options(config):
    return config["num_classes"], config["ignore_label"], config["label_divisor"], config["thing_classes"]


@pytest.mark.parametrize("mode", MODES)
def test_boundary_quality_equals_the_official_tool(mode):
    manifest, expected = shared.case("boundary_pq")
    config = manifest["config"]
    metric = boundary_quality.BoundaryQuality(*options(config), dilation_ratio=manifest["dilation_ratio"])
    update(metric, mode, images(expected, config, "gt", "pred"))
    result = metric.result()
    for key in ("tp", "fp", "fn"):
        np.testing.assert_array_equal(result[key], expected[key])
    np.testing.assert_allclose(result["iou"], expected["iou"], rtol=1e-12)
    per_class = np.stack([result[f"{key}_per_class"] for key in ("pq", "sq", "rq")], axis=1)
    np.testing.assert_allclose(per_class, expected["per_class_pq_sq_rq"], rtol=1e-12)
    summary = [[result[key + group] for key in ("pq", "sq", "rq", "n")] for group in ("", "_things", "_stuff")]
    np.testing.assert_allclose(summary, expected["summary"], rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_parsing_covering_equals_the_official_tool(mode):
    manifest, expected = shared.case("pc")
    config = manifest["config"]
    for relative_area, suffix in ((True, ""), (False, "_unnormalised")):
        metric = parsing_covering.ParsingCovering(*options(config), relative_area=relative_area)
        update(metric, mode, images(expected, config, "gt", "pred"))
        result = metric.result()
        np.testing.assert_allclose(result["weighted_iou"], expected["weighted_iou" + suffix], rtol=1e-12)
        if relative_area:
            np.testing.assert_allclose(result["gt_area"], expected["gt_area"], rtol=1e-12)
        np.testing.assert_allclose(result["pc_per_class"], expected["per_class" + suffix], rtol=1e-12)
        found = [result["pc" + group] for group in ("", "_things", "_stuff")]
        np.testing.assert_allclose(found, expected["pc" + suffix], rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_depth_equals_the_formulas(mode):
    manifest, expected = shared.case("depth")
    metric = depth.DepthErrors(min_depth=manifest["config"]["min_depth"])
    update(metric, mode, images(expected, manifest["config"], "gt", "pred"))
    result = metric.result()
    columns = [name.replace("_per_km", "") for name in manifest["outputs"]["columns"]]
    assert sorted(columns) == sorted(depth.MEASURES)
    np.testing.assert_allclose([result[name] for name in columns], expected["mean_over_images"], rtol=1e-6)
    np.testing.assert_allclose([result[f"{name}_pooled"] for name in columns], expected["pooled"], rtol=1e-6)
    assert result["n_pixels"] == expected["count"].sum()
    assert result["n_images"] == (expected["count"] > 0).sum()
    assert result["not_finite"] == 0


def test_depth_of_every_image_alone():
    manifest, expected = shared.case("depth")
    columns = [name.replace("_per_km", "") for name in manifest["outputs"]["columns"]]
    metric = depth.DepthErrors()
    for pair, row in zip(images(expected, manifest["config"], "gt", "pred"), expected["per_image"]):
        metric.reset_state()
        metric.update_state(*pair)
        result = metric.result()
        if np.isnan(row).all():
            assert result["n_images"] == 0 and result["abs_rel"] == 0
        else:
            np.testing.assert_allclose([result[name] for name in columns], row, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_surface_normals_equal_the_formula(mode):
    manifest, expected = shared.case("normals")
    metric = surface_normals.SurfaceNormalErrors()
    update(metric, mode, images(expected, manifest["config"], "gt", "pred"))
    result = metric.result()
    mean, median, rmse, *shares = expected["stats"]
    np.testing.assert_allclose([result["mean"], result["rmse"]], [mean, rmse], atol=1e-4)
    np.testing.assert_allclose(result["median"], median, atol=0.005)
    np.testing.assert_allclose([result[f"below_{x}"] for x in ("11_25", "22_5", "30")], shares, atol=1e-12)
    assert result["n_pixels"] == expected["count"]


@pytest.mark.parametrize("mode", MODES)
def test_frequency_weighted_iou_follows_from_the_official_confusion(mode):
    manifest, expected = shared.case("miou")
    config = manifest["config"]
    metric = mean_iou.MeanIoU(config["num_classes"], config["ignore_label"])
    update(metric, mode, images(expected, config, "gt", "pred"))
    frequency = expected["confusion"][:-1].sum(axis=1)
    weighted = np.sum(frequency * np.nan_to_num(expected["iou"])) / frequency.sum()
    np.testing.assert_allclose(metric.result()["frequency_weighted_iou"], weighted, rtol=1e-12)
    recall = (np.diag(expected["confusion"])[:-1] / np.maximum(frequency, 1))[frequency > 0]
    np.testing.assert_allclose(metric.result()["class_accuracy"], recall.mean(), rtol=1e-12)
    assert metric.result()["n_true"] == len(recall)


@pytest.mark.parametrize("mode", MODES)
def test_coco_average_precision_equals_pycocotools(mode):
    manifest, expected = shared.case("ap_pycocotools")
    config = manifest["config"]
    metric = instance_ap.CocoAveragePrecision(*options(config), max_detections=256)
    update(metric, mode, images(expected, config, "gt", "pred", "semantic_score", "instance_score"))
    result = metric.result()
    np.testing.assert_allclose([result[name] for name in instance_ap.COCO_STATS], expected["stats"], atol=1e-12)
    np.testing.assert_allclose(result["precision"], expected["precision"], atol=1e-12)
    np.testing.assert_allclose(result["recall"], expected["recall"], atol=1e-12)
    scores = np.sort(metric.sorted_records(40).scores.numpy().astype(np.float32))
    np.testing.assert_array_equal(scores, np.sort(expected["detection_scores"]))


@pytest.mark.parametrize("mode", MODES)
def test_cityscapes_average_precision_equals_the_official_tool(mode):
    manifest, expected = shared.case("ap_cityscapes")
    config = manifest["config"]
    metric = instance_ap.CityscapesAveragePrecision(
        19, config["ignore_label"], config["label_divisor"], config["thing_classes"], max_detections=256
    )
    update(metric, mode, images(expected, config, "gt", "pred", "semantic_score", "instance_score"))
    result = metric.result()
    np.testing.assert_allclose(result["ap_per_iou"], expected["ap"], atol=1e-9)
    np.testing.assert_allclose([result["ap"], result["ap50"]], [expected["all_ap"], expected["all_ap50"]], atol=1e-9)
    scores = np.sort(metric.sorted_records(10).scores.numpy().astype(np.float32))
    np.testing.assert_array_equal(scores, np.sort(expected["detection_scores"]))
