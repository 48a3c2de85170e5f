"""Our metrics and official tools that are installed here, on the same maps."""

import functools
import pathlib
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from evaluation import instance_ap, mean_iou, mots, panoptic_quality
from tests.evaluation import official, scenes
from tests.parity import checks, image_metrics


class Comparison(NamedTuple):
    """One metric beside one tool."""

    title: str
    tool: str  # of official.PACKAGES
    count: str  # how much there is in a seed
    compare: Callable[[int, pathlib.Path], list[checks.Check]]  # of a seed and an empty folder


def _updated(metric, images):
    for image in images:
        metric.update_state(*[tf.constant(each) for each in image])
    return metric.result()


def _panoptic_quality(tool, seed, folder):
    images = [each[:2] for each in scenes.scenes(seed)]
    theirs, _ = official.panoptic_counts(tool, images, folder, scenes.DATA)
    ours = _updated(panoptic_quality.PanopticQuality(*scenes.DATA.arguments()), images)
    exact = [checks.Check(key, ours[key], theirs[key]) for key in ("tp", "fp", "fn")]
    return [*exact, checks.Check("iou", ours["iou"], theirs["iou"], rtol=1e-12)]


def _coco_ap(seed, folder):
    images = scenes.scenes(seed)
    theirs, _ = official.coco_ap(images, scenes.DATA)
    metric = instance_ap.CocoAveragePrecision(*scenes.DATA.arguments(), max_detections=4096)
    ours = _updated(metric, [(*image, index) for index, image in enumerate(images)])
    stats = np.array([ours[name] for name in instance_ap.COCO_STATS])
    return [
        checks.Check("stats", stats, theirs["stats"], atol=1e-12),
        checks.Check("precision", ours["precision"], theirs["precision"], atol=1e-12),
        checks.Check("recall", ours["recall"], theirs["recall"], atol=1e-12),
    ]


def _cityscapes_ap(seed, folder):
    images = scenes.scenes(100 + seed)
    theirs, _ = official.cityscapes_ap(images, folder, scenes.DATA)
    metric = instance_ap.CityscapesAveragePrecision(*scenes.DATA.arguments(), max_detections=4096)
    return [checks.Check("ap", _updated(metric, images)["ap_per_iou"], theirs, atol=1e-9)]


def _cityscapes_iou(seed, folder):
    images = [each[:2] for each in scenes.scenes(seed)]
    theirs, _ = official.cityscapes_iou(images, folder, scenes.DATA)
    labels, divisor = scenes.DATA.labels, scenes.DATA.labels.label_divisor
    ours = _updated(mean_iou.MeanIoU(*labels[:2]), [(true // divisor, pred // divisor) for true, pred in images])
    sizes = {0: image_metrics.MEAN_SIZES[11], 1: image_metrics.MEAN_SIZES[12], 2: image_metrics.MEAN_SIZES[13]}
    weighted = _updated(
        mean_iou.InstanceWeightedIoU(*labels, sizes), [(true, pred // divisor) for true, pred in images]
    )
    return [
        checks.Check("iou", ours["iou_per_class"], theirs["iou"], rtol=1e-12),
        checks.Check("iiou", weighted["iiou_per_class"], theirs["iiou"], rtol=1e-12),
    ]


def _mots(seed, folder):
    videos = [scenes.video(10 * seed + i) for i in range(2)]
    theirs, _ = official.mots(videos, folder, scenes.TRACKS)
    metric = mots.TrackingAndSegmentation(*scenes.TRACKS.arguments(), max_segments=32, max_tracks=32)
    ours = _updated(metric, [(*maps, sequence) for sequence, maps in enumerate(videos)])
    found = []
    for class_id, values in theirs.items():
        assert values["CLR_TP"] > 0
        for key, name in (("tp", "CLR_TP"), ("fp", "CLR_FP"), ("fn", "CLR_FN"), ("ids", "IDSW")):
            found.append(checks.Check(key, ours[key][class_id], float(values[name])))
        for key, name in (("smotsa", "sMOTA"), ("motsa", "MOTA"), ("motsp", "MOTP")):
            found.append(checks.Check(key, ours[f"{key}_per_class"][class_id], values[name], rtol=1e-9))
    return found


COMPARISONS = {
    "pq_coco": Comparison("PQ (COCO)", "panopticapi", "12 images", functools.partial(_panoptic_quality, "panopticapi")),
    "pq_cityscapes": Comparison(
        "PQ (Cityscapes)", "cityscapesscripts", "12 images", functools.partial(_panoptic_quality, "cityscapesscripts")
    ),
    "mean_iou": Comparison("mean IoU, iIoU", "cityscapesscripts", "12 images", _cityscapes_iou),
    "coco_ap": Comparison("AP (COCO)", "pycocotools", "12 images", _coco_ap),
    "cityscapes_ap": Comparison("AP (Cityscapes)", "cityscapesscripts", "12 images", _cityscapes_ap),
    "mots": Comparison("MOTSA, sMOTSA, MOTSP", "trackeval", "24 frames", _mots),
}
