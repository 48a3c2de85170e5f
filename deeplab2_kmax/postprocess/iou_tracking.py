"""Instances of single frames become tracks of a video by their overlap (the baseline of STEP, 2021, arXiv 2102.11859).

Per class, instances are assigned to the last masks of the tracks so that the overlaps are largest in all; a track that
is lost can be found again for some frames. Differences from DeepLab2: all overlaps come from one joint histogram, not
from a loop over pairs of masks; and a missing flow is simply none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from deeplab2_kmax import labels
from deeplab2_kmax.matching import hungarian

Array = Any  # np.ndarray


class Rules(NamedTuple):
    """What makes a track."""

    thing_ids: tuple[int, ...]  # the classes that are tracked, new tracks are numbered in their order
    label_divisor: int
    memory: int = 10  # frames that a track can be away and still be found again
    least_overlap: float = 0.3  # intersection over union; a pair must be above
    # Behind the label divisor numbers begin anew, past those that are remembered; else running out is an error.
    reuse_ids: bool = False


class Flow(NamedTuple):
    """Where the pixels of the previous frame went."""

    forward: Array  # [H, W, 2] float, (x, y) in pixels, from the previous frame to this one
    occluded: Array | None = None  # [H, W], not 0 where a pixel of the previous frame is hidden in this one


class _Seen(NamedTuple):
    """The tracks that were seen last in one frame."""

    ids: Array  # [S] int32, packed as panoptic ids; 0 where the track was seen again since
    place: Array  # [H, W] int64, of every pixel in `ids`; S where there is none


class IoUTracker:
    """Panoptic maps of the frames of a video, one by one, -> the same with ids of tracks.

    It holds at most `memory` + 1 maps, however long the video. `state` and `restore` take them out and in.
    """

    def __init__(self, rules: Rules):
        self.rules = rules
        self.reset()

    def reset(self) -> None:
        """The next frame is the first one of a video."""
        self._next_id = 1
        self._seen: list[_Seen] = []  # newest first; a track's last mask is in the frame where it was seen last

    @property
    def next_id(self) -> int:
        """The number of the next new track."""
        return self._next_id

    def __call__(self, panoptic: Array, flow: Flow | None = None) -> Array:
        """Takes the next frame.

        Args:
            panoptic: [H, W] int32, panoptic ids; instances of classes that are not tracked keep theirs.
            flow: pulls the frame back to the previous one before overlaps are taken; what is remembered is as it is.

        Returns:
            [H, W] int32, the same with ids of tracks.

        Raises:
            ValueError: the size is not that of the frames before, or track ids reach the label divisor.
        """
        panoptic = np.asarray(panoptic, np.int32)
        self._check_size(panoptic, flow)
        divisor = self.rules.label_divisor
        ids = np.flatnonzero(np.bincount(panoptic.ravel())).astype(np.int32)
        ids = ids[labels.instance_of(ids, divisor) > 0]
        ids = ids[np.isin(labels.class_of(ids, divisor), self.rules.thing_ids)]
        place = _index(panoptic, ids)
        layers = place[None] if flow is None else _pulled_back(place, len(ids), flow)
        tracks, overlaps = self._overlaps(layers, len(ids))

        new, numbers, next_id = np.zeros_like(ids), self._numbers(tracks), self._next_id
        for class_id in self.rules.thing_ids:
            (rows,) = np.nonzero(labels.class_of(ids, divisor) == class_id)
            (columns,) = np.nonzero(labels.class_of(tracks, divisor) == class_id)
            found, opened = _match(overlaps[np.ix_(rows, columns)], self.rules.least_overlap)
            new[rows[list(found)]] = tracks[columns[list(found.values())]]
            for row in opened:
                number = next(numbers)
                new[rows[row]] = labels.pack(class_id, number, divisor)
                next_id = number + 1

        # Only now does anything change, so that a frame that cannot be tracked leaves the state as it was.
        self._next_id = next_id
        older = [seen._replace(ids=np.where(np.isin(seen.ids, new), 0, seen.ids)) for seen in self._seen]
        self._seen = [_Seen(new, place), *older][: self.rules.memory + 1]
        return np.where(place < len(ids), np.append(new, 0)[place], panoptic)

    def state(self) -> dict[str, Array]:
        """What is remembered, as arrays."""
        maps = [np.append(seen.ids, 0)[seen.place] for seen in self._seen]
        return {"next_id": np.array(self._next_id), "seen": np.array(maps, np.int32)}  # [frames, H, W]

    def restore(self, state: dict[str, Array]) -> None:
        """Goes on from a `state()`."""
        ids = [np.unique(seen[seen > 0]) for seen in state["seen"]]
        self._next_id = int(state["next_id"])
        self._seen = [_Seen(one, _index(seen, one)) for seen, one in zip(state["seen"], ids)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state to a file (.npz)."""
        with open(path, "wb") as file:
            np.savez_compressed(file, **self.state())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Goes on from a saved state."""
        with np.load(path, allow_pickle=False) as arrays:
            self.restore(dict(arrays))

    def _numbers(self, tracks: Array) -> Iterator[int]:
        """The numbers of new tracks; `tracks` are remembered."""
        divisor, next_id = self.rules.label_divisor, self._next_id
        taken = {*labels.instance_of(tracks, divisor).tolist()}
        while True:
            if next_id >= divisor and self.rules.reuse_ids:
                next_id = 1
            if next_id >= divisor or len(taken) >= divisor - 1:
                raise ValueError(
                    f"There are {divisor - 1} tracks, more do not fit below the label divisor: start anew with "
                    "reset(), or take a larger label divisor."
                )
            if next_id not in taken:
                taken.add(next_id)
                yield next_id
            next_id += 1

    def _overlaps(self, layers: Array, count: int) -> tuple[Array, Array]:
        """All live tracks by their numbers, and [instances, tracks] the overlaps with their last masks."""
        areas = _histogram(layers, np.zeros_like(layers[0]), count, 1)
        tracks, parts = [np.zeros(0, np.int32)], [np.zeros([count, 0])]
        for seen in self._seen:
            (live,) = np.nonzero(seen.ids)
            if len(live):
                shared = _histogram(layers, seen.place, count, len(seen.ids))
                sizes = np.bincount(seen.place.ravel(), minlength=len(seen.ids))[: len(seen.ids)]
                tracks.append(seen.ids[live])
                parts.append((shared / np.maximum(areas + sizes - shared, 1))[:, live])
        found = np.concatenate(tracks)
        order = np.argsort(labels.instance_of(found, self.rules.label_divisor))
        return found[order], np.concatenate(parts, axis=1)[:, order]

    def _check_size(self, panoptic: Array, flow: Flow | None) -> None:
        if panoptic.ndim != 2:
            raise ValueError(f"Expected the panoptic ids of one frame [H, W], found {list(panoptic.shape)}.")
        size = self._seen[0].place.shape if self._seen else panoptic.shape
        if size != panoptic.shape:
            raise ValueError(
                f"Expected a frame {list(size)} as those before, found {list(panoptic.shape)}: call reset() where "
                "another video begins."
            )
        if flow is not None and flow.forward.shape != (*panoptic.shape, 2):
            raise ValueError(f"Expected a flow {[*panoptic.shape, 2]}, found {list(flow.forward.shape)}.")


def _match(overlaps: Array, least: float) -> tuple[dict[int, int], Sequence[int]]:
    """The instances [R] that go on with a track [N], as {row: column}, and the rows that open one, in their order."""
    rows, columns = overlaps.shape
    if not rows or not columns:
        return {}, range(rows)
    (assigned,) = hungarian.linear_sum_assignment(-overlaps[None], [rows]).numpy()
    pairs = {row: int(column) for row, column in enumerate(assigned) if column >= 0}
    good = {row: column for row, column in pairs.items() if overlaps[row, column] > least}
    return good, [*(row for row in range(rows) if row not in pairs), *(row for row in pairs if row not in good)]


def _index(maps: Array, ids: Array) -> Array:
    """The place of every pixel in `ids` [S], ascending; S where it is none of them."""
    places = np.full(max(maps.max(initial=0), ids.max(initial=0)) + 1, len(ids))
    places[ids] = np.arange(len(ids))
    return places[maps]


def _histogram(layers: Array, columns: Array, num_rows: int, num_columns: int) -> Array:
    """How many pixels have a row and a column: [L, H, W] and [H, W] -> [rows, columns]; others are left out."""
    cells = layers * (num_columns + 1) + columns
    counts = np.bincount(cells.ravel(), minlength=(num_rows + 1) * (num_columns + 1))
    return counts.reshape(num_rows + 1, num_columns + 1)[:num_rows, :num_columns]


def _pulled_back(place: Array, count: int, flow: Flow) -> Array:
    """The instances of every pixel [4, H, W] of the previous frame, each at most once; `count` where there is none.

    A mask is sampled bilinearly, and any share of it counts: up to four masks can have a pixel.
    """
    height, width = place.shape
    ys, xs = np.mgrid[:height, :width]
    x, y = xs + flow.forward[..., 0].astype(np.float64), ys + flow.forward[..., 1].astype(np.float64)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    layers: list[Array] = []
    for row, has_row in ((top, True), (top + 1, y > top)):
        for column, has_column in ((left, True), (left + 1, x > left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & has_row & has_column
            if flow.occluded is not None:
                inside &= np.asarray(flow.occluded) == 0
            layer = np.where(inside, place[row.clip(0, height - 1), column.clip(0, width - 1)], count)
            for other in layers:
                layer = np.where(layer == other, count, layer)
            layers.append(layer)
    return np.stack(layers)
