"""J&F by its definition and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from evaluation import region_boundary
from tests.evaluation import videos


def plain_f(true, pred, radius):
    def boundary(mask):
        height, width = mask.shape
        result = np.zeros_like(mask)
        for y, x in np.ndindex(height, width):
            others = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [mask[p] for p in others if p[0] < height and p[1] < width]
            if y == height - 1 or x == width - 1:
                inside = [mask[p] for p in others[:2] if p[0] < height and p[1] < width]
            result[y, x] = any(value != mask[y, x] for value in inside)
        return np.argwhere(result)

    true, pred = boundary(true), boundary(pred)
    if not len(true) or not len(pred):
        return float(len(true) == len(pred))
    near = ((true[:, None] - pred[None]) ** 2).sum(-1) <= radius**2
    recall, precision = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_boundary_measure_by_its_definition(seed):
    rng = np.random.default_rng(seed)
    true, pred = (np.kron(rng.uniform(size=(4, 5)) < 0.4, np.ones((4, 3))).astype(bool) for _ in range(2))
    for radius in (1, 2, 3):
        ours = region_boundary.boundary_f(tf.constant(true), tf.constant(pred), radius)
        np.testing.assert_allclose(ours, plain_f(true, pred, radius), rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 300])
def test_region_of_short_and_long_sequences(length):
    maps = np.zeros((length, 6, 6), np.int32)
    maps[:, 1:3, 1:3], maps[:, 4:, 4:] = 1, 2
    pred = maps.copy()
    pred[length // 2 :] = 0
    metric = region_boundary.RegionAndBoundary(max_objects=2, max_frames=300)
    result = videos.feed(metric, (maps, pred), np.zeros(length, int), "graph", batch=length).result()
    count = max(length - 2, 0)
    assert result["num_objects"] == (2 if count else 0)
    hits = np.arange(1, length - 1) < length // 2
    np.testing.assert_allclose(result["j_mean"], hits.mean() if count else 0)
    if length == 300:
        assert result["j_decay"] == 1 and result["f_decay"] == 1


def test_region_without_objects_in_a_frame():
    true, pred = np.zeros((4, 4, 4), np.int32), np.zeros((4, 4, 4), np.int32)
    true[0], pred[1, 0, 0], true[2, :2], pred[2, :2] = 1, 1, 255, 7  # background where ignored, unknown object
    result = videos.feed(videos.REGION(), (true, pred), np.zeros(4, int)).result()
    np.testing.assert_allclose([result["j_mean"], result["f_mean"]], [0.5, 0.5])
