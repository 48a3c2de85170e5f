"""The parity cases of image metrics: what ours gives, what the official tool or formula gave."""

import functools

import numpy as np

from evaluation import (
    boundary_quality,
    depth,
    instance_ap,
    mean_iou,
    panoptic_quality,
    parsing_covering,
    surface_normals,
)
from tests import shared
from tests.parity import checks

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


def _num_images(manifest, arrays):
    return f"{manifest['config']['num_images']} images"


def _equal(result, expected, *names):
    return [checks.Check(name, result[name], expected[name]) for name in names]


def _panoptic_quality(folder, mode, make=panoptic_quality.PanopticQuality):
    manifest, expected = shared.case(folder)
    options = {"dilation_ratio": manifest["dilation_ratio"]} if "dilation_ratio" in manifest else {}
    metric = make(*checks.arguments(manifest["config"]), **options)
    fill = None if options else checks.void(manifest["config"])  # boundaries depend on the size
    checks.update(metric, mode, checks.images(expected, manifest["config"], "gt", "pred"), fill=fill)
    result = metric.result()
    per_class = np.stack([result[f"{key}_per_class"] for key in ("pq", "sq", "rq")], axis=1)
    summary = [[result[key + group] for key in ("pq", "sq", "rq", "n")] for group in checks.GROUPS]
    return [
        *_equal(result, expected, "tp", "fp", "fn"),
        checks.Check("iou", result["iou"], expected["iou"], rtol=1e-12),
        checks.Check("per class", per_class, expected["per_class_pq_sq_rq"], rtol=1e-12),
        checks.Check("summary", np.array(summary), expected["summary"], rtol=1e-12),
        checks.Check("left out", result["overflow"] + result["invalid"], 0.0),
    ]


def _mean_iou(mode):
    manifest, expected = shared.case("miou")
    config = manifest["config"]
    results = {}
    for variant in mean_iou.VARIANTS:
        metric = mean_iou.MeanIoU(config["num_classes"], config["ignore_label"], variant=variant)
        checks.update(metric, mode, checks.images(expected, config, "gt", "pred"))
        results[variant] = metric.result()
    found = results["present"]
    frequency = expected["confusion"][:-1].sum(axis=1)
    weighted = np.sum(frequency * np.nan_to_num(expected["iou"])) / frequency.sum()
    recall = (np.diag(expected["confusion"])[:-1] / np.maximum(frequency, 1))[frequency > 0]
    return [
        checks.Check("confusion", found["confusion"], expected["confusion"]),
        checks.Check("iou", found["iou_per_class"], expected["iou"], rtol=1e-12),
        checks.Check("miou", found["iou"], expected["miou"], rtol=1e-12),
        checks.Check("all classes", results["all"]["iou"], expected["miou_all_classes_zero"], rtol=1e-12),
        checks.Check("stq", results["stq"]["iou"], expected["miou_stq"], rtol=1e-12),
        checks.Check("accuracy", found["accuracy"], expected["pixel_accuracy"], rtol=1e-12),
        # These follow from the official confusion.
        checks.Check("frequency weighted", found["frequency_weighted_iou"], weighted, rtol=1e-12),
        checks.Check("class accuracy", found["class_accuracy"], recall.mean(), rtol=1e-12),
        checks.Check("true classes", found["n_true"], float(len(recall))),
    ]


def _instance_weighted_iou(mode):
    manifest, expected = shared.case("miou")
    _, panoptic = shared.case("pq_cityscapes")
    metric = mean_iou.InstanceWeightedIoU(19, 255, 1000, MEAN_SIZES)
    count = manifest["config"]["num_images"]
    checks.update(metric, mode, [(panoptic[f"gt_{i:03d}"], expected[f"pred_{i:03d}"]) for i in range(count)])
    result = metric.result()
    return [
        checks.Check("iiou", result["iiou_per_class"], expected["iiou"], rtol=1e-12),
        checks.Check("mean", result["iiou"], np.nanmean(expected["iiou"]), rtol=1e-12),
    ]


def _parsing_covering(mode):
    manifest, expected = shared.case("pc")
    rows = []
    for relative_area, suffix in ((True, ""), (False, "_unnormalised")):
        metric = parsing_covering.ParsingCovering(*checks.arguments(manifest["config"]), relative_area=relative_area)
        checks.update(metric, mode, checks.images(expected, manifest["config"], "gt", "pred"))
        result = metric.result()
        rows += [
            checks.Check(
                "weighted iou" + suffix, result["weighted_iou"], expected["weighted_iou" + suffix], rtol=1e-12
            ),
            checks.Check("per class" + suffix, result["pc_per_class"], expected["per_class" + suffix], rtol=1e-12),
            checks.Check(
                "pc" + suffix, [result["pc" + group] for group in checks.GROUPS], expected["pc" + suffix], rtol=1e-12
            ),
        ]
        if relative_area:
            rows.append(checks.Check("area", result["gt_area"], expected["gt_area"], rtol=1e-12))
    return rows


def _detections(folder, mode):
    manifest, expected = shared.case(folder)
    make = {"ap_pycocotools": instance_ap.CocoAveragePrecision, "ap_cityscapes": instance_ap.CityscapesAveragePrecision}
    metric = make[folder](*checks.arguments(manifest["config"]), max_detections=256)
    inputs = checks.images(expected, manifest["config"], "gt", "pred", "semantic_score", "instance_score")
    checks.update(metric, mode, inputs, fill=checks.void(manifest["config"]))
    result = metric.result()
    scores = np.sort(metric.sorted_records(10).scores.numpy().astype(np.float32))
    rows = [checks.Check("scores", scores, np.sort(expected["detection_scores"]))]
    if folder == "ap_cityscapes":
        return rows + [
            checks.Check("ap", result["ap_per_iou"], expected["ap"], atol=1e-9),
            checks.Check("mean", [result["ap"], result["ap50"]], [expected["all_ap"], expected["all_ap50"]], atol=1e-9),
        ]
    return rows + [
        checks.Check("stats", [result[name] for name in instance_ap.COCO_STATS], expected["stats"], atol=1e-12),
        checks.Check("precision", result["precision"], expected["precision"], atol=1e-12),
        checks.Check("recall", result["recall"], expected["recall"], atol=1e-12),
    ]


def _depth(mode):
    manifest, expected = shared.case("depth")
    metric = depth.DepthErrors(min_depth=manifest["config"]["min_depth"])
    checks.update(metric, mode, checks.images(expected, manifest["config"], "gt", "pred"))
    result = metric.result()
    names = [name.replace("_per_km", "") for name in manifest["outputs"]["columns"]]
    assert sorted(names) == sorted(depth.MEASURES)
    return [
        checks.Check("images", [result[name] for name in names], expected["mean_over_images"], rtol=1e-6),
        checks.Check("pooled", [result[f"{name}_pooled"] for name in names], expected["pooled"], rtol=1e-6),
        checks.Check("pixels", result["n_pixels"], float(expected["count"].sum())),
        checks.Check("number of images", result["n_images"], float((expected["count"] > 0).sum())),
        checks.Check("left out", result["not_finite"], 0.0),
    ]


def _normals(mode):
    manifest, expected = shared.case("normals")
    metric = surface_normals.SurfaceNormalErrors()
    checks.update(metric, mode, checks.images(expected, manifest["config"], "gt", "pred"))
    result = metric.result()
    mean, median, rmse, *shares = expected["stats"]
    return [
        checks.Check("mean and rmse", [result["mean"], result["rmse"]], [mean, rmse], atol=1e-4),
        checks.Check("median", result["median"], median, atol=0.005),
        checks.Check("shares", [result[f"below_{x}"] for x in ("11_25", "22_5", "30")], shares, atol=1e-12),
        checks.Check("pixels", result["n_pixels"], float(expected["count"])),
    ]


CASES = {
    "pq_coco": checks.Case(
        "PQ (COCO)", "pq_panopticapi", _num_images, functools.partial(_panoptic_quality, "pq_panopticapi")
    ),
    "pq_cityscapes": checks.Case(
        "PQ (Cityscapes)", "pq_cityscapes", _num_images, functools.partial(_panoptic_quality, "pq_cityscapes")
    ),
    "boundary_pq": checks.Case(
        "boundary PQ",
        "boundary_pq",
        _num_images,
        functools.partial(_panoptic_quality, "boundary_pq", make=boundary_quality.BoundaryQuality),
    ),
    "mean_iou": checks.Case("mean IoU", "miou", _num_images, _mean_iou),
    "iiou": checks.Case("iIoU (Cityscapes)", "miou", _num_images, _instance_weighted_iou),
    "coco_ap": checks.Case(
        "AP (COCO)", "ap_pycocotools", _num_images, functools.partial(_detections, "ap_pycocotools")
    ),
    "cityscapes_ap": checks.Case(
        "AP (Cityscapes)", "ap_cityscapes", _num_images, functools.partial(_detections, "ap_cityscapes")
    ),
    "parsing_covering": checks.Case("parsing covering", "pc", _num_images, _parsing_covering),
    "depth": checks.Case("depth", "depth", _num_images, _depth),
    "normals": checks.Case("surface normals", "normals", _num_images, _normals),
}
