"""MOTS and PTQ scores by their definitions and by hand."""

import numpy as np
import pytest

from tests.evaluation import videos


def plain_mots(true, pred, sequences, cls):
    """masks, tp, fp, fn, ids, ignored and the sum of IoU by the definition."""
    counts, last = np.zeros(7), {}
    for frame, sequence in enumerate(sequences):
        gt, seen = true[frame], pred[frame]
        ignore = (gt >= videos.VOID) | ((gt // 10 < 2) & (gt % 10 == 0))
        ids = [g for g in np.unique(gt) if g // 10 == cls and g % 10]
        found = [p for p in np.unique(seen) if p // 10 == cls]
        counts[0] += len(ids)
        for p in found:
            area = seen == p
            scores = {g: (area & (gt == g)).sum() / (area | (gt == g)).sum() for g in ids}
            hit = [g for g, iou in scores.items() if iou > 0.5]
            if hit:
                counts[1] += 1
                counts[6] += scores[hit[0]]
                counts[4] += last.get((sequence, hit[0]), p) != p
                last[sequence, hit[0]] = p
            elif (area & ignore).sum() * 2 > area.sum():
                counts[5] += 1
            else:
                counts[2] += 1
    counts[3] = counts[0] - counts[1]
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_mots_by_its_definition(seed):
    columns, sequences = videos.frames("labels", (8, 1, 9), 40 + seed)
    result = videos.feed(videos.MOTS(), columns, sequences).result()
    for cls in (0, 1):
        ours = [result[key][cls] for key in ("masks", "tp", "fp", "fn", "ids", "ignored", "iou")]
        np.testing.assert_allclose(ours, plain_mots(*columns, sequences, cls), rtol=1e-12)


def test_switches_are_seen_after_gaps_and_by_sequence():
    true = np.full((4, 1, 4), 1, np.int32)
    pred = np.array([[[1, 1, 1, 1]], [[20] * 4], [[2, 2, 2, 20]], [[2, 2, 2, 2]]], np.int32)
    assert videos.feed(videos.MOTS(), (true, pred), [0, 0, 0, 0]).result()["ids"][0] == 1
    assert videos.feed(videos.MOTS(), (true, pred), [0, 0, 1, 1]).result()["ids"][0] == 0
    result = videos.feed(videos.PTQ(), (true, pred), [0, 0, 0, 0]).result()
    # Three matches with IoU 1, 0.75 and 1, the second a switch; one miss.
    np.testing.assert_allclose(result["ptq_per_class"][0], (2.75 - 1) / 3.5)
    np.testing.assert_allclose(result["sptq_per_class"][0], 2 / 3.5)
