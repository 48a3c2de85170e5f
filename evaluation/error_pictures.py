"""Pictures of errors: what was missed, what is false, what has the wrong class or a poor mask, each in its colour."""

from __future__ import annotations

import numpy as np

from deeplab2_kmax import labels, visualize
from deeplab2_kmax.data import datasets
from evaluation import error_analysis, error_findings
from evaluation.error_findings import Array, Kind

# Told apart by most colour-blind people too (after Okabe and Ito, "Color universal design", 2008).
COLORS: dict[Kind, tuple[int, int, int]] = {
    Kind.INEXACT: (240, 228, 66),
    Kind.POOR_MASK: (0, 158, 115),
    Kind.WRONG_CLASS: (204, 121, 167),
    Kind.MISSED: (30, 120, 220),
    Kind.FALSE: (230, 120, 0),
}
NAMES = {
    Kind.INEXACT: "matched, but not exact",
    Kind.POOR_MASK: "poor mask: right class, IoU at most 0.5",
    Kind.WRONG_CLASS: "wrong class",
    Kind.MISSED: "missed",
    Kind.FALSE: "false: predicted, but not there",
}
CLASS_NAMES = {Kind.WRONG_CLASS: "wrong class", Kind.MISSED: "nothing predicted"}  # where there are no segments

_GREY = 110  # where there is no picture
_FADED = 0.55  # of the picture under the marks
_STRIPE = 5  # pixels
_FONT = 14
_MIN_AREA = 250  # pixels of a segment that is named


def panels(example: error_analysis.Example, dataset: datasets.Dataset) -> dict[str, Array]:
    """Title -> picture [h, w, 3] uint8 of an image: itself (if there is one), ground truth, prediction, errors."""
    size, image = example.picture_size, example.picture()
    background = np.full((*size, 3), _GREY, np.uint8) if image is None else image
    true, pred = (
        visualize.resize_nearest(example.runs.unroll(side), size) for side in (example.runs.true, example.runs.pred)
    )
    things = () if error_findings.only_classes(dataset) else dataset.thing_ids
    drawn = {}
    for title, ids in (("ground truth", true), ("prediction", pred)):
        colors = visualize.panoptic_colors(
            ids, colors=dataset.colors, thing_ids=things, label_divisor=dataset.label_divisor
        )
        # Void is black, whatever colour the class table gives it.
        colors[labels.class_of(ids, dataset.label_divisor) == dataset.ignore_label] = 0
        drawn[title] = visualize.overlay(background, colors, ids)
    errors = _errors(example, dataset, background)
    return {**({} if image is None else {"image": image}), **drawn, "errors": errors}


def _errors(example: error_analysis.Example, dataset: datasets.Dataset, background: Array) -> Array:
    """The picture in grey with errors in colour, outlined and named."""
    found = error_findings.find(example.runs, dataset)
    size = background.shape[:2]
    overlap = visualize.resize_nearest(example.runs.unroll(found.overlaps.of_run), size)
    palette = np.zeros((len(Kind), 3), np.float32)
    for error, color in COLORS.items():
        palette[error] = color
    grey = np.repeat((background.mean(axis=-1, keepdims=True) * _FADED), 3, axis=-1)
    kinds = found.overlaps.kinds[overlap]  # [h, w, 2]
    rows, columns = np.indices(size)
    kind = np.where((rows + columns) // _STRIPE % 2 == 0, kinds[..., 0], kinds[..., 1])
    opacity = np.select([kind == Kind.INEXACT, kind > Kind.INEXACT], [0.55, 0.75], 0.0)[..., np.newaxis]
    picture = (grey * (1 - opacity) + palette[kind] * opacity).astype(np.uint8)
    if error_findings.only_classes(dataset):
        return visualize.draw_names(picture, overlap, _class_names(found, dataset), font_size=_FONT)
    for side, index in ((found.true, found.overlaps.true), (found.pred, found.overlaps.pred)):
        erroneous = side.kinds > Kind.INEXACT
        picture[visualize.outlines(np.where(erroneous[index], index + 1, 0)[overlap])] = 255
    named, names = _names(found, dataset)
    return visualize.draw_names(picture, named[overlap], names, min_area=_MIN_AREA, font_size=_FONT)


def _names(found: error_findings.Findings, dataset: datasets.Dataset) -> tuple[Array, dict[int, str]]:
    """A number for every overlap, and what is written into the pixels of that number."""
    classes = dataset.class_names
    names = {}
    for index, (class_id, kind) in enumerate(zip(found.true.classes, found.true.kinds)):
        if kind in (Kind.MISSED, Kind.POOR_MASK):
            names[index] = f"{'missed' if kind == Kind.MISSED else 'poor'}: {classes[class_id]}"
    wrong = found.links.kinds == Kind.WRONG_CLASS
    for one, other in zip(found.links.true[wrong], found.links.pred[wrong]):
        names[int(one)] = f"{classes[found.true.classes[one]]}, not {classes[found.pred.classes[other]]}"
    # Names of predictions stand where there is none of the ground truth.
    first = len(found.true.labels)
    for index in np.flatnonzero(found.pred.kinds == Kind.FALSE):
        names[first + int(index)] = f"false: {classes[found.pred.classes[index]]}"
    named = np.isin(found.overlaps.true, [index for index in names if index < first])
    return np.where(named, found.overlaps.true, first + found.overlaps.pred), names


def _class_names(found: error_findings.Findings, dataset: datasets.Dataset) -> dict[int, str]:
    """What is written into the wrong pixels: overlap -> words."""
    names = {}
    for index, kind in enumerate(found.overlaps.kinds[:, 0]):
        if kind not in (Kind.WRONG_CLASS, Kind.MISSED):
            continue
        true = dataset.class_names[found.true.classes[found.overlaps.true[index]]]
        pred = found.pred.classes[found.overlaps.pred[index]]
        names[index] = f"{true}, not {dataset.class_names[pred]}" if kind == Kind.WRONG_CLASS else f"no {true}"
    return names
