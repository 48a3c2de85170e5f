"""Connected components of a mask: stand-ins for instances where a data set has class labels only."""

from __future__ import annotations

import numpy as np


def label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers the components of a mask; pixels that touch at a corner are connected.

    Args:
        mask: [H, W] bool.

    Returns:
        [H, W] int32 with 0 outside the mask and 1, 2, ... inside, in order of the first pixel row by row, and their
        number.
    """
    height, width = mask.shape
    # Runs of pixels in a row, [start, stop).
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    first_of_row = np.searchsorted(rows, np.arange(height + 1))
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    for row in range(1, height):
        above, own = first_of_row[row - 1], first_of_row[row]
        while above < first_of_row[row] and own < first_of_row[row + 1]:
            if starts[above] <= stops[own] and starts[own] <= stops[above]:
                low, high = sorted((root(int(above)), root(int(own))))
                parents[high] = low
            if stops[above] < stops[own]:
                above += 1
            else:
                own += 1
    roots = np.array([root(run) for run in range(len(rows))], np.int64)
    found, numbers = np.unique(roots, return_inverse=True)  # a root is the first run of its component
    out = np.zeros(height * (width + 1), np.int32)
    np.add.at(out, rows * (width + 1) + starts, numbers.astype(np.int32) + 1)
    np.add.at(out, rows * (width + 1) + stops, -(numbers.astype(np.int32) + 1))
    return np.cumsum(out.reshape(height, width + 1), axis=1, dtype=np.int32)[:, :width], len(found)
