"""The ends of what maps can be, for every metric of labels: what it says about them by hand."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from evaluation import (
    boundary_quality,
    depth_aware_quality,
    instance_ap,
    mean_iou,
    mots,
    panoptic_quality,
    parsing_covering,
    region_boundary,
    segmentation_tracking_quality,
    video_panoptic_quality,
)

DIVISOR = 65536
ARGUMENTS = (3, 255, DIVISOR, (0, 1))  # classes, void, divisor, things
VOID, STUFF, THING, OTHER = 255 * DIVISOR, 2 * DIVISOR, 1, DIVISOR + 1
CROWD = 0
NAN = float("nan")


class Row(NamedTuple):
    """How to make a metric and feed it one frame of labels."""

    make: type
    values: tuple[str, ...]  # the results that are looked at
    scores: bool = False
    depths: bool = False
    arguments: tuple = ARGUMENTS


ROWS = {
    "pq": Row(panoptic_quality.PanopticQuality, ("pq", "n")),
    "boundary_pq": Row(boundary_quality.BoundaryQuality, ("pq", "n")),
    "pc": Row(parsing_covering.ParsingCovering, ("pc", "n")),
    "iou": Row(mean_iou.MeanIoU, ("iou", "n"), arguments=(3 * DIVISOR, VOID)),
    "coco_ap": Row(instance_ap.CocoAveragePrecision, ("ap", "n"), scores=True),
    "cityscapes_ap": Row(instance_ap.CityscapesAveragePrecision, ("ap", "n"), scores=True),
    "vpq": Row(video_panoptic_quality.VideoPanopticQuality, ("pq", "n")),
    "dvpq": Row(depth_aware_quality.DepthAwareVideoPanopticQuality, ("pq", "n"), depths=True),
    "stq": Row(segmentation_tracking_quality.SegmentationTrackingQuality, ("stq", "num_tubes")),
    "dstq": Row(depth_aware_quality.DepthAwareSegmentationTrackingQuality, ("dstq", "num_tubes"), depths=True),
    "motsa": Row(mots.TrackingAndSegmentation, ("motsa", "n")),
    "ptq": Row(mots.PanopticTrackingQuality, ("ptq", "n")),
}
LABELS = [name for name in ROWS if name != "iou"]


def result(name, y_true, y_pred, **options):
    """The two results of a row, of one frame each or of several; and how many were left out."""
    row = ROWS[name]
    if name == "iou":
        options.pop("max_segments", None)
        row, y_true, y_pred = row._replace(arguments=(3, 255)), y_true // DIVISOR, y_pred // DIVISOR
    metric = row.make(*row.arguments, **options)
    maps = [tf.constant(each, tf.int32) for each in (y_true, y_pred)]
    maps = [each[tf.newaxis] if each.shape.rank == 2 else each for each in maps]
    ones = [tf.ones(maps[0].shape)] * 2 * (row.scores or row.depths)
    metric.update_state(*maps, *ones)
    if hasattr(metric, "flush"):
        metric.flush()
    found = metric.result()
    values = [np.ravel(found[key])[0] for key in row.values]
    return values, float(found["invalid"] + found.get("overflow", 0.0))


def maps(true, pred):
    """Rows of labels as maps [20, 40] with a column for each, so that instances are large enough for every metric."""
    return [np.repeat([each], 20, 0).repeat(40 // len(each), 1) for each in (true, pred)]


EMPTY = {  # a thing and stuff, nothing predicted: all is missed
    **{name: [0, 2] for name in ("pq", "boundary_pq", "pc", "vpq", "ptq", "iou")},
    **{name: [0, 1] for name in ("coco_ap", "cityscapes_ap", "stq", "dstq", "motsa")},
    "dvpq": [0, 2],
}
ALL_VOID = {  # whatever is predicted on void is excused
    **dict.fromkeys(ROWS, [0, 0]),
    "coco_ap": [-1, 0],
    "stq": [NAN, 0],
    "dstq": [NAN, 0],
}
ALL_CROWD = {  # crowds are neither missed nor matched; where there are none by definition they are a segment
    **dict.fromkeys(ROWS, [0, 0]),
    "coco_ap": [-1, 0],
    "pc": [1, 1],
    "iou": [1, 1],
    "dvpq": [1, 1],
}
STUFF_ALONE = {  # classes that are absent count nowhere
    **dict.fromkeys(ROWS, [1, 1]),
    "coco_ap": [-1, 0],
    "cityscapes_ap": [0, 0],
    "stq": [0, 0],
    "dstq": [0, 0],
    "motsa": [0, 0],
}
CASES = {
    "an empty prediction": (maps([THING, STUFF], [VOID, VOID]), EMPTY),
    "all void": (maps([VOID, VOID], [THING, STUFF]), ALL_VOID),
    "all void, nothing predicted": (maps([VOID, VOID], [VOID, VOID + 3]), ALL_VOID),
    "all crowd": (maps([CROWD, CROWD], [CROWD, CROWD]), ALL_CROWD),
    "absent classes": (maps([STUFF, STUFF], [STUFF, STUFF]), STUFF_ALONE),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ROWS)
def test_ends(name, case):
    inputs, expected = CASES[case]
    found, left_out = result(name, *inputs)
    assert left_out == 0
    np.testing.assert_allclose(found, expected[name], rtol=1e-12)


@pytest.mark.parametrize("count", [300, 10_000])
@pytest.mark.parametrize("name", LABELS)
def test_many_instances(name, count):
    """Ids with gaps, one of each in the ground truth, the first predicted as void; the capacity is just met."""
    y_true = np.arange(1, count + 1).reshape(-1, 50).repeat(2, 1) * 5
    y_pred = np.where(y_true == 5, VOID, y_true)
    options = {"max_segments": count}
    if name == "cityscapes_ap":
        options["min_region"] = 1
    if name in ("stq", "dstq"):
        options["max_pairs"] = count
    if name in ("motsa", "ptq"):
        options["max_tracks"] = count
    (value, number), left_out = result(name, y_true, y_pred, **options)
    share = (count - 1) / count
    expected = {
        "pq": share / (share + 0.5 / count),
        "boundary_pq": share / (share + 0.5 / count),
        "vpq": share / (share + 0.5 / count),
        "dvpq": share / (share + 0.5 / count),
        "ptq": share / (share + 0.5 / count),
        "pc": share,
        # The 100 best detections of an image count, and at recalls up to what these reach the precision is 1.
        "coco_ap": (1 + 100 * 100 // count) / 101,
        "cityscapes_ap": share / 2 + share / 2,
        "stq": np.sqrt(share * share / 2),
        "dstq": np.cbrt(share * share / 2),
        "motsa": share,
    }
    assert left_out == 0 and number == (count if name in ("stq", "dstq") else 1)
    np.testing.assert_allclose(value, expected[name], rtol=1e-9)
    assert result(name, y_true, y_pred, **{**options, "max_segments": count - 1})[1] == 1


def test_sequences_of_one_frame():
    y_true, y_pred = maps([THING, STUFF], [THING, STUFF])
    two = video_panoptic_quality.VideoPanopticQuality(*ARGUMENTS, windows=(1, 2))
    stq = segmentation_tracking_quality.SegmentationTrackingQuality(*ARGUMENTS, max_sequences=2)
    for sequence in range(2):
        two.update_state(y_true, y_pred, True)
        stq.update_state(y_true, y_pred, sequence)
    stq.flush()
    assert two.result()["num_windows"].numpy().tolist() == [2, 0]
    assert two.result()["pq"].numpy().tolist() == [1, 0] and two.result()["n"].numpy().tolist() == [2, 0]
    assert stq.result()["stq_per_seq"].numpy().tolist() == [1, 1] and stq.result()["num_tubes"] == 2
    short = region_boundary.RegionAndBoundary(max_objects=2)
    short.update_state(np.ones((1, 4, 4), np.int32), np.ones((1, 4, 4), np.int32))
    short.flush()
    assert short.result()["j_and_f"] == 0 and short.result()["num_objects"] == 0


def test_ids_that_change():
    """One track, predicted with another id in the second of its two frames."""
    y_true = np.full((2, 4, 4), THING)
    y_pred = np.stack([y_true[0], y_true[1] + 1])
    found = {}
    for name in ("vpq", "stq", "motsa", "ptq"):
        options = {"windows": (2,)} if name == "vpq" else {}
        (found[name], _), left_out = result(name, y_true, y_pred, **options)
        assert left_out == 0
    # Half of the tube is no match; AQ is 2 * (1/2 * 1/2), SQ 1; one switch among two masks.
    np.testing.assert_allclose(list(found.values()), [0, np.sqrt(0.5), 0.5, 0.5])
