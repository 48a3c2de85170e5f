"""Reads every image and label once before anything is written: sizes, classes, segments, and all problems."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deeplab2_kmax.data.convert import parallel
from deeplab2_kmax.data.convert.own import labels, pictures


class Seen(NamedTuple):
    """What one image and its label hold."""

    name: str
    size: tuple[int, int] = (0, 0)  # height, width
    pixels: dict[int, int] = {}  # of every class, void included
    segments: dict[int, int] = {}  # of every class
    notes: tuple[str, ...] = ()
    problem: str = ""  # why it cannot be used

    @property
    def num_segments(self) -> int:
        return sum(self.segments.values())


def look(item: labels.Item, *, table: Sequence[Any], max_pixels: int) -> Seen:
    """Reads an image and its label."""
    known = labels.Table.from_json(table)
    try:
        picture = pictures.read(item, max_pixels=max_pixels)
        found = item.label.read(picture.size, known)
        if found.label.shape != picture.size:
            raise ValueError(f"{item.image}: the label is {found.label.shape}, the image {picture.size}")
    except (ValueError, OSError) as error:
        return Seen(item.name, problem=" ".join(str(error).split()))
    ids, counts = np.unique(found.label, return_counts=True)
    pixels: dict[int, int] = {}
    segments: dict[int, int] = {}
    for number, count in zip(ids.tolist(), counts.tolist()):
        class_id = number // known.label_divisor
        pixels[class_id] = pixels.get(class_id, 0) + count
        if class_id != known.ignore_label:
            segments[class_id] = segments.get(class_id, 0) + 1
    notes = [*([picture.note] if picture.note else []), *found.notes]
    if not segments:
        notes.append("nothing is annotated: all pixels are void")
    return Seen(item.name, picture.size, pixels, segments, tuple(notes))


def survey(items: Sequence[labels.Item], table: labels.Table, *, max_pixels: int, num_processes: int) -> list[Seen]:
    """One entry per item, in order."""
    work = functools.partial(look, table=table.to_json(), max_pixels=max_pixels)
    return parallel.run(work, items, "survey", num_processes)


def used(item: labels.Item) -> tuple[set[Any], str]:
    """The categories of a label, and what is wrong with it."""
    try:
        return item.label.used, ""
    except (ValueError, OSError) as error:
        return set(), " ".join(str(error).split())
