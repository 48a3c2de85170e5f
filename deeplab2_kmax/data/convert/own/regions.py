"""Outlined objects -> pixels: polygons and run lengths, and the order in which they hide each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

Window = tuple[slice, slice]  # rows and columns of an image: what a region needs, however large the image is


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


def mask(region: Region, size: tuple[int, int]) -> tuple[Window, np.ndarray]:
    """The pixels of a region: those whose centre lies inside a polygon, or in the runs of 1.

    Returns:
        a window of the image [H, W], and the pixels in it, bool; there are none outside.

    Raises:
        ValueError: runs of another length than the pixels they cover, or a polygon that is none.
    """
    points = [_points(polygon, region.where) for polygon in region.polygons]
    if not region.runs:
        window = _around(points, size)
        found = np.zeros([side.stop - side.start for side in window], bool)
        for corners in points:
            found |= _fill(corners, window)
        return window, found
    left, top, width, height = region.box if any(region.box) else (0, 0, size[1], size[0])
    if sum(region.runs) != width * height or min(region.runs) < 0:
        raise ValueError(f"{region.where}: the runs cover {sum(region.runs)} pixels, expected {width} x {height}")
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError(f"{region.where}: the mask reaches beyond the image")
    values = np.repeat(np.arange(len(region.runs)) % 2 == 1, region.runs)
    part = values.reshape((width, height)).T if region.by_columns else values.reshape((height, width))
    rows, columns = (np.flatnonzero(part.any(axis)) for axis in (1, 0))
    if not len(rows):
        return (slice(0, 0), slice(0, 0)), np.zeros([0, 0], bool)
    part = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    top, left = top + int(rows[0]), left + int(columns[0])
    return (slice(top, top + part.shape[0]), slice(left, left + part.shape[1])), part


def fill(polygon: Sequence[float], size: tuple[int, int], where: str = "polygon") -> np.ndarray:
    """The pixels [H, W] whose centres a polygon (x0, y0, x1, y1, ...) winds around; parts beyond the image are cut."""
    return _fill(_points(polygon, where), (slice(0, size[0]), slice(0, size[1])))


def _points(polygon: Sequence[float], where: str) -> np.ndarray:
    """The corners [P, 2], (x, y)."""
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"{where}: a polygon has three points or more, this has {len(polygon) / 2:g}")
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    if not np.all(np.isfinite(points)):
        raise ValueError(f"{where}: a polygon has a point that is no number")
    return points


def _around(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> Window:
    """The part of an image that polygons can reach."""
    if not polygons:
        return slice(0, 0), slice(0, 0)
    corners = np.concatenate(polygons)[:, ::-1]
    limits = np.array(size)
    low = np.clip(np.floor(corners.min(axis=0)), 0, limits).astype(int).tolist()
    high = np.clip(np.ceil(corners.max(axis=0)), 0, limits).astype(int).tolist()
    return slice(low[0], high[0]), slice(low[1], high[1])


def _fill(points: np.ndarray, window: Window) -> np.ndarray:
    """As `fill`, the pixels of a window. Coordinates stay those of the image, so that neighbours divide the pixels of a
    common edge whatever their windows."""
    (top, bottom), (left, right) = ((side.start, side.stop) for side in window)
    winding = np.zeros((bottom - top, right - left + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0)):
        if y0 == y1:
            continue
        low, high = sorted((y0, y1))
        # Rows whose centre line y + 0.5 the edge crosses; its lower end belongs to it, its upper end does not.
        rows = np.arange(max(top, int(np.ceil(low - 0.5))), min(bottom, int(np.ceil(high - 0.5))))
        crossings = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        first = np.clip(np.ceil(crossings - 0.5), left, right).astype(np.int64)  # first pixel centre to its right
        np.add.at(winding, (rows - top, first - left), 1 if y1 > y0 else -1)
    return np.cumsum(winding, axis=1)[:, :-1] != 0


def paint(regions: Iterable[Region], size: tuple[int, int]) -> Iterator[tuple[Region, Window, np.ndarray, int]]:
    """What can be seen of every region: (region, a window of the image, its visible pixels there, how many it has in
    all), in their order.

    A higher `order` hides a lower one; of equal ones the smaller lies on top, and a crowd below all others.
    """
    listed = list(regions)
    masks = [mask(region, size) for region in listed]
    areas = [int(pixels.sum()) for _, pixels in masks]
    below = sorted(range(len(listed)), key=lambda k: (listed[k].order, not listed[k].crowd, -areas[k], k))
    owner = np.full(size, -1, np.int32)
    for k in below:
        window, pixels = masks[k]
        owner[window][pixels] = k
    for k, region in enumerate(listed):
        window, _ = masks[k]
        yield region, window, owner[window] == k, areas[k]


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
