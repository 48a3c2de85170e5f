"""COCO's instance annotations and results: two JSON files, masks as run-length codes or (ground truth) polygons."""

from __future__ import annotations

import collections
import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np

from deeplab2_kmax.data import datasets
from evaluation import mask_matching
from evaluation.saved import sides


class Image(NamedTuple):
    """One image of both sides; run-length codes stay as they are in the files."""

    name: str
    number: int  # place among the sorted ids
    size: tuple[int, int]  # height, width
    truth: list[dict]
    prediction: list[dict]


class Files(NamedTuple):
    """Both files."""

    dataset: datasets.Dataset
    images: list[Image]
    num_detections: int


def load(truth_path: pathlib.Path, prediction_path: pathlib.Path) -> Files:
    """Reads both files. Classes are numbered from 1 in the order of category ids, as the tool does.

    Args:
        truth_path: JSON with `images`, `annotations`, `categories`.
        prediction_path: JSON list of results: image_id, category_id, segmentation, score.

    Raises:
        ValueError: files that are not in the format, or results for images or categories that are not there.
    """
    content = sides.read_json(truth_path)
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise ValueError(f"{truth_path}: expected COCO instances: lists {', '.join(lists)}.")
    results = sides.read_json(prediction_path)
    if not isinstance(results, list):
        raise ValueError(f"{prediction_path}: expected a list of COCO results.")
    for name, fields in (("images", ("id", "height", "width")), ("categories", ("id",))):
        for each in content[name]:
            if not isinstance(each, dict) or not all(isinstance(each.get(field), int) for field in fields):
                raise ValueError(
                    f"{truth_path}: expected {name} with the numbers {', '.join(fields)}, got {each!r:.80}."
                )
    categories = sorted(content["categories"], key=lambda category: category["id"])
    classes = {category["id"]: index for index, category in enumerate(categories, start=1)}
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    truth, predicted = (
        _by_image(annotations, path, needed, sizes, classes)
        for annotations, path, needed in (
            (content["annotations"], truth_path, ("segmentation",)),
            (results, prediction_path, ("segmentation", "score")),
        )
    )
    images = [
        Image(str(image_id), number, sizes[image_id], truth.get(image_id, []), predicted.get(image_id, []))
        for number, image_id in enumerate(sorted(sizes))
    ]
    dataset = datasets.Dataset(
        name=truth_path.name,
        num_classes=len(categories) + 1,
        ignore_label=0,
        label_divisor=2,  # there are no maps
        thing_ids=tuple(range(1, len(categories) + 1)),
        class_names=("void", *(str(category.get("name", category["id"])) for category in categories)),
        colors=((0, 0, 0), *(tuple(category.get("color", (128, 128, 128))) for category in categories)),
        eval_ids=(0, *classes),
    )
    return Files(dataset, images, len(results))


def matcher(files: Files) -> Any:
    """`Image` -> Matched, to be sent to other processes."""
    classes = {k: i for i, k in enumerate(files.dataset.eval_ids) if i}
    return functools.partial(match, classes=classes, num_classes=files.dataset.num_classes)


def match(image: Image, *, classes: dict[int, int], num_classes: int) -> mask_matching.Matched:
    """Matches the detections of one image."""
    codes = _mask_module()
    per_class: dict[int, tuple[list[dict], list[dict]]] = collections.defaultdict(lambda: ([], []))
    for side, masks in enumerate((image.truth, image.prediction)):
        for annotation in masks:
            per_class[classes[annotation["category_id"]]][side].append(annotation)
    num_true = np.zeros((num_classes, len(mask_matching.AREAS)), np.int64)
    nothing = np.zeros((0, len(mask_matching.AREAS) * len(mask_matching.IOUS)), bool)
    parts = [mask_matching.part(0, 0, np.zeros(0), nothing, nothing, np.zeros_like(num_true))]
    for class_id, (true, pred) in sorted(per_class.items()):
        scores = np.array([each["score"] for each in pred], np.float64)
        best = np.argsort(-scores, kind="mergesort")[: mask_matching.MAX_PER_CLASS]  # the only ones that are decoded
        pred, scores = [pred[i] for i in best], scores[best]
        true_codes, pred_codes = ([_code(each, image, codes) for each in side] for side in (true, pred))
        crowds = np.array([bool(each.get("iscrowd", 0)) for each in true], bool)
        pred_areas = codes.area(pred_codes).astype(np.float64) if pred else np.zeros(0)
        true_areas = np.array([each.get("area", codes.area(c)) for each, c in zip(true, true_codes)], np.float64)
        ious = np.zeros((len(pred), len(true)))
        if pred and true:
            ious = np.asarray(codes.iou(pred_codes, true_codes, crowds.astype(np.uint8)))
        order, hits, errors, counts = mask_matching.coco(ious, pred_areas, scores, true_areas, crowds)
        num_true[class_id] += counts
        parts.append(mask_matching.part(class_id, image.number, scores[order], hits, errors, np.zeros_like(num_true)))
    return mask_matching.join(parts)._replace(num_true=num_true)


def _code(annotation: dict, image: Image, codes: Any) -> dict:
    """The compressed run-length code of a mask."""
    mask = annotation["segmentation"]
    height, width = image.size
    try:
        if isinstance(mask, list):
            return codes.merge(codes.frPyObjects(mask, height, width))
        if [*mask["size"]] != [height, width]:
            raise ValueError(f"expected a mask of {height}x{width}, got {mask['size']}")
        return codes.frPyObjects(mask, height, width) if isinstance(mask["counts"], list) else mask
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"image {image.name}: bad segmentation ({error}).") from error


def _by_image(annotations: list, path: pathlib.Path, needed: tuple, sizes: dict, classes: dict) -> dict[Any, list]:
    found: dict[Any, list] = collections.defaultdict(list)
    for annotation in annotations:
        for key in ("image_id", "category_id", *needed):
            if not isinstance(annotation, dict) or key not in annotation:
                raise ValueError(f"{path}: expected annotations with {key!r}.")
        if "score" in needed and not (
            isinstance(annotation["score"], (int, float)) and np.isfinite(annotation["score"])
        ):
            raise ValueError(f"{path}: expected a number as score, got {annotation['score']!r}.")
        if annotation["image_id"] not in sizes:
            raise ValueError(f"{path}: image {annotation['image_id']} is not in the ground truth.")
        if annotation["category_id"] not in classes:
            raise ValueError(f"{path}: unknown category {annotation['category_id']}.")
        found[annotation["image_id"]].append(annotation)
    return found


def _mask_module() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ValueError("COCO's instance files need pycocotools: pip install pycocotools.") from error
    return mask
