"""VPQ and DVPQ by what they are made of."""

import numpy as np
import pytest

from evaluation import panoptic_quality
from tests.evaluation import videos


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("crowd", [True, False])
def test_vpq_is_pq_of_windows_side_by_side(seed, crowd):
    (true, pred), sequences = videos.frames("labels", (5, 1, 4), 10 * seed)
    metric = videos.feed(videos.VPQ(windows=(1, 2, 4), crowd=crowd), (true, pred), sequences)
    for index, window in enumerate((1, 2, 4)):
        # Without a crowd the instance 0 is one like any other.
        shift = 0 if crowd else 1
        single = panoptic_quality.PanopticQuality(3, 255, 11, (0, 1))
        count = 0
        for begin in range(len(true) - window + 1):
            if sequences[begin] == sequences[begin + window - 1]:
                pair = [each[begin : begin + window] for each in (true, pred)]
                pair = [each // 10 * 11 + each % 10 + shift for each in pair]
                single.update_state(*[each.reshape(-1, videos.SIZE[1]) for each in pair])
                count += 1
        for key in ("tp", "fp", "fn", "iou"):
            np.testing.assert_allclose(metric.result()[key][index], single.result()[key], rtol=1e-12, err_msg=key)
        assert metric.result()["num_windows"][index] == count


def test_vpq_windows_do_not_contain_faulty_frames():
    (true, pred), sequences = videos.frames("labels", (6,))
    true[2] = 99
    metric = videos.feed(videos.VPQ(windows=(1, 2, 4)), (true, pred), sequences)
    assert metric.result()["num_windows"].numpy().tolist() == [5, 3, 0]


def test_absent_classes():
    maps = np.full((1, 2, 2), 1, np.int32)
    assert videos.feed(videos.VPQ(), (maps, maps), np.zeros(1)).result()["pq"].numpy().tolist() == [1, 0]
    np.testing.assert_allclose(
        videos.feed(videos.VPQ(absent_as_zero=True), (maps, maps), [0]).result()["pq"], [1 / 3, 0]
    )


@pytest.mark.parametrize("seed", range(2))
def test_dvpq_is_vpq_of_predictions_made_void(seed):
    (true, pred, depth_true, depth_pred), sequences = videos.frames("depth", seed=20 + seed)
    metric = videos.feed(videos.DVPQ(depth_thresholds=(0.25, 0.1)), (true, pred, depth_true, depth_pred), sequences)
    for index, threshold in enumerate((0.25, 0.1)):
        error = np.abs(depth_pred - depth_true) / np.where(depth_true > 0, depth_true, 1)
        wrong = (depth_true > 0) & (error > threshold)
        assert wrong.any()
        plain = videos.feed(
            videos.VPQ(windows=(2, 1), crowd=False), (true, np.where(wrong, videos.VOID, pred)), sequences
        )
        for key in ("tp", "fp", "fn", "iou", "pq", "n_things"):
            ours, theirs = metric.result()[f"depth_{key}"][:, index], plain.result()[key]
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, err_msg=key)


def test_dvpq_reads_unsigned_integers():
    maps = np.full((1, 1, 4), 1, np.int32)
    depths = np.array([[[256, 256, 256, 0]]], np.uint16), np.array([[[255, 300, 100, 7]]], np.uint16)
    result = videos.feed(videos.DVPQ(depth_thresholds=(0.1, 0.25)), (maps, maps, *depths), [0]).result()
    np.testing.assert_allclose(result["depth_iou"][1, :, 0], [0, 3 / 4])
