"""Every metric against the official tool of its benchmark, or the formulas where there is none."""

import numpy as np
import pytest
import tensorflow as tf

from evaluation import depth, panoptic_quality
from tests import shared
from tests.parity import checks, image_metrics, video_metrics

CASES = {**image_metrics.CASES, **video_metrics.CASES}


@pytest.mark.parametrize("mode", ["eager", "graph", pytest.param("xla", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_a_metric_equals_the_official_tool(name, mode):
    for check in CASES[name].measure(mode):
        check.hold()


def test_panoptic_quality_of_every_image_alone():
    manifest, expected = shared.case("pq_panopticapi")
    metric = panoptic_quality.PanopticQuality(*checks.arguments(manifest["config"]))
    for index, pair in enumerate(checks.images(expected, manifest["config"], "gt", "pred")):
        metric.reset_state()
        metric.update_state(*pair)
        for key in ("tp", "fp", "fn", "iou"):
            np.testing.assert_allclose(metric.result()[key], expected[f"per_image_{key}"][index], rtol=1e-12)


def test_depth_of_every_image_alone():
    manifest, expected = shared.case("depth")
    columns = [name.replace("_per_km", "") for name in manifest["outputs"]["columns"]]
    metric = depth.DepthErrors()
    for pair, row in zip(checks.images(expected, manifest["config"], "gt", "pred"), expected["per_image"]):
        metric.reset_state()
        metric.update_state(*pair)
        result = metric.result()
        if np.isnan(row).all():
            assert result["n_images"] == 0 and result["abs_rel"] == 0
        else:
            np.testing.assert_allclose([result[name] for name in columns], row, rtol=1e-6, atol=1e-7)


def test_crowd_as_void_is_deeplab2():
    manifest, expected = shared.case("pq_panopticapi")
    config = manifest["config"]
    metric = panoptic_quality.PanopticQuality(*checks.arguments(config), crowd_as_void=True)
    checks.update(metric, "graph", checks.images(expected, config, "gt", "pred"))
    assert round(float(metric.result()["pq"]), 4) == 0.5686
    assert tf.reduce_sum(metric.result()["fp"]) == 101


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
