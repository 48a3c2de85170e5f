"""What an image's label is read from, in one of three shapes, and how it becomes panoptic ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

import numpy as np
from PIL import Image

from deeplab2_kmax.data.convert import components, files, segments
from deeplab2_kmax.data.convert.own import regions

COMPACT = 0.9  # of the pixels of a segment are connected


class Table(NamedTuple):
    """What the annotations' categories become."""

    categories: Mapping[Any, segments.Category]
    ignore_label: int
    label_divisor: int
    background: int | None = None  # class of the pixels that nothing covers; None: they are void

    @property
    def void(self) -> int:
        return self.ignore_label * self.label_divisor

    def to_json(self) -> list[Any]:
        """As JSON values; `from_json` is the inverse."""
        rows = [[category, *value] for category, value in self.categories.items()]
        return [rows, self.ignore_label, self.label_divisor, self.background]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Table:
        rows, *rest = values
        return cls({row[0]: segments.Category(row[1], row[2]) for row in rows}, *rest)


class Found(NamedTuple):
    """A label and what is worth telling about it."""

    label: np.ndarray  # [H, W] int32, panoptic ids
    notes: tuple[str, ...] = ()


class SegmentPng(NamedTuple):
    """A PNG of segment ids, R + 256 G + 65536 B, with the list of its segments."""

    png: str
    segments: tuple[segments.Segment, ...]

    @property
    def files(self) -> tuple[str, ...]:
        return (self.png,)

    @property
    def used(self) -> set[int]:
        return {segment.category_id for segment in self.segments}

    def size(self) -> tuple[int, int] | None:
        return files.size(self.png)

    def read(self, size: tuple[int, int], table: Table) -> Found:
        del size
        pixels = files.read_map(self.png, channels=3)
        label = segments.to_panoptic(
            pixels,
            self.segments,
            table.categories,
            ignore_label=table.ignore_label,
            label_divisor=table.label_divisor,
            where=self.png,
        )
        listed = [segment.id for segment in self.segments]
        extra = np.setdiff1d(np.unique(pixels.astype(np.int64) @ [1, 256, 65536]), [0, *listed])
        notes = [f"{len(extra)} ids of the PNG are not in the JSON, such as {extra[0]}: void"] if len(extra) else []
        return Found(label, tuple(notes))


class Outlines(NamedTuple):
    """Regions; `files` tells what they were read from where that is a file of this image alone."""

    regions: tuple[regions.Region, ...]
    annotated_size: tuple[int, int] | None = None  # height, width
    files: tuple[str, ...] = ()

    @property
    def used(self) -> set[str | int]:
        return {region.category for region in self.regions}

    def size(self) -> tuple[int, int] | None:
        return self.annotated_size

    def read(self, size: tuple[int, int], table: Table) -> Found:
        empty = table.void if table.background is None else table.background * table.label_divisor
        label = np.full(size, empty, np.int32)
        counts: dict[int, int] = {}
        notes = []
        for region, window, pixels, area in regions.paint(self.regions, size):
            if region.category not in table.categories:
                raise ValueError(f"{region.where}: the class {region.category!r} is not in the list of classes")
            class_id, is_thing = table.categories[region.category]
            if not pixels.any():
                reason = "others hide it" if area else "it covers no pixel"
                notes.append(f"{region.where} is left out: {reason}")
                continue
            if region.crowd:
                label[window][pixels] = table.void
                continue
            instance = 0
            if is_thing:
                instance = counts[class_id] = counts.get(class_id, 0) + 1
                _check_instance(instance, class_id, table, region.where)
            label[window][pixels] = class_id * table.label_divisor + instance
        return Found(label, tuple(notes))


class Maps(NamedTuple):
    """A PNG with the class of every pixel, one with the number of its instance, or both."""

    class_png: str | None
    instance_png: str | None
    rule: MapRule

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(path for path in (self.class_png, self.instance_png) if path is not None)

    def size(self) -> tuple[int, int] | None:
        return files.size(self.files[0])

    @property
    def used(self) -> set[int]:
        """The category of every pixel, read from the file."""
        return set(np.unique(self._classes()).tolist()) - set(self.rule.void)

    def _classes(self) -> np.ndarray:
        if self.class_png is not None:
            return read_map(self.class_png, self.rule.colors)
        assert self.instance_png is not None
        values = read_ids(self.instance_png)
        divisor = self.rule.divisor
        if not divisor:  # one class
            return np.where(np.isin(values, self.rule.void), values, np.where(values == self.rule.none, 0, 1))
        return np.where(values < divisor, values, values // divisor)

    def _instances(self, classes: np.ndarray) -> np.ndarray:
        """Number of the instance at every pixel, 0 where there is none."""
        assert self.instance_png is not None
        values = read_ids(self.instance_png)
        if values.shape != classes.shape:
            raise ValueError(f"{self.instance_png}: {_size(values)}, but the class map is {_size(classes)}")
        if self.rule.divisor:
            return np.where(values < self.rule.divisor, 0, values % self.rule.divisor + 1)
        if self.rule.none == CLASS:
            return _running_numbers(classes, values)
        if self.rule.none is None:
            return values + 1
        return np.where(values == self.rule.none, 0, values + 1)

    def read(self, size: tuple[int, int], table: Table) -> Found:
        classes = self._classes()
        if classes.shape != size:
            raise ValueError(f"{self.files[0]}: {_size(classes)}, but the image is {size[0]} x {size[1]}")
        instances = None if self.instance_png is None else self._instances(classes)
        label = np.full(size, table.void, np.int32)
        without: dict[int, int] = {}  # pixels of a thing that belong to no instance
        for category in np.unique(classes).tolist():
            here = classes == category
            if category in self.rule.void:
                continue
            if category not in table.categories:
                raise ValueError(
                    f"{self.files[0]}: {int(here.sum())} pixels have the value {category}, which is no class; expected "
                    f"{_shorten(sorted(table.categories))}"
                )
            class_id, is_thing = table.categories[category]
            if not is_thing or instances is None:
                label[here] = class_id * table.label_divisor
                continue
            own = instances[here]
            present = np.unique(own)
            numbered = present[present > 0]
            _check_instance(len(numbered), class_id, table, self.files[-1])
            ids = class_id * table.label_divisor + 1 + np.searchsorted(numbered, own)
            label[here] = np.where(own > 0, ids, table.void)
            if bare := int((own == 0).sum()):
                without[category] = bare
        named = _shorten(sorted(without))
        notes = [f"{sum(without.values())} pixels of the things {named} belong to no instance: void"] if without else []
        return Found(label, tuple(notes))


CLASS = "class"


class MapRule(NamedTuple):
    """How the numbers in maps are meant."""

    void: tuple[int, ...] = (255,)
    none: Union[int, str, None] = 0  # what marks a pixel of no instance: a number, CLASS: that of the class; or nothing
    divisor: int = 0  # > 0: the instance map holds class * divisor + instance, and classes alone where it is smaller
    colors: tuple[tuple[int, int, int], ...] = ()  # of the categories, for maps in RGB


Label = Union[SegmentPng, Outlines, Maps]


class Item(NamedTuple):
    """One image with its label."""

    name: str  # below the folder of images, without the ending
    image: str
    label: Label
    upright: bool = False  # the label was drawn on the image as its EXIF orientation turns it

    @property
    def files(self) -> tuple[str, ...]:
        return (self.image, *self.label.files)


def read_map(path: str, colors: Sequence[Sequence[int]]) -> np.ndarray:
    """A map [H, W] int32; with `colors` an RGB (or coloured) PNG, whose colours become their positions.

    Raises:
        ValueError: it cannot be read, or has a colour that is not listed.
    """
    if not colors:
        return files.read_integers(path)
    pixels = files.read_rgb(path).astype(np.int32) @ np.array([65536, 256, 1])
    codes = np.array([r * 65536 + g * 256 + b for r, g, b in colors], np.int64)
    order = np.argsort(codes, kind="stable")
    places = np.clip(np.searchsorted(codes[order], pixels), 0, len(codes) - 1)
    found = order[places]
    if (wrong := codes[found] != pixels).any():
        code = int(pixels[wrong][0])
        color = (code >> 16, code >> 8 & 255, code & 255)
        raise ValueError(f"{path}: {int(wrong.sum())} pixels have colours of no class, such as {color}")
    return found.astype(np.int32)


def read_ids(path: str) -> np.ndarray:
    """A map of ids [H, W] int32 of one channel, or coloured ones: every colour is an id, black is 0."""
    with Image.open(path) as image:
        if image.mode not in ("RGB", "RGBA"):
            return files.read_integers(path)
    return (files.read_rgb(path).astype(np.int32) @ np.array([65536, 256, 1])).astype(np.int32)


def _running_numbers(classes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Instances of a class map in which every instance is overwritten by its number 0, 1, 2, ... of the whole image.

    Where the number is that of the class there was no instance, unless the numbers have a gap just there and the
    pixels hang together.
    """
    instances = np.where(values == classes, 0, values + 1)
    numbers = set(np.unique(values[values != classes]).tolist())
    for category in np.unique(classes[values == classes]).tolist():
        if category in numbers or category > max(numbers, default=-1):
            continue
        own = (values == category) & (classes == category)
        parts, _ = components.label(own)
        if np.bincount(parts[own]).max() >= COMPACT * own.sum():
            instances[own] = category + 1
    return instances


def _check_instance(number: int, class_id: int, table: Table, where: str) -> None:
    if number >= table.label_divisor:
        raise ValueError(
            f"{where}: class {class_id} has {number} instances or more, but the label divisor is "
            f"{table.label_divisor}; set --label_divisor={table.label_divisor * 10}"
        )


def _size(values: np.ndarray) -> str:
    return f"{values.shape[0]} x {values.shape[1]}"


def _shorten(values: Sequence[Any], keep: int = 8) -> str:
    text = ", ".join(map(str, values[:keep]))
    return text + (f" and {len(values) - keep} more" if len(values) > keep else "")
