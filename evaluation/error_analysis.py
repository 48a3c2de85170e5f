"""Collects the errors of many images: totals of all, and the worst and best images and sequences in full.

Memory is bounded: maps are kept of the worst and best images alone, as runs; pictures are loaded when they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from deeplab2_kmax.data import datasets
from evaluation import error_breakdown, error_findings, timelines
from evaluation.error_findings import Array

PICTURE_WIDTH = 720  # wider pictures are made smaller


class Example(NamedTuple):
    """One image that is worth showing."""

    name: str
    score: float  # PQ of the image; mean IoU where there are only classes
    rank: tuple  # lower is worse; total order, so that the choice does not depend on the order of images
    runs: error_findings.Runs
    load_image: Callable[[], Array] | None

    def picture(self) -> Array | None:
        """The picture in the size it is shown in, [h, w, 3] uint8; None where there is none.

        Raises:
            ValueError: the picture is of another size than the maps.
        """
        if self.load_image is None:
            return None
        image, shape = np.asarray(self.load_image()), self.runs.shape
        if image.shape != (*shape, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"{self.name}: expected a picture [{shape[0]}, {shape[1]}, 3] uint8, got {image.shape} {image.dtype}."
            )
        height, width = self.picture_size
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width that maps and picture are shown in."""
        height, width = self.runs.shape
        factor = min(1.0, PICTURE_WIDTH / max(width, 1))
        return max(1, round(height * factor)), max(1, round(width * factor))


class Analysis:
    """What the predictions of a data set get wrong.

    For a data set with a label divisor of 1 (`dataclasses.replace(dataset, label_divisor=1)`), maps hold plain classes.
    """

    def __init__(self, dataset: datasets.Dataset, *, keep: int = 6):
        """Starts empty.

        Args:
            dataset: what the labels mean.
            keep: how many of the worst and of the best images, and of the worst sequences, are kept.
        """
        self.dataset = dataset
        self.num_images = 0
        self.counts = error_breakdown.no_counts(dataset.num_classes)
        self.confusion = np.zeros((dataset.num_classes + 1,) * 2, np.int64)  # pixels, true by predicted; last: void
        self.mistaken = np.zeros((dataset.num_classes,) * 2, np.int64)  # segments of the wrong class, the same way
        self.tracks = timelines.Worst(keep)
        self._keep = keep
        self._num_scored = 0
        self._worst: list[Example] = []
        self._best: list[Example] = []

    @property
    def only_classes(self) -> bool:
        """Whether the maps hold classes without instances."""
        return error_findings.only_classes(self.dataset)

    def add(
        self,
        name: str,
        panoptic_true: Array,
        panoptic_pred: Array,
        load_image: Callable[[], Array] | None = None,
        sequence: str = "",
        frame: int = 0,
    ) -> None:
        """Adds one image.

        Args:
            name: what the report calls it.
            panoptic_true: [H, W] labels, crowds kept.
            panoptic_pred: [H, W] labels.
            load_image: gives the picture [H, W, 3] uint8; called only for what a report shows, when it is written. To
                send an analysis to another process, it must be possible to pickle it.
            sequence: the video it belongs to, "" for none. All frames of a video come one after another.
            frame: its number there, ascending.

        Raises:
            ValueError: bad maps, a label of no class, frames out of order.
        """
        try:
            runs = error_findings.runs(panoptic_true, panoptic_pred)
            found = error_findings.find(runs, self.dataset)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        self.num_images += 1
        self._count(found)
        if sequence:
            self.tracks.add(sequence, frame, found.followed)
        score, matched, errors = self._score(found)
        if score is None:
            return
        self._num_scored += 1
        rank = (score, -errors, matched, sequence, frame, name)
        self._choose([Example(name, score, rank, runs, load_image)])

    def merge(self, other: Analysis) -> None:
        """Adds what another one collected, over other images and whole sequences.

        Raises:
            ValueError: of another data set, or a sequence is in both.
        """
        if other.dataset != self.dataset or other._keep != self._keep:
            raise ValueError(f"Expected the errors of {self.dataset.name}, got those of {other.dataset.name}.")
        self.num_images += other.num_images
        self._num_scored += other._num_scored
        self.counts = error_breakdown.add(self.counts, other.counts)
        self.confusion += other.confusion
        self.mistaken += other.mistaken
        self.tracks.merge(other.tracks)
        self._choose([*other._worst, *other._best])

    def breakdown(self) -> error_breakdown.Breakdown:
        """Where the quality is lost."""
        return error_breakdown.semantic(self.confusion) if self.only_classes else error_breakdown.panoptic(self.counts)

    def worst(self) -> list[Example]:
        """The images of the lowest score, worst first; none without an error."""
        return [example for example in self._worst[: (self._num_scored + 1) // 2] if example.score < 1.0]

    def best(self) -> list[Example]:
        """The images of the highest score, best first; none that is among the worst."""
        taken = {example.rank for example in self.worst()}
        return [example for example in self._best if example.rank not in taken]

    def _count(self, found: error_findings.Findings) -> None:
        void = self.dataset.num_classes
        classes = [
            np.where(side.classes == self.dataset.ignore_label, void, side.classes) for side in (found.true, found.pred)
        ]
        overlaps = found.overlaps
        np.add.at(self.confusion, (classes[0][overlaps.true], classes[1][overlaps.pred]), overlaps.pixels)
        if self.only_classes:
            return
        self.counts = error_breakdown.add(self.counts, error_breakdown.count(found, self.dataset.num_classes))
        wrong = found.links.kinds == error_findings.Kind.WRONG_CLASS
        np.add.at(self.mistaken, (classes[0][found.links.true[wrong]], classes[1][found.links.pred[wrong]]), 1)

    def _score(self, found: error_findings.Findings) -> tuple[float | None, int, int]:
        """Quality of one image (None: nothing to score), and how much of it is right and wrong."""
        kind = error_findings.Kind
        if self.only_classes:
            per_class, right, wrong = _class_ious(found)
            return (float(np.mean(per_class)) if len(per_class) else None), right, wrong
        counts = error_breakdown.count(found, self.dataset.num_classes)
        here = error_breakdown.occurs(counts)
        matched = int(counts.matched.sum())
        errors = int(np.sum(found.true.kinds > kind.INEXACT) + np.sum(found.pred.kinds > kind.INEXACT))
        score = float(error_breakdown.quality_per_class(counts)[here].mean()) if here.any() else None
        return score, matched, errors

    def _choose(self, examples: list[Example]) -> None:
        """Takes what belongs to the worst and to the best."""
        ranked = {example.rank: example for example in (*self._worst, *self._best, *examples)}
        order = sorted(ranked)
        self._worst = [ranked[rank] for rank in order[: self._keep]]
        self._best = [ranked[rank] for rank in order[::-1][: self._keep]]


def _class_ious(found: error_findings.Findings) -> tuple[Array, int, int]:
    """IoU of every class in one image, and how many pixels are right and wrong."""
    overlaps = found.overlaps
    true, pred = found.true.labels[overlaps.true], found.pred.labels[overlaps.pred]
    scored = overlaps.kinds[:, 0] != error_findings.Kind.IGNORED
    right = scored & (true == pred)
    nothing = (found.pred.kinds == error_findings.Kind.IGNORED)[overlaps.pred]
    present = np.unique(np.concatenate([true[scored], pred[scored & ~nothing]]))
    ious = np.zeros(len(present))
    for index, label in enumerate(present):
        union = overlaps.pixels[scored & ((true == label) | (pred == label))].sum()
        ious[index] = overlaps.pixels[right & (true == label)].sum() / union
    return ious, int(overlaps.pixels[right].sum()), int(overlaps.pixels[scored & ~right].sum())
