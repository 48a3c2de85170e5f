"""Where quality is lost: 1 - PQ (or 1 - mean IoU) divided among kinds of errors, exactly, class by class.

With D = TP + FP/2 + FN/2 of a class, 1 - PQ = (TP - sum of IoU) / D + (FP + FN) / 2D: what the matched masks lack, and
what did not match. Each unmatched segment is of one kind (`error_findings`), so the second part falls into kinds as
well, and the parts and PQ add up to 1. For classes alone, with U = TP + FP + FN pixels, 1 - IoU = (FP + FN) / U.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation import error_findings
from evaluation.error_findings import Array, Kind

SEGMENTATION, RECOGNITION = "segmentation", "recognition"


class Counts(NamedTuple):
    """Sums over images, [C] float64 each."""

    matched: Array
    iou: Array  # of the matched
    inexact: Array  # matched with an IoU below 1
    poor: Array  # pairs: a missed segment and a false one each
    wrong_true: Array  # segments of the class that were given another
    wrong_iou: Array  # of those
    wrong_pred: Array  # segments of another class that were given this one
    missed: Array
    false: Array


class Part(NamedTuple):
    """One kind of errors."""

    kind: Kind
    name: str
    explanation: str
    group: str  # SEGMENTATION, RECOGNITION, or neither where there are classes only
    number: int  # segments, or pixels
    lost: float  # mean over classes of what it takes from the quality
    lost_per_class: Array  # [C], 0 where a class does not occur
    if_fixed: float  # the quality without these errors, all others as they are


class Breakdown(NamedTuple):
    """A quality and what is missing of it: `quality + sum of lost = 1` where there is a class."""

    measure: str
    quality: float
    num_classes: int  # that occur
    quality_per_class: Array  # [C], nan where a class does not occur
    parts: Sequence[Part]

    def lost(self, group: str) -> float:
        """What a group of errors takes."""
        return sum(part.lost for part in self.parts if part.group == group)


def no_counts(num_classes: int) -> Counts:
    """Zeros."""
    return Counts(*(np.zeros(num_classes) for _ in Counts._fields))


def add(one: Counts, other: Counts) -> Counts:
    """The sum of two."""
    return Counts(*(a + b for a, b in zip(one, other)))


def count(found: error_findings.Findings, num_classes: int) -> Counts:
    """What the segments of one image add."""

    def per_class(side: error_findings.Segments, kind: Kind) -> Array:
        return np.bincount(side.classes[side.kinds == kind], minlength=num_classes).astype(np.float64)

    def iou(kind: Kind) -> Array:
        chosen = found.links.kinds == kind
        classes = found.true.classes[found.links.true[chosen]]
        return np.bincount(classes, weights=found.links.iou[chosen], minlength=num_classes)

    inexact = (found.links.kinds == Kind.MATCHED) & (found.links.iou < 1.0)
    return Counts(
        matched=per_class(found.true, Kind.MATCHED),
        iou=iou(Kind.MATCHED),
        inexact=np.bincount(found.true.classes[found.links.true[inexact]], minlength=num_classes).astype(np.float64),
        poor=per_class(found.true, Kind.POOR_MASK),
        wrong_true=per_class(found.true, Kind.WRONG_CLASS),
        wrong_iou=iou(Kind.WRONG_CLASS),
        wrong_pred=per_class(found.pred, Kind.WRONG_CLASS),
        missed=per_class(found.true, Kind.MISSED),
        false=per_class(found.pred, Kind.FALSE),
    )


def occurs(counts: Counts) -> Array:
    """Which classes have a segment that counts; [C] bool."""
    return _denominator(counts) > 0


def quality_per_class(counts: Counts) -> Array:
    """PQ of every class [C], 0 where it does not occur."""
    return _share(counts.iou, _denominator(counts))


def panoptic(counts: Counts) -> Breakdown:
    """PQ, and what each kind of errors takes from it.

    `if_fixed`: masks become exact (IoU 1), poor and missed segments are matched by exact masks, wrong classes become
    right with the mask they have, and false segments go away.
    """
    c = counts
    size = _denominator(c)
    fixed = {
        Kind.INEXACT: c._replace(iou=c.matched),
        Kind.POOR_MASK: c._replace(iou=c.iou + c.poor, matched=c.matched + c.poor, poor=0 * c.poor),
        Kind.WRONG_CLASS: c._replace(
            iou=c.iou + c.wrong_iou,
            matched=c.matched + c.wrong_true,
            wrong_true=0 * c.wrong_true,
            wrong_pred=0 * c.wrong_pred,
        ),
        Kind.MISSED: c._replace(iou=c.iou + c.missed, matched=c.matched + c.missed, missed=0 * c.missed),
        Kind.FALSE: c._replace(false=0 * c.false),
    }
    rows = (
        (
            Kind.INEXACT,
            "inexact mask",
            "found, but the outline is not exact",
            SEGMENTATION,
            c.inexact,
            c.matched - c.iou,
        ),
        (
            Kind.POOR_MASK,
            "poor mask",
            "right class, but an IoU of 0.1 to 0.5 is no match",
            SEGMENTATION,
            c.poor,
            c.poor,
        ),
        (
            Kind.WRONG_CLASS,
            "wrong class",
            "the mask matches, the class does not",
            RECOGNITION,
            c.wrong_true,
            (c.wrong_true + c.wrong_pred) / 2,
        ),
        (Kind.MISSED, "missed", "no prediction that fits", RECOGNITION, c.missed, c.missed / 2),
        (Kind.FALSE, "false", "predicted, but nothing like it is there", RECOGNITION, c.false, c.false / 2),
    )
    here = occurs(c)
    parts = [
        Part(
            kind,
            name,
            explanation,
            group,
            int(number.sum()),
            _mean(_share(lost, size), here),
            _share(lost, size),
            _mean(quality_per_class(fixed[kind]), occurs(fixed[kind])),
        )
        for kind, name, explanation, group, number, lost in rows
    ]
    per_class = quality_per_class(c)
    return Breakdown("PQ", _mean(per_class, here), int(here.sum()), np.where(here, per_class, np.nan), parts)


def semantic(confusion: Array) -> Breakdown:
    """Mean IoU, and what each kind of wrong pixels takes from it.

    Args:
        confusion: [C + 1, C + 1] pixels, true class by predicted class; the last one is void.
    """
    right = np.diag(confusion)[:-1].astype(np.float64)
    nothing = confusion[:-1, -1].astype(np.float64)
    other = confusion[:-1].sum(axis=1) - right - nothing
    false = confusion[:-1, :-1].sum(axis=0) - right
    union = right + nothing + other + false
    here = union > 0
    rows = (
        (
            Kind.WRONG_CLASS,
            "given another class",
            "pixels of a class that were taken for another",
            other,
            _share(right + other, union),
        ),
        (Kind.MISSED, "nothing predicted", "pixels that were left void", nothing, _share(right + nothing, union)),
        (
            Kind.FALSE,
            "taken from others",
            "pixels of other classes; the same pixels as the first, seen from the other side",
            false,
            _share(right, union - false),
        ),
    )
    parts = [
        Part(
            kind,
            name,
            explanation,
            "",
            int(number.sum()),
            _mean(_share(number, union), here),
            _share(number, union),
            _mean(fixed, (union - false > 0) if kind == Kind.FALSE else here),
        )
        for kind, name, explanation, number, fixed in rows
    ]
    per_class = _share(right, union)
    return Breakdown("mean IoU", _mean(per_class, here), int(here.sum()), np.where(here, per_class, np.nan), parts)


def _denominator(c: Counts) -> Array:
    return c.matched + c.poor + (c.wrong_true + c.wrong_pred + c.missed + c.false) / 2


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _mean(values: Array, chosen: Array) -> float:
    return float(values[chosen].mean()) if chosen.any() else 0.0
