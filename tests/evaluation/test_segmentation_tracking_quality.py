"""STQ and DSTQ by their definitions and by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from evaluation import segmentation_tracking_quality, video_panoptic_quality
from tests.evaluation import videos


def plain_stq(true, pred, sequences):
    """AQ and number of tubes by the definition."""
    total, count = 0.0, 0
    for sequence in np.unique(sequences):
        gt, seen = true[sequences == sequence], pred[sequences == sequence]
        crowd = (gt // 10 < 2) & (gt % 10 == 0)
        g_set, p_set = (gt // 10 < 2) & ~crowd, (seen // 10 < 2) & ~crowd
        for g in np.unique(gt[g_set]):
            own = (gt == g) & g_set
            for p in np.unique(seen[own & p_set]):
                other = (seen == p) & p_set
                total += (own & other).sum() ** 2 / (own | other).sum() / own.sum()
            count += 1
    return total / count, count


@pytest.mark.parametrize("seed", range(4))
def test_association_by_its_definition(seed):
    columns, sequences = videos.frames("labels", (4, 6, 1), 30 + seed)
    result = videos.feed(videos.STQ(), columns, sequences).result()
    aq, num_tubes = plain_stq(*columns, sequences)
    assert result["num_tubes"] == num_tubes
    np.testing.assert_allclose(result["aq"], aq, rtol=1e-12)


THING, OTHER = 0, 10


@pytest.mark.parametrize(
    ("true", "pred", "aq", "sq"),
    [
        ([1, 1, 1, 1, 1], [1, 1, 2, 2, 2], 0.52, 1),
        ([1, 1, 1, 1, 1], [1, 2, 2, 2, 2], 0.68, 1),
        ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5], 0.2, 1),
        ([0, 1, 1, 1, 1, 1], [2, 2, 2, 2, 1, 1], 0.52, 1),
        ([1, 1, 1, 1, 1], [11, 1, 1, 1, 1], 0.64, 0.4),
        ([11, 11, 10], [11, 10, 10], 0, 1),  # class 1 is not tracked
        ([1, 1], [videos.VOID, videos.VOID], 0, 0),
    ],
)
def test_stq_by_hand(true, pred, aq, sq):
    metric = segmentation_tracking_quality.SegmentationTrackingQuality(2, 255, 10, [0], max_segments=8, max_pairs=64)
    result = videos.feed(metric, np.array([[[true]], [[pred]]]), [0]).result()
    np.testing.assert_allclose([result["aq"], result["sq"], result["stq"]], [aq, sq, math.sqrt(aq * sq)], rtol=1e-12)


def test_stq_of_nothing():
    result = videos.feed(videos.STQ(), np.full((2, 1, 1, 4), videos.VOID), [0]).result()
    assert result["aq"] == 0 and result["num_tubes"] == 0 and np.isnan(result["sq"]) and np.isnan(result["stq"])


def test_stq_counts_beyond_float32():
    maps = tf.ones([701, 1001], tf.int32)
    metric = videos.STQ()
    step = tf.function(lambda: metric.update_state(maps, maps) and None)
    for _ in range(40):
        step()
    assert float(tf.reduce_max(metric.pixels)) == 28068040


def test_stq_names_forgotten_frames_and_sequences_without_a_row():
    columns, sequences = videos.frames("labels")
    metric = videos.STQ(max_sequences=2)
    metric.flush = lambda: None
    result = videos.feed(metric, columns, sequences).result()
    assert result["unflushed"] == videos.LENGTHS[-1] and result["sequences_beyond"] == videos.LENGTHS[-1]


@pytest.mark.parametrize("mode", ["eager", pytest.param("xla", marks=pytest.mark.slow)])
def test_more_than_255_instances_with_large_divisors(mode):
    ids = np.arange(1, 401, dtype=np.int32).reshape(1, 20, 20)
    maps = np.concatenate([ids, np.where(ids == 7, 500, ids)]).repeat(2, axis=2)  # an id changes
    options = {"max_segments": 512}
    stq = segmentation_tracking_quality.SegmentationTrackingQuality(2, 255, 65536, [0], max_pairs=1024, **options)
    result = videos.feed(stq, (maps, maps[[0, 0]]), np.zeros(2, int), mode).result()
    assert result["num_tubes"] == 401
    np.testing.assert_allclose(result["aq"], (399 + 0.5 + 0.5) / 401, rtol=1e-12)
    vpq = video_panoptic_quality.VideoPanopticQuality(2, 255, 65536, [0], windows=(1, 2), **options)
    result = videos.feed(vpq, (maps, maps[[0, 0]]), np.zeros(2, int), mode).result()
    # In the window of both frames tube 7 covers one half, which is no match.
    assert result["tp"][:, 0].numpy().tolist() == [800, 399]
    assert result["fn"][:, 0].numpy().tolist() == [0, 2] and result["fp"][:, 0].numpy().tolist() == [0, 1]


def test_dstq_by_hand():
    maps = np.full((1, 1, 4), 1, np.int32)
    depth_true, depth_pred = np.array([[[8.0, 8, 8, 0]]]), np.array([[[10.0, 8, 0, 3]]])
    result = videos.feed(videos.DSTQ(depth_thresholds=(1.25, 1.1)), (maps, maps, depth_true, depth_pred), [0]).result()
    assert result["depth_inliers"].numpy().tolist() == [2, 1] and result["depth_total"] == 3  # 1.25 is still right
    np.testing.assert_allclose(result["dq"], math.sqrt(2 / 9))
    np.testing.assert_allclose(result["dstq"], (2 / 9) ** (1 / 6))
