"""One self-contained HTML page about a training run: numbers, curves, pictures, cluster maps.

Needs NumPy and Pillow only, so a report can be written where there is no TensorFlow.
"""

from __future__ import annotations

import html
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from deeplab2_kmax import visualize
from evaluation import charts, report_blocks

Figure, Sample = report_blocks.Figure, report_blocks.Sample  # what callers fill in stands here together
METRICS = "metrics.jsonl"  # in the folder of a run


class ClusterMaps(NamedTuple):
    """Which cluster owns each pixel after every decoder layer."""

    name: str
    image: np.ndarray  # [H, W, 3] uint8 RGB
    maps: Sequence[np.ndarray]  # [h, w] integers, one per layer


def read_metrics(path: str | pathlib.Path) -> list[dict]:
    """The records of a run's `metrics.jsonl`: one JSON object per line with a `step` and flat scalar names.

    A line that was cut off by a kill is left out.

    Raises:
        ValueError: a line is not a JSON object with a step.
    """
    records = []
    for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if line.startswith("{") and not line.endswith("}"):
                continue
            raise ValueError(f"{path}, line {number}: expected a JSON object, got {line[:60]!r}.") from error
        if not isinstance(record, dict) or "step" not in record:
            raise ValueError(f"{path}, line {number}: expected a JSON object with a 'step', got {line[:60]!r}.")
        records.append(record)
    return records


def curve(records: Iterable[Mapping], name: str) -> list[tuple[float, float]]:
    """(step, value) of one scalar, ascending; a step that was logged again after a resumption counts once."""
    values = {
        float(record["step"]): float(record[name])
        for record in records
        if isinstance(record.get(name), (int, float)) and not isinstance(record.get(name), bool)
    }
    return sorted(values.items())


def training_charts(records: Sequence[Mapping]) -> list[charts.Chart]:
    """The charts of a run: loss, qualities, loss terms, learning rate; those that have values."""
    names = sorted({name for record in records for name in record})
    # The auxiliary outputs repeat the main terms six times.
    terms = [
        n for n in names if n.startswith("losses/train_") and "total" not in n and not n.startswith("losses/train_aux_")
    ]
    found = [
        charts.Chart(
            "Total loss",
            {
                "training": curve(records, "losses/train_total_loss"),
                "evaluation": curve(records, "losses/eval_total_loss"),
            },
        ),
        charts.Chart(
            "Panoptic quality, percent",
            {
                "PQ": curve(records, "evaluation/pq/PQ"),
                "things": curve(records, "evaluation/pq/PQ_things"),
                "stuff": curve(records, "evaluation/pq/PQ_stuff"),
            },
            percent=True,
        ),
        charts.Chart("Loss terms", {_words(n[len("losses/train_") :]): curve(records, n) for n in terms}),
        charts.Chart(
            "Mean IoU and pixel accuracy, percent",
            {
                "mean IoU": curve(records, "evaluation/iou/IoU"),
                "pixel accuracy": curve(records, "evaluation/iou/accuracy"),
            },
            percent=True,
        ),
        charts.Chart(
            "Video quality, percent",
            {
                "STQ": curve(records, "evaluation/step/STQ"),
                "association": curve(records, "evaluation/step/AQ"),
                "VPQ": curve(records, "evaluation/vpq/VPQ"),
                "DVPQ": curve(records, "evaluation/dvpq/DVPQ"),
            },
            percent=True,
        ),
        charts.Chart("Depth, relative error", {"absRel": curve(records, "evaluation/depth/AbsErrorRel")}),
        charts.Chart("Learning rate", {"learning rate": curve(records, "learning_rate")}),
    ]
    found = [chart._replace(series={k: v for k, v in chart.series.items() if v}) for chart in found]
    return [chart for chart in found if chart.series]


def write_report(
    path: str | pathlib.Path,
    *,
    title: str,
    subtitle: str = "",
    summary: Sequence[report_blocks.Figure] = (),
    curves: Sequence[charts.Chart] = (),
    per_class_rows: Sequence[Mapping] = (),
    samples: Sequence[report_blocks.Sample] = (),
    clusters: Sequence[ClusterMaps] = (),
    unseen: Sequence[report_blocks.Sample] = (),
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> pathlib.Path:
    """Writes the page and returns its path; sections without content are left out.

    Args:
        path: the HTML file; its folder is made.
        title: headline.
        subtitle: one line below it.
        summary: the main numbers.
        curves: charts, for instance those of `training_charts`.
        per_class_rows: one mapping per class with `name`, `thing`, `color` and any of `pq, sq, rq, iou` (fractions or
            None) and `tp, fp, fn`: `metric_set.ClassRow._asdict()`.
        samples: scenes with ground truth.
        clusters: cluster maps of some scenes.
        unseen: pictures without ground truth.
        facts: a small table of what was run: name -> value.
        notes: sentences at the end.
    """
    sections = [
        report_blocks.tiles(summary),
        report_blocks.section(
            "Held-out scenes",
            "What the model sees, what is there, and what it says.",
            map(report_blocks.sample, samples),
        ),
        report_blocks.legend(per_class_rows) if samples else "",
        report_blocks.section("Training", "", [_charts(curves)] if curves else []),
        report_blocks.section(
            "Per class",
            "Sorted by panoptic quality.",
            [report_blocks.class_table(per_class_rows)] if per_class_rows else [],
        ),
        report_blocks.section(
            "Clusters, layer by layer",
            "Each pixel in the colour of the cluster it is assigned to, after every block of the k-means decoder. "
            "The same cluster has the same colour in all layers; clusters without pixels are not counted.",
            map(_cluster_maps, clusters),
        ),
        report_blocks.section(
            "Unseen pictures", "From elsewhere, without ground truth.", map(report_blocks.sample, unseen)
        ),
        report_blocks.section("About this run", "", [report_blocks.facts(facts)] if facts else []),
        report_blocks.section("Notes", "", [f"<p>{html.escape(note)}</p>" for note in notes]),
    ]
    return report_blocks.write_page(path, title=title, subtitle=subtitle, sections=sections)


def _cluster_maps(sample: ClusterMaps) -> str:
    height, width = sample.image.shape[:2]
    pictures = [report_blocks.picture(sample.image, "input", width=480)]
    for index, ids in enumerate(sample.maps, start=1):
        colors = Image.fromarray(visualize.cluster_colors(np.asarray(ids)))
        resized = np.asarray(colors.resize((width, height), Image.Resampling.NEAREST))
        caption = f"layer {index}: {len(np.unique(ids))} clusters in use"
        pictures.append(report_blocks.picture(resized, caption, width=480, lossless=True))
    return f'<h3>{html.escape(sample.name)}</h3><div class="row n4">{"".join(pictures)}</div>'


def _charts(curves: Sequence[charts.Chart]) -> str:
    cards = "".join(
        f'<div class="card"><h3>{html.escape(chart.title)}</h3>{charts.svg(chart)}{charts.legend(chart)}</div>'
        for chart in curves
    )
    return f'<div class="charts">{cards}</div>'


def _words(name: str) -> str:
    return name.replace("_loss", "").replace("_term", "").replace("_", " ")
