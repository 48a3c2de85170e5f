"""Matches masks that may overlap, as the tools of COCO and of Cityscapes do, image by image.

The outcomes are the records of `detections.DetectionMetric`, whose results are then those of the tools. Pure NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

IOUS = np.linspace(0.5, 0.95, 10)
CITYSCAPES_IOUS = np.arange(0.5, 1.0, 0.05)
AREAS = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))  # pixels, both ends included
MAX_PER_CLASS = 100
MIN_REGION = 100  # pixels of a target of Cityscapes


class Matched(NamedTuple):
    """The detections [N] of some images, those of an image and class by descending score; D outcomes each."""

    classes: np.ndarray
    ranks: np.ndarray  # place in its image and class
    scores: np.ndarray  # float64
    images: np.ndarray
    hits: np.ndarray  # [N, D] bool
    errors: np.ndarray  # [N, D] bool
    num_true: np.ndarray  # [classes, areas] or [classes]: targets


def part(
    class_id: int, image: int, scores: np.ndarray, hits: np.ndarray, errors: np.ndarray, num_true: np.ndarray
) -> Matched:
    """The detections of one class in one image."""
    count = len(scores)
    return Matched(np.full(count, class_id), np.arange(count), scores, np.full(count, image), hits, errors, num_true)


def join(parts: Iterable[Matched]) -> Matched:
    """Those of several images; there must be one at least."""
    *fields, num_true = zip(*parts)
    return Matched._make([*(np.concatenate(each) for each in fields), np.sum(num_true, axis=0)])


def coco(
    ious: np.ndarray,
    pred_areas: np.ndarray,
    scores: np.ndarray,
    true_areas: np.ndarray,
    crowds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Matches the detections of one class in one image.

    Args:
        ious: of every detection with every true mask [P, G]; with crowds the share of the detection that lies on them.
        pred_areas: [P] pixels.
        scores: [P].
        true_areas: [G] as annotated.
        crowds: [G] bool.

    Returns:
        Which detections count, in descending order of score [N], their hits and errors [N, areas * ious], and the
        number of targets [areas].
    """
    order = np.argsort(-scores, kind="mergesort")[:MAX_PER_CLASS]
    ious, pred_areas = ious[order], pred_areas[order]
    ignored = np.stack([crowds | (true_areas < low) | (true_areas > high) for low, high in AREAS])  # [A, G]
    outside = np.stack([(pred_areas < low) | (pred_areas > high) for low, high in AREAS], axis=1)  # [N, A]
    columns = len(AREAS), len(IOUS)
    if not len(crowds) or not len(order):
        hits = np.zeros((len(order), *columns), bool)
        errors = np.broadcast_to(~outside[:, :, np.newaxis], hits.shape)
    else:
        hits, errors = _greedy(ious, ignored, crowds, outside)
    flat = (len(order), columns[0] * columns[1])
    return order, hits.reshape(flat), errors.reshape(flat), (~ignored).sum(axis=1)


def _greedy(
    ious: np.ndarray, ignored: np.ndarray, crowds: np.ndarray, outside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every detection takes the best true mask that is left: those that count first, the last of equals."""
    thresholds = np.minimum(IOUS, 1 - 1e-10)[np.newaxis, :, np.newaxis]
    num_areas, num_true = ignored.shape
    taken = np.zeros((num_areas, len(IOUS), num_true), bool)
    hits = np.zeros((len(ious), num_areas, len(IOUS)), bool)
    errors = np.repeat(~outside[:, :, np.newaxis], len(IOUS), axis=2)
    real = ~ignored[:, np.newaxis]
    for index, row in enumerate(ious):
        near = np.flatnonzero(row >= IOUS[0])
        if not len(near):
            continue
        free = (row[near] >= thresholds) & (~taken[..., near] | crowds[near])
        # IoUs are at most 1: a mask that counts is preferred to any that does not.
        worth = np.where(free, row[near] + 2.0 * real[..., near], -1.0)
        best = len(near) - 1 - np.argmax(worth[..., ::-1], axis=-1)  # [A, T]
        found = free.any(axis=-1)
        best = near[best]
        area, threshold = np.nonzero(found)
        taken[area, threshold, best[area, threshold]] = True
        hits[index] = found & ~np.take_along_axis(ignored, best, axis=1)
        errors[index] &= ~found
    return hits, errors


def cityscapes(
    overlaps: np.ndarray,
    pred_areas: np.ndarray,
    scores: np.ndarray,
    void_overlaps: np.ndarray,
    true_areas: np.ndarray,
    groups: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Matches the detections of one class in one image.

    Args:
        overlaps: pixels that every detection shares with every true mask [P, G].
        pred_areas: [P] pixels.
        scores: [P].
        void_overlaps: [P] pixels of every detection that are not labelled.
        true_areas: [G] pixels.
        groups: [G] bool: a crowd.

    Returns:
        The detections in descending order of score [P], their hits and errors [P, ious], and the number of targets.
    """
    order = np.argsort(-scores, kind="mergesort")
    overlaps, pred_areas, void_overlaps = overlaps[order], pred_areas[order], void_overlaps[order]
    small = true_areas < MIN_REGION
    targets = ~groups & ~small
    ious = overlaps / np.maximum(pred_areas[:, np.newaxis] + true_areas - overlaps, 1)
    meets = ious[..., np.newaxis] > CITYSCAPES_IOUS  # [P, G, T]
    on_target = meets & targets[np.newaxis, :, np.newaxis]
    # The detection of the highest score is the hit of a target, the others that meet it are errors.
    first = on_target & (np.cumsum(on_target, axis=0) == 1)
    hits = first.any(axis=1)
    doubles = (on_target & ~first).any(axis=1)
    # The tool counts a crowd that is also small twice.
    excused = void_overlaps + overlaps @ (groups.astype(np.int64) + small)
    share = excused / np.maximum(pred_areas, 1)
    nothing = ~meets.any(axis=1) & ~(share[:, np.newaxis] > CITYSCAPES_IOUS)
    return order, hits, doubles | nothing, int(targets.sum())
