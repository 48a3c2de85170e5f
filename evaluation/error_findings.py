"""What a prediction of one image got wrong: its segments matched, missed, false, of the wrong class, of a poor mask.

The rules are those of PQ ("Panoptic Segmentation", Kirillov et al., 2019, arXiv 1801.00868; void and crowds as the
official tools treat them), so the counts are the metric's. What did not match is then paired one to one:

- wrong class: two segments of different classes with an IoU above one half;
- poor mask: two segments of one class with an IoU from 0.1 to one half, the best pairs first.

What is left over was missed, or is false. NumPy only.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import numpy as np

from deeplab2_kmax import labels
from deeplab2_kmax.data import datasets

Array = Any  # np.ndarray; Python 3.9's NumPy stubs cannot say more

POOR_IOU = 0.1  # segments of one class that overlap less have nothing to do with each other


class Kind(enum.IntEnum):
    """What happened to a segment, or what a pixel is."""

    IGNORED = 0  # void and crowds, and predictions that they excuse
    MATCHED = 1
    INEXACT = 2  # pixels only: of a matched segment, where it and its match are not both
    POOR_MASK = 3
    WRONG_CLASS = 4
    MISSED = 5
    FALSE = 6


class Runs(NamedTuple):
    """Two label maps as runs of equal label pairs in raster order: much smaller than the maps."""

    shape: tuple[int, int]
    true: Array  # [R]
    pred: Array  # [R]
    lengths: Array  # [R]

    def unroll(self, values: Array) -> Array:
        """A value per run [R, ...] -> per pixel [H, W, ...]."""
        values = np.asarray(values)
        return np.repeat(values, self.lengths, axis=0).reshape(*self.shape, *values.shape[1:])


class Segments(NamedTuple):
    """The labels of one map, ascending; void is one of them where it occurs, and ignored."""

    labels: Array  # [S]
    classes: Array  # [S]
    kinds: Array  # [S] of Kind


class Links(NamedTuple):
    """Segments that belong together: matched ones, poor masks, wrong classes."""

    true: Array  # [L] index into the true segments
    pred: Array  # [L]
    kinds: Array  # [L]
    iou: Array  # [L]


class Overlaps(NamedTuple):
    """Every pair of labels that share pixels, void included."""

    true: Array  # [N] index into the true segments
    pred: Array  # [N]
    pixels: Array  # [N]
    kinds: Array  # [N, 2] what the pixels are; two kinds where ground truth and prediction err each on its own
    of_run: Array  # [R] the overlap that a run belongs to


class Findings(NamedTuple):
    """Everything about one image."""

    true: Segments
    pred: Segments
    links: Links
    overlaps: Overlaps
    followed: dict[int, int | None]  # ground-truth thing -> the prediction with an IoU above one half, of any class


def runs(true: Array, pred: Array) -> Runs:
    """Two integer label maps [H, W] as runs.

    Raises:
        ValueError: not two integer maps of one shape.
    """
    true, pred = np.asarray(true), np.asarray(pred)
    if true.ndim != 2 or true.shape != pred.shape or true.dtype.kind not in "iu" or pred.dtype.kind not in "iu":
        raise ValueError(
            "Expected two integer maps [H, W] of one shape, "
            f"got {true.shape} {true.dtype} and {pred.shape} {pred.dtype}."
        )
    flat_true, flat_pred = true.ravel(), pred.ravel()
    change = (flat_true[1:] != flat_true[:-1]) | (flat_pred[1:] != flat_pred[:-1])
    starts = np.concatenate([np.zeros(min(true.size, 1), np.int64), np.flatnonzero(change) + 1])
    lengths = np.diff(np.append(starts, true.size)).astype(np.int32)
    height, width = true.shape
    return Runs((height, width), flat_true[starts].astype(np.int64), flat_pred[starts].astype(np.int64), lengths)


def only_classes(dataset: datasets.Dataset) -> bool:
    """Whether the labels of a data set are plain classes: a label divisor of 1 leaves no room for instances."""
    return dataset.label_divisor == 1


def find(pair: Runs, dataset: datasets.Dataset) -> Findings:
    """Compares the maps of one image.

    Args:
        pair: panoptic labels; plain classes for a data set with a label divisor of 1.
        dataset: what the labels mean.

    Raises:
        ValueError: a label of no class.
    """
    true, of_true = _segments(pair.true, dataset, "ground truth")
    pred, of_pred = _segments(pair.pred, dataset, "prediction")
    keys, of_run = np.unique(of_true * len(pred.labels) + of_pred, return_inverse=True)
    of_run = of_run.reshape(-1)  # some versions of NumPy keep a second axis
    pixels = np.bincount(of_run, weights=pair.lengths, minlength=len(keys)).astype(np.int64)
    overlaps = Overlaps(keys // len(pred.labels), keys % len(pred.labels), pixels, np.zeros((0, 2)), of_run)
    if only_classes(dataset):
        return Findings(true, pred, _no_links(), overlaps._replace(kinds=_class_kinds(true, pred, overlaps)), {})

    crowd = _crowds(true, dataset)
    iou, excused = _compare(true, pred, overlaps, crowd)
    at, kinds = _link(true, pred, overlaps, iou, excused)
    links = Links(overlaps.true[at], overlaps.pred[at], kinds, iou[at])
    true_kinds = np.where(true.kinds == Kind.IGNORED, Kind.IGNORED, np.where(crowd, Kind.IGNORED, Kind.MISSED))
    pred_kinds = np.where((pred.kinds == Kind.IGNORED) | excused, Kind.IGNORED, Kind.FALSE)
    true_kinds[links.true], pred_kinds[links.pred] = kinds, kinds
    true, pred = true._replace(kinds=true_kinds), pred._replace(kinds=pred_kinds)
    overlaps = overlaps._replace(kinds=_pixel_kinds(true, pred, overlaps, at))
    followed: dict[int, int | None] = {
        int(label): None for label in true.labels[np.isin(true.classes, dataset.thing_ids) & ~crowd]
    }
    for index in np.flatnonzero(iou > 0.5):
        label = int(true.labels[overlaps.true[index]])
        if label in followed:
            followed[label] = int(pred.labels[overlaps.pred[index]])
    return Findings(true, pred, links, overlaps, followed)


def _segments(values: Array, dataset: datasets.Dataset, side: str) -> tuple[Segments, Array]:
    """The segments of one map, all of one kind so far but void, and the segment of every run."""
    classes = labels.class_of(values, dataset.label_divisor)
    void = classes == dataset.ignore_label
    wrong = ~void & ((classes < 0) | (classes >= dataset.num_classes))
    if wrong.any():
        raise ValueError(
            f"The {side} has the label {int(values[wrong][0])}, which is of no class of {dataset.name} "
            f"({dataset.num_classes} classes, label divisor {dataset.label_divisor})."
        )
    present, index = np.unique(np.where(void, dataset.void_id, values), return_inverse=True)
    classes = labels.class_of(present, dataset.label_divisor)
    kinds = np.where(classes == dataset.ignore_label, Kind.IGNORED, Kind.MATCHED)
    return Segments(present, classes, kinds), index.reshape(-1)


def _crowds(true: Segments, dataset: datasets.Dataset) -> Array:
    """Which segments of the ground truth are crowds; [S]."""
    without_instance = labels.instance_of(true.labels, dataset.label_divisor) == 0
    return without_instance & np.isin(true.classes, dataset.thing_ids) & (true.kinds != Kind.IGNORED)


def _compare(true: Segments, pred: Segments, overlaps: Overlaps, crowd: Array) -> tuple[Array, Array]:
    """IoU of every overlap [N] (0 with void and crowds), and which predictions void and crowds excuse [S]."""
    on_void = (true.kinds == Kind.IGNORED)[overlaps.true]
    same_class = true.classes[overlaps.true] == pred.classes[overlaps.pred]
    excuse = on_void | (crowd[overlaps.true] & same_class)

    def sums(index: Array, values: Array, size: int) -> Array:
        return np.bincount(index, weights=values, minlength=size)

    true_areas = sums(overlaps.true, overlaps.pixels, len(true.labels))
    pred_areas = sums(overlaps.pred, overlaps.pixels, len(pred.labels))
    void_areas = sums(overlaps.pred, overlaps.pixels * on_void, len(pred.labels))
    excused = 2 * sums(overlaps.pred, overlaps.pixels * excuse, len(pred.labels)) > pred_areas
    union = true_areas[overlaps.true] + (pred_areas - void_areas)[overlaps.pred] - overlaps.pixels
    real = ~on_void & ~crowd[overlaps.true] & (pred.kinds != Kind.IGNORED)[overlaps.pred]
    return np.where(real, overlaps.pixels / np.maximum(union, 1.0), 0.0), excused


def _link(true: Segments, pred: Segments, overlaps: Overlaps, iou: Array, excused: Array) -> tuple[Array, Array]:
    """Which overlaps join segments that belong together, and the kind of each."""
    same_class = true.classes[overlaps.true] == pred.classes[overlaps.pred]
    blamed = ~excused[overlaps.pred]
    # An IoU above one half is the only one of both segments.
    near = np.flatnonzero((iou > 0.5) & (same_class | blamed))
    free_true, free_pred = np.ones(len(true.labels), bool), np.ones(len(pred.labels), bool)
    free_true[overlaps.true[near]], free_pred[overlaps.pred[near]] = False, False
    poor = []
    candidates = np.flatnonzero(same_class & blamed & (iou >= POOR_IOU) & (iou <= 0.5))
    for index in candidates[np.argsort(-iou[candidates], kind="stable")]:
        one, other = overlaps.true[index], overlaps.pred[index]
        if free_true[one] and free_pred[other]:
            free_true[one], free_pred[other] = False, False
            poor.append(index)
    kinds = np.where(same_class[near], Kind.MATCHED, Kind.WRONG_CLASS)
    return np.append(near, poor).astype(np.int64), np.append(kinds, [Kind.POOR_MASK] * len(poor)).astype(np.int64)


def _pixel_kinds(true: Segments, pred: Segments, overlaps: Overlaps, links: Array) -> Array:
    """What the pixels of every overlap are [N, 2]."""
    one, other = true.kinds[overlaps.true], pred.kinds[overlaps.pred]
    linked = np.zeros(len(one), bool)
    linked[links] = True
    # Without a fault of its own on either side, a pixel is right, ignored, or where matched segments are not exact.
    fine = np.where(linked, Kind.MATCHED, np.where(one == Kind.IGNORED, Kind.IGNORED, Kind.INEXACT))
    one_errs, other_errs = one > Kind.INEXACT, other > Kind.INEXACT
    first = np.where(one_errs, one, np.where(other_errs, other, fine))
    return np.stack([first, np.where(other_errs, other, first)], axis=-1)


def _class_kinds(true: Segments, pred: Segments, overlaps: Overlaps) -> Array:
    """The same where labels are plain classes: a pixel is right, of the wrong class, or nothing was predicted."""
    wrong = np.where(pred.kinds[overlaps.pred] == Kind.IGNORED, Kind.MISSED, Kind.WRONG_CLASS)
    kinds = np.where(true.labels[overlaps.true] == pred.labels[overlaps.pred], Kind.MATCHED, wrong)
    kinds = np.where(true.kinds[overlaps.true] == Kind.IGNORED, Kind.IGNORED, kinds)
    return np.stack([kinds, kinds], axis=-1)


def _no_links() -> Links:
    nothing = np.zeros(0, np.int64)
    return Links(nothing, nothing, nothing, np.zeros(0))
