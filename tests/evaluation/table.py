"""How far every metric is from the official tool of its benchmark, and how long both take, as docs/metrics.md.

`python -m tests.evaluation.table`, run in the checkout, writes the page anew; it takes some minutes. Tools that are not
installed are named as absent; `pip install --target=DIR panopticapi-lite cityscapesscripts trackeval`, with DIR on
PYTHONPATH, brings them without changing an environment.
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
from typing import Callable, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import machine, metrics
from evaluation import segments
from tests import shared
from tests.evaluation import live, official
from tests.parity import checks, image_metrics, video_metrics

PAGE = shared.ROOT / "docs/metrics.md"
SEEDS = range(10)
REPEATS = 5
CASES = {**image_metrics.CASES, **video_metrics.CASES}
_CITYSCAPES = dict(enumerate((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)))
_DATA = official.Data(segments.Labels(*metrics.ARGUMENTS[:3]), metrics.ARGUMENTS[3], _CITYSCAPES)


class Row(NamedTuple):
    """A line of the page; times in milliseconds, None where nothing was measured."""

    metric: str
    tool: str
    count: str
    difference: str
    ours: float | None
    theirs: float | None


class Speed(NamedTuple):
    """What a metric's time is measured by."""

    ours: tuple[str, ...]  # of benchmarks.metrics.CASES
    theirs: Callable[[dict, pathlib.Path], float] | None = None  # inputs, an empty folder -> seconds


def _quality(tool: str) -> Callable[[dict, pathlib.Path], float]:
    return lambda arrays, folder: official.panoptic_counts(tool, [arrays["panoptic"]], folder, _DATA)[1]


def _tracking(arrays: dict, folder: pathlib.Path) -> float:
    """All things as cars and pedestrians, which is what TrackEval knows; one frame."""
    divisor = _DATA.labels.label_divisor
    classes, instances = arrays["panoptic"] // np.int32(divisor), arrays["panoptic"] % np.int32(divisor)
    things = np.isin(classes, list(_DATA.thing_ids))
    maps = np.where(things, classes % 2 * divisor + instances, np.where(classes == 255, 255 * divisor, 2 * divisor))
    data = official.Data(segments.Labels(3, 255, divisor), (0, 1), {})
    return official.mots([maps[:, np.newaxis]], folder, data)[1]


SPEEDS = {
    "pq_coco": Speed(("pq",), _quality("panopticapi")),
    "pq_cityscapes": Speed(("pq",), _quality("cityscapesscripts")),
    "boundary_pq": Speed(("boundary_pq",)),
    "mean_iou": Speed(
        ("mean_iou", "iiou"), lambda arrays, folder: official.cityscapes_iou([arrays["panoptic"]], folder, _DATA)[1]
    ),
    "iiou": Speed(("iiou",)),
    "coco_ap": Speed(
        ("coco_ap",), lambda arrays, _: official.coco_ap([(*arrays["panoptic"], *arrays["scores"])], _DATA)[1]
    ),
    "cityscapes_ap": Speed(
        ("cityscapes_ap",),
        lambda arrays, folder: official.cityscapes_ap([(*arrays["panoptic"], *arrays["scores"])], folder, _DATA)[1],
    ),
    "parsing_covering": Speed(("parsing_covering",)),
    "depth": Speed(("depth",)),
    "normals": Speed(("normals",)),
    "vpq": Speed(("vpq",)),
    "stq": Speed(("stq",)),
    "stq_weighted": Speed(("stq",)),
    "dvpq_cityscapes": Speed(("dvpq",)),
    "dvpq_semkitti": Speed(("dvpq",)),
    "dstq": Speed(("dstq",)),
    "mots": Speed(("mots",), _tracking),
    "j_and_f": Speed(("j_and_f",)),
}

_INTRODUCTION = """# Metrics

All metrics are streaming `tf.keras.metrics.Metric`s in `evaluation/`: `update_state`, `result`, `reset_state`,
`merge_state`. They run eagerly, in graphs and under XLA, inside of distribution strategies, and keep sums of fixed
size: memory does not grow with the number of images.

| file | metrics | capacities |
| --- | --- | --- |
| `panoptic_quality.py`, `boundary_quality.py` | PQ, SQ, RQ; boundary PQ | `max_segments` per map |
| `mean_iou.py` | mean IoU (`present`, `all`, `stq`), frequency-weighted, accuracies; iIoU | `max_segments` (iIoU) |
| `instance_ap.py` | AP and AR of COCO, AP of Cityscapes, boundary AP | `max_segments`, `max_detections` in all |
| `parsing_covering.py` | PC | `max_segments` |
| `depth.py`, `surface_normals.py` | errors of depth and of normals | none |
| `video_panoptic_quality.py` | VPQ | `max_segments` per frame |
| `segmentation_tracking_quality.py` | STQ, AQ, SQ | `max_segments`, `max_pairs` per sequence |
| `depth_aware_quality.py` | DVPQ, DSTQ | as VPQ and STQ |
| `mots.py` | MOTSA, sMOTSA, MOTSP; PTQ, sPTQ | `max_segments`, `max_tracks` per sequence |
| `region_boundary.py` | J&F | `max_objects`, `max_frames` per sequence |

What exceeds a capacity is left out and counted in the result `overflow`, labels that are neither of a class nor void
in `invalid`, predictions that are no numbers in `not_finite`; `update_state(..., strict=True)` raises instead. Where
nothing is defined the mean is 0 and the number of classes or images beside it is 0; -1 for AP of COCO, nan for STQ and
SQ without a valid pixel, as the tools have it.

## Beside the official tools

*Cases*: images or frames whose expected values were made with the tool and are kept with it, and random scenes scored
here by ours and by an installed tool: things, stuff, crowds, void, ties of scores, IoUs of exactly one half, maps of
one segment, predictions of void alone. *Worst difference*: the largest absolute difference of any value; `counts equal`
says that all counts, and the scores of detections in float32, are equal. The tests hold the same cases eagerly, in
graphs and under XLA.

*Times*: milliseconds for one more image or frame of {height}x{width} pixels with {segments} segments, on one core,
from label maps in memory (what a tool spends on reading files is taken off), the median of {repeats}. J&F has {objects}
objects, DVPQ windows of 1 to 4 frames and three thresholds. {machine}, TensorFlow {tensorflow}.

Written by `python -m tests.evaluation.table`.{absent}

| metric | official tool | cases | worst difference | ours, ms | theirs, ms |
| --- | --- | ---: | ---: | ---: | ---: |
"""


def difference(found: list[checks.Check]) -> str:
    """The largest difference, and whether what must be equal is."""
    exact = [check for check in found if not check.rtol and not check.atol]
    worst = max((check.difference() for check in found if check.rtol or check.atol), default=0.0)
    for check in found:
        check.hold()
    return ("counts equal, " if exact else "") + f"{worst:.1g}"


def _saved(name: str, case: checks.Case, ours: dict[str, float]) -> Row:
    try:
        manifest, arrays = shared.case(case.folder)
    except pytest.skip.Exception:
        return Row(case.title, "the saved cases are not here", "none", "-", _sum(ours, name), None)
    tool = manifest["tool"].replace("(reference)", "").split(",")[0].split(";")[0].split(" (")[0].split(" for ")[0]
    found = case.measure("graph")
    return Row(case.title, " ".join(tool.split()), case.count(manifest, arrays), difference(found), None, None)


def _live(name: str, comparison: live.Comparison, ours: dict[str, float], arrays: dict) -> Row:
    tool = official.version(comparison.tool)
    if not tool:
        package = official.PACKAGES[comparison.tool].distribution
        return Row(comparison.title, f"{package} is not installed", "none", "-", _sum(ours, name), None)
    found, times = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            found += comparison.compare(seed, pathlib.Path(folder, f"scenes{seed}"))
        theirs = SPEEDS[name].theirs
        if theirs:
            times = [theirs(arrays, pathlib.Path(folder, f"speed{i}")) for i in range(REPEATS)]
    amount, unit = comparison.count.split()
    milliseconds = 1000.0 * statistics.median(times) if times else None
    return Row(
        comparison.title,
        tool,
        f"{int(amount) * len(SEEDS)} {unit}",
        difference(found),
        _sum(ours, name),
        milliseconds,
    )


def _sum(ours: dict[str, float], name: str) -> float:
    return sum(ours[each] for each in SPEEDS[name].ours)


def _line(row: Row) -> str:
    times = ["" if each is None else f"{each:.1f}" for each in (row.ours, row.theirs)]
    return f"| {row.metric} | {row.tool} | {row.count} | {row.difference} | {times[0]} | {times[1]} |"


def rows(arrays: dict, ours: dict[str, float]):
    """One line per saved case, and below it one for the installed tool; times stand in one of them."""
    for name, case in CASES.items():
        row = _saved(name, case, ours)
        yield row if name in live.COMPARISONS else row._replace(ours=_sum(ours, name))
        if name in live.COMPARISONS:
            yield _live(name, live.COMPARISONS[name], ours, arrays)


def main() -> None:
    metrics.one_core()
    arrays = metrics.inputs()
    names = sorted({each for speed in SPEEDS.values() for each in speed.ours})
    ours = {name: metrics.update_ms(name, arrays, REPEATS) for name in names}
    absent = [package.distribution for tool, package in official.PACKAGES.items() if not official.version(tool)]
    page = _INTRODUCTION.format(
        height=arrays["panoptic"][0].shape[0],
        width=arrays["panoptic"][0].shape[1],
        segments=len(np.unique(arrays["panoptic"][1])),
        objects=int(arrays["objects"][0].max()),
        repeats=REPEATS,
        machine=machine.cpu_name(),
        tensorflow=tf.__version__,
        absent=f" Not installed where it ran: {', '.join(absent)}." if absent else "",
    )
    for row in rows(arrays, ours):
        print(_line(row), flush=True)
        page += _line(row) + "\n"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
