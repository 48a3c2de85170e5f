import dataclasses

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from evaluation import error_breakdown, error_findings
from evaluation.error_findings import Kind
from tests import shared
from tests.evaluation.small_errors import DATASET, VOID


def find(true, pred, dataset=DATASET):
    return error_findings.find(error_findings.runs(np.array([true]), np.array([pred])), dataset)


def kinds(side):
    return {int(label): Kind(kind).name for label, kind in zip(side.labels, side.kinds)}


def pixels(found):
    """The two kinds of every run of pixels."""
    return found.overlaps.kinds[found.overlaps.of_run].tolist()


def test_every_kind_by_hand():
    true = [21] * 4 + [22] * 4 + [23] * 4 + [24] * 4 + [0] * 4
    pred = [21] * 3 + [0] + [31] * 4 + [25] + [0] * 3 + [0] * 4 + [0] * 2 + [32] * 2
    found = find(true, pred)
    # 21: 3 of 4. 22: right mask, but a truck. 23: IoU 1/4. 24: not there. Road: 2 of 2 + 8 + 2 pixels, IoU 2/12.
    assert kinds(found.true) == {21: "MATCHED", 22: "WRONG_CLASS", 23: "POOR_MASK", 24: "MISSED", 0: "POOR_MASK"}
    assert kinds(found.pred) == {21: "MATCHED", 31: "WRONG_CLASS", 25: "POOR_MASK", 0: "POOR_MASK", 32: "FALSE"}
    links = {
        (int(found.true.labels[t]), int(found.pred.labels[p])): (Kind(kind).name, iou)
        for t, p, kind, iou in zip(*found.links)
    }
    assert links == {
        (21, 21): ("MATCHED", 0.75),
        (22, 31): ("WRONG_CLASS", 1.0),
        (23, 25): ("POOR_MASK", 0.25),
        (0, 0): ("POOR_MASK", 2 / 12),
    }
    assert found.followed == {21: 21, 22: 31, 23: None, 24: None}
    counts = error_breakdown.count(found, DATASET.num_classes)
    assert {name: values.tolist() for name, values in counts._asdict().items()} == {
        "matched": [0, 0, 1, 0],
        "iou": [0, 0, 0.75, 0],
        "inexact": [0, 0, 1, 0],
        "poor": [1, 0, 1, 0],
        "wrong_true": [0, 0, 1, 0],
        "wrong_iou": [0, 0, 1, 0],
        "wrong_pred": [0, 0, 0, 1],
        "missed": [0, 0, 1, 0],
        "false": [0, 0, 0, 1],
    }


def test_pixels_of_an_inexact_match_and_of_two_errors():
    found = find([21, 21, 21, 22, 22, 22, 1, 1, 1], [21, 21, 1, 0, VOID, VOID, 1, 1, 1])
    matched, inexact, missed = ([kind] * 2 for kind in (Kind.MATCHED, Kind.INEXACT, Kind.MISSED))
    both = [Kind.MISSED, Kind.FALSE]  # of a car that was missed, where a road was seen that is not there
    assert pixels(found) == [matched, inexact, both, missed, matched]


def test_void_and_crowds_excuse():
    # Most of 21 lies on void, of 22 on the crowd of cars; trucks are not excused by a crowd of cars.
    found = find(
        [VOID] * 3 + [0] + [20] * 3 + [0] + [20] * 3 + [0] * 3,
        [21] * 4 + [22] * 4 + [31] * 4 + [0] * 2,
    )
    assert kinds(found.true) == {0: "POOR_MASK", 20: "IGNORED", VOID: "IGNORED"}
    assert kinds(found.pred) == {21: "IGNORED", 22: "IGNORED", 31: "FALSE", 0: "POOR_MASK"}
    assert found.followed == {}


def test_void_of_any_instance_is_void_and_leaves_the_union():
    found = find([21, 21, VOID, VOID + 3], [22, 22, 22, VOID + 7])
    assert found.links.iou.tolist() == [1.0]
    assert len(found.true.labels) == 2


def test_exactly_one_half_is_no_match():
    found = find([21, 21, 0], [22, 0, 0])
    assert kinds(found.true) == {21: "POOR_MASK", 0: "POOR_MASK"}


def test_poor_masks_take_the_best_partners():
    # 21 overlaps 25 (IoU 4/10) and 26 (2/10); 22 overlaps 26 (3/9).
    true = [21] * 8 + [22] * 4 + [1] * 8
    pred = [25] * 4 + [0] * 2 + [26] * 2 + [26] * 3 + [0] + [25] * 2 + [26] * 3 + [1] * 3
    found = find(true, pred)
    poor = found.links.kinds == Kind.POOR_MASK
    pairs = set(zip(found.true.labels[found.links.true[poor]], found.pred.labels[found.links.pred[poor]]))
    assert {(21, 25), (22, 26)} <= pairs
    assert len(pairs) == len(found.links.true[poor]) == len(set(found.links.true[poor].tolist()))


def test_plain_classes():
    dataset = dataclasses.replace(DATASET, label_divisor=1)
    found = find([0, 0, 2, 2, 255], [0, 3, 255, 2, 2], dataset)
    assert [Kind(k).name for k, _ in pixels(found)] == ["MATCHED", "WRONG_CLASS", "MISSED", "MATCHED", "IGNORED"]


def test_counts_are_those_of_the_official_tool():
    manifest, expected = shared.case("pq_panopticapi")
    config = manifest["config"]
    number = config["num_classes"]
    dataset = datasets.Dataset(
        name="case",
        num_classes=number,
        ignore_label=config["ignore_label"],
        label_divisor=config["label_divisor"],
        thing_ids=tuple(config["thing_classes"]),
        class_names=tuple(map(str, range(number))),
        colors=((0, 0, 0),) * number,
        eval_ids=tuple(range(number)),
    )
    total = error_breakdown.no_counts(number)
    for index in range(config["num_images"]):
        runs = error_findings.runs(expected[f"gt_{index:03d}"], expected[f"pred_{index:03d}"])
        total = error_breakdown.add(total, error_breakdown.count(error_findings.find(runs, dataset), number))
    np.testing.assert_array_equal(total.matched, expected["tp"])
    np.testing.assert_array_equal(total.poor + total.wrong_pred + total.false, expected["fp"])
    np.testing.assert_array_equal(total.poor + total.wrong_true + total.missed, expected["fn"])
    found = error_breakdown.panoptic(total)
    np.testing.assert_allclose(found.quality, expected["summary"][0, 0], rtol=1e-12)


def test_runs_rebuild_the_maps():
    random = np.random.RandomState(0)
    maps = random.randint(0, 3, (2, 5, 7))
    runs = error_findings.runs(*maps)
    np.testing.assert_array_equal(runs.unroll(runs.true), maps[0])
    np.testing.assert_array_equal(runs.unroll(runs.pred), maps[1])
    one = error_findings.runs(np.zeros((4, 5), np.int32), np.full((4, 5), VOID))
    assert (len(one.true), one.lengths.tolist()) == (1, [20])


def test_bad_maps():
    with pytest.raises(ValueError, match=r"two integer maps \[H, W\] of one shape, got \(2, 2\) int64 and \(2, 3\)"):
        error_findings.runs(np.zeros((2, 2), np.int64), np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="float64"):
        error_findings.runs(np.zeros((2, 2)), np.zeros((2, 2), np.int32))
    with pytest.raises(ValueError, match=r"The prediction has the label 49, which is of no class of small \(4 classes"):
        find([0, 0], [0, 49])
    with pytest.raises(ValueError, match="The ground truth has the label -1,"):
        find([0, -1], [0, 0])
