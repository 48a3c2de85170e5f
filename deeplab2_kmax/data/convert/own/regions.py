"""Outlined objects -> pixels: polygons and run lengths, and the order in which they hide each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Region(NamedTuple):
    """One annotated object, or one piece of stuff, as far as it can be seen."""

    category: str | int  # as the annotations name it
    polygons: tuple[tuple[float, ...], ...] = ()  # x0, y0, x1, y1, ... in pixels; (0, 0) is the corner of the image
    runs: tuple[int, ...] = ()  # lengths of runs of 0, 1, 0, 1, ... pixels
    by_columns: bool = True  # the runs go down the columns, as COCO's do, not along the rows
    box: tuple[int, int, int, int] = (0, 0, 0, 0)  # left, top, width, height of the part that the runs cover; 0: all
    crowd: bool = False
    order: int = 0  # a higher one lies on top
    where: str = ""  # for messages


def mask(region: Region, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a region, [H, W] bool: those whose centre lies inside a polygon, or in the runs of 1.

    Raises:
        ValueError: runs of another length than the pixels they cover, or a polygon that is none.
    """
    found = np.zeros(size, bool)
    for polygon in region.polygons:
        found |= fill(polygon, size, region.where)
    if region.runs:
        left, top, width, height = region.box if any(region.box) else (0, 0, size[1], size[0])
        if sum(region.runs) != width * height or min(region.runs) < 0:
            raise ValueError(f"{region.where}: the runs cover {sum(region.runs)} pixels, expected {width} x {height}")
        if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
            raise ValueError(f"{region.where}: the mask reaches beyond the image")
        values = np.repeat(np.arange(len(region.runs)) % 2 == 1, region.runs)
        part = values.reshape((width, height)).T if region.by_columns else values.reshape((height, width))
        found[top : top + height, left : left + width] |= part
    return found


def fill(polygon: Sequence[float], size: tuple[int, int], where: str = "polygon") -> np.ndarray:
    """The pixels [H, W] whose centres a polygon (x0, y0, x1, y1, ...) winds around; parts beyond the image are cut."""
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"{where}: a polygon has three points or more, this has {len(polygon) / 2:g}")
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    if not np.all(np.isfinite(points)):
        raise ValueError(f"{where}: a polygon has a point that is no number")
    height, width = size
    winding = np.zeros((height, width + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0)):
        if y0 == y1:
            continue
        low, high = sorted((y0, y1))
        # Rows whose centre line y + 0.5 the edge crosses; its lower end belongs to it, its upper end does not.
        rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(height, int(np.ceil(high - 0.5))))
        crossings = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        first = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)  # first pixel centre to its right
        np.add.at(winding, (rows, first), 1 if y1 > y0 else -1)
    return np.cumsum(winding, axis=1)[:, :width] != 0


def paint(regions: Iterable[Region], size: tuple[int, int]) -> list[tuple[Region, np.ndarray, int]]:
    """What can be seen of every region: (region, its visible pixels [H, W], how many it has in all), in their order.

    A higher `order` hides a lower one; of equal ones the smaller lies on top, and a crowd below all others.
    """
    listed = list(regions)
    masks = [mask(region, size) for region in listed]
    areas = [int(pixels.sum()) for pixels in masks]
    below = sorted(range(len(listed)), key=lambda k: (listed[k].order, not listed[k].crowd, -areas[k], k))
    owner = np.full(size, -1, np.int32)
    for k in below:
        owner[masks[k]] = k
    return [(region, owner == k, areas[k]) for k, region in enumerate(listed)]


def coco_runs(text: str, where: str) -> tuple[int, ...]:
    """COCO's compressed run lengths: numbers in groups of 5 bits, from the third run on as differences to the last but
    one."""
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            if position >= len(text):
                raise ValueError(f"{where}: compressed run lengths that end too soon")
            code = ord(text[position]) - 48
            if not 0 <= code < 64:
                raise ValueError(f"{where}: {text[position]!r} in compressed run lengths")
            value |= (code & 31) << shift
            shift, position, more = shift + 5, position + 1, bool(code & 32)
            if not more and code & 16:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return tuple(runs)
