"""Random label maps with everything that metrics have rules for, and with more of it than chance would give."""

import numpy as np

from evaluation import segments
from tests.evaluation import official

# Three classes of things, one of stuff.
DATA = official.Data(segments.Labels(4, 255, 1000), (0, 1, 2), {0: 24, 1: 25, 2: 26, 3: 7})
VOID, STUFF = DATA.void, 3000
# Two tracked classes, car and pedestrian in the files of TrackEval.
TRACKS = official.Data(segments.Labels(3, 255, 10), (0, 1), {0: 26, 1: 24, 2: 7})


def scene(rng, size, *, block=4):
    """Ground truth, prediction, two score maps; equal blocks give IoUs of exactly a half, coarse scores give ties."""
    labels = [STUFF, VOID, *(c * 1000 + i for c in DATA.thing_ids for i in range(4))]
    if rng.uniform() < 0.15:
        labels = rng.choice(labels, 1)  # one segment: all void, all crowd, ...
    y_true = rng.choice(labels, (size // block, size // block)).repeat(block, 0).repeat(block, 1)
    for _ in range(rng.integers(0, 3)):
        row, column, *extent = rng.integers(0, size // 2, 4)
        y_true[row : row + extent[0], column : column + extent[1]] = rng.choice(labels)
    y_pred = np.where(y_true == VOID, 1, y_true)
    for _ in range(rng.integers(1, 6)):
        row, column, *extent = rng.integers(1, size, 4) // block * block
        y_pred[row : row + extent[0], column : column + extent[1]] = rng.choice([*labels, VOID])
    scores = rng.integers(1, 9, (2, size, size)).astype(np.float32) / 8
    if rng.uniform() < 0.5:
        scores[:] = 0.5
    return (y_true.astype(np.int32), y_pred.astype(np.int32), *scores)


def scenes(seed, count=12):
    """Scenes of several sizes; the last one is predicted to be void altogether."""
    rng = np.random.default_rng(seed)
    images = [scene(rng, rng.choice([12, 24, 48, 144]), block=rng.choice([2, 4, 12])) for _ in range(count)]
    y_true, y_pred, *scores = images[-1]
    return [*images[:-1], (y_true, np.full_like(y_pred, VOID), *scores)]


def video(seed, length=12, size=(40, 61)):
    """True and predicted tracks [2, T, H, W] that move, vanish and change their ids, with crowds and void."""
    rng = np.random.default_rng(seed)
    maps = np.full((2, length, *size), 20, np.int32)
    for label in [0, 1, 2, 3, 11, 12, TRACKS.void]:
        top, left, height, width = (
            rng.integers(0, 26),
            rng.integers(0, 36),
            rng.integers(6, 14),
            rng.integers(8, 20),
        )
        for frame in range(length):
            for side in range(2):
                if rng.uniform() < 0.85:
                    drawn = rng.choice([label, 4, 13]) if side and rng.uniform() < 0.2 else label
                    place = left + frame // 2 + side * rng.integers(0, 4)
                    maps[side, frame, top : top + height, place : place + width] = drawn
    # An IoU of exactly one half is a match for TrackEval, and none for the MOTS tools: no such pair.
    for true, pred in zip(*maps):
        for g, p in {(g, p) for g, p in zip(true.flat, pred.flat) if g < 20 and p < 20}:
            both = (true == g) & (pred == p)
            if 2 * both.sum() == ((true == g) | (pred == p)).sum():
                pred[tuple(np.argwhere(both)[0])] = 20
    return maps
