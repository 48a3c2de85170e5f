"""The instance files of Cityscapes: `*_gtFine_instanceIds.png`, and a text file per image with a line per mask.

A line is `<mask file> <label id> <score>`; the path of the mask is relative to the text file. All values but 0 are
inside of a mask.
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import files
from evaluation import mask_matching
from evaluation.saved import cityscapes, sides

GROUNDTRUTH_ENDING = "_gtFine_instanceIds.png"
_FIRST_INSTANCE = 1000


class Image(NamedTuple):
    """One image of both sides."""

    name: str
    number: int
    truth: str
    prediction: str  # the text file
    root: str  # the folder of predictions, in which masks lie


def load(truth_path: pathlib.Path, prediction_path: pathlib.Path) -> list[Image]:
    """The images of the ground truth with their predictions.

    Raises:
        ValueError: no files, or predictions that are missing.
    """
    truth = cityscapes.images(truth_path, sides.tree(truth_path, [GROUNDTRUTH_ENDING]))
    predicted = cityscapes.images(prediction_path, sides.tree(prediction_path, [".txt"]))
    missing = [name for name in truth if name not in predicted]
    if missing:
        raise ValueError(
            f"{prediction_path}: no prediction for {len(missing)} image(s), for example {missing[0]}*.txt."
        )
    return [
        Image(name, number, str(truth_path / path), str(prediction_path / predicted[name]), str(prediction_path))
        for number, (name, path) in enumerate(sorted(truth.items()))
    ]


def matcher(dataset: datasets.Dataset) -> Any:
    """`Image` -> Matched, to be sent to other processes."""
    return functools.partial(match, dataset=dataset)


def match(image: Image, *, dataset: datasets.Dataset) -> mask_matching.Matched:
    """Matches the detections of one image."""
    ids = sides.read_numbers(pathlib.Path(image.truth))
    things = {dataset.eval_ids[i]: i for i in dataset.thing_ids}
    present, counts = np.unique(ids, return_counts=True)
    areas = dict(zip(present.tolist(), counts.tolist()))
    known = np.isin(ids, dataset.eval_ids) | (ids >= _FIRST_INSTANCE)  # bare ids of ignored labels are void
    found: dict[int, list] = {class_id: [] for class_id in things.values()}
    for label_id, score, mask in _masks(image, ids.shape):
        if label_id not in things or not mask.any():
            continue
        inside, pixels = np.unique(ids[mask], return_counts=True)
        found[things[label_id]].append((dict(zip(inside.tolist(), pixels.tolist())), mask, score))
    num_true = np.zeros(dataset.num_classes, np.int64)
    parts = []
    for label_id, class_id in things.items():
        instances = [i for i in areas if i == label_id or i // _FIRST_INSTANCE == label_id]
        detections = found[class_id]
        overlaps = np.array([[shared.get(i, 0) for i in instances] for shared, _, _ in detections], np.int64)
        scores = np.array([score for *_, score in detections], np.float64)
        order, hits, errors, num_true[class_id] = mask_matching.cityscapes(
            overlaps.reshape(len(detections), len(instances)),
            np.array([mask.sum() for _, mask, _ in detections], np.int64),
            scores,
            np.array([(mask & ~known).sum() for _, mask, _ in detections], np.int64),
            np.array([areas[i] for i in instances], np.int64),
            np.array([i < _FIRST_INSTANCE for i in instances], bool),
        )
        parts.append(mask_matching.part(class_id, image.number, scores[order], hits, errors, np.zeros_like(num_true)))
    return mask_matching.join(parts)._replace(num_true=num_true)


def _masks(image: Image, shape: tuple[int, ...]) -> Any:
    """Label id, score and mask of every line."""
    path, root = pathlib.Path(image.prediction), pathlib.Path(image.root)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text ({error}).") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            name, label_id, score = line.split()
            values = int(label_id), float(score)
            if not np.isfinite(values[1]):
                raise ValueError("the score is not finite")
        except ValueError as error:
            raise ValueError(f"{where}: expected <mask file> <label id> <score>, got {line!r}.") from error
        mask_path = path.parent / name
        if not mask_path.resolve().is_relative_to(root.resolve()):
            raise ValueError(f"{where}: {name} lies outside of {root}.")
        files.stay(root, mask_path, where)
        mask = sides.read_numbers(mask_path) != 0
        if mask.shape != shape:
            raise ValueError(
                f"{mask_path}: expected {shape[1]}x{shape[0]} pixels as the ground truth, got {mask.shape}."
            )
        yield (*values, mask)
