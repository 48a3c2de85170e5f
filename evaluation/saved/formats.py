"""The formats of label and depth maps, by what a task needs of them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from deeplab2_kmax import registry
from deeplab2_kmax.data import datasets
from evaluation.saved import cityscapes, coco_panoptic, dvps, label_files, sides
from evaluation.saved.sides import DEPTH, PANOPTIC, SEMANTIC

OpenSide = Callable[[pathlib.Path, sides.Context], sides.Side]


def _labels(open_side: OpenSide) -> dict[str, OpenSide]:
    return {PANOPTIC: open_side, SEMANTIC: open_side}


FORMATS: dict[str, Mapping[str, OpenSide]] = {
    "coco": _labels(coco_panoptic.side),
    "cityscapes": {PANOPTIC: coco_panoptic.side, SEMANTIC: cityscapes.label_ids},
    "step": _labels(label_files.three_channels),
    "two_channel_png": _labels(label_files.two_channels),
    "npy": _labels(label_files.arrays),
    "dvps": {**_labels(dvps.side), DEPTH: dvps.side},
    "png": {SEMANTIC: label_files.class_png},
    "depth_png": {DEPTH: label_files.depth_png},
}
# That of a data set whose name need not be given.
_DATASETS = {"cityscapes": "cityscapes_panoptic"}


class SideOptions(NamedTuple):
    """How the files of one side are read."""

    path: pathlib.Path
    file_format: str
    evaluation_ids: bool = False  # the classes in files are the data set's evaluation ids
    depth_folder: pathlib.Path | None = None
    depth_scale: float = 256.0


class Opened(NamedTuple):
    """Both sides, matched."""

    dataset: datasets.Dataset
    groups: list[list[sides.Pair]]
    reader: sides.Reader
    max_segments: int  # of an image; 0: not known
    hidden_class: int | None


def open_both(
    truth: SideOptions,
    prediction: SideOptions,
    kinds: frozenset[str],
    *,
    task: str,
    in_order: bool,
    dataset: str | None = None,
    categories: pathlib.Path | None = None,
) -> Opened:
    """Lists the images of both sides.

    Args:
        truth: the ground truth.
        prediction: the prediction.
        kinds: the maps that the task needs.
        task: its name, for messages.
        in_order: keeps the frames of a sequence together.
        dataset: name of the data set, or its class file.
        categories: JSON list of categories, if a COCO ground truth has none.

    Raises:
        ValueError: formats that do not hold what the task needs, arguments that are missing or say nothing, bad files.
    """
    open_truth, open_prediction = (_opener(side.file_format, kinds, task) for side in (truth, prediction))
    described, hidden_class = _dataset(truth, open_truth, kinds, dataset, categories)
    if open_truth is coco_panoptic.side and open_prediction is not coco_panoptic.side:
        raise ValueError(
            f"Ground truth of the format {truth.file_format!r} has its own classes: expected a prediction of the same "
            f"format, got {prediction.file_format!r}."
        )
    opened = []
    for is_truth, side, open_side in ((True, truth, open_truth), (False, prediction, open_prediction)):
        _check(side, open_side, kinds, is_truth)
        context = sides.Context(
            described,
            is_truth,
            kinds,
            hidden_class,
            side.evaluation_ids,
            side.depth_folder,
            side.depth_scale,
        )
        opened.append(open_side(side.path, context))
    true_side, pred_side = opened
    reader = sides.Reader(true_side.read, pred_side.read, true_side.where, pred_side.where, described, kinds)
    most = (true_side.max_segments, pred_side.max_segments)
    return Opened(
        described,
        sides.match(true_side, pred_side, in_order=in_order),
        reader,
        max(most) if all(most) else 0,
        hidden_class,
    )


def _opener(file_format: str, kinds: frozenset[str], task: str) -> OpenSide:
    main = next(kind for kind in (PANOPTIC, SEMANTIC, DEPTH) if kind in kinds)
    openers = registry.lookup(FORMATS, file_format, "format")
    if main not in openers:
        fitting = ", ".join(name for name, held in FORMATS.items() if main in held)
        raise ValueError(
            f"Format {file_format!r} holds {' and '.join(openers)} maps, but the task {task} needs {main} maps; "
            f"expected one of: {fitting}."
        )
    return openers[main]


def _dataset(
    truth: SideOptions, opener: OpenSide, kinds: frozenset[str], dataset: str | None, categories: pathlib.Path | None
) -> tuple[datasets.Dataset, int | None]:
    """The descriptor of the ground truth, and its hidden class."""
    name = dataset or _DATASETS.get(truth.file_format)
    known = datasets.lookup(name) if name else None
    if opener is coco_panoptic.side:
        return coco_panoptic.describe(truth.path, categories, known)
    if categories is not None:
        raise ValueError("Categories go with the COCO panoptic format; other formats take the name of the data set.")
    if known is not None:
        return known, None
    if kinds == {DEPTH}:
        return _NOTHING, None
    raise ValueError(f"Format {truth.file_format!r} needs the name of the data set (dataset).")


def _check(side: SideOptions, opener: OpenSide, kinds: frozenset[str], is_truth: bool) -> None:
    """Refuses what would be ignored."""
    what = "ground truth" if is_truth else "prediction"
    no_classes = opener in (coco_panoptic.side, cityscapes.label_ids, label_files.depth_png)
    if side.evaluation_ids and no_classes:
        raise ValueError(f"Evaluation ids cannot be chosen for the {what}: format {side.file_format!r} fixes its ids.")
    takes_folder = opener in (label_files.two_channels, label_files.three_channels, label_files.arrays)
    if side.depth_folder is not None and not (DEPTH in kinds and takes_folder):
        raise ValueError(
            f"A folder of depth for the {what} goes with tasks of panoptic maps and depth, and with the formats step, "
            "two_channel_png and npy."
        )
    if not side.depth_scale > 0:
        raise ValueError(f"Expected a depth scale above 0, got {side.depth_scale}.")


# Depth alone needs no classes.
_NOTHING = datasets.Dataset("depth", 1, 255, 1, (), ("nothing",), ((0, 0, 0),), (0,), has_depth=True)
