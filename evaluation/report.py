"""One self-contained HTML page about a training run: numbers, curves, pictures, cluster maps.

Needs NumPy and Pillow only, so a report can be written where there is no TensorFlow.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from deeplab2_kmax import visualize
from evaluation import charts

_PICTURE_WIDTH = 720
_STYLE = pathlib.Path(__file__).with_name("report.css")


class Figure(NamedTuple):
    """A number worth showing in large type."""

    label: str
    value: str
    note: str = ""


class Sample(NamedTuple):
    """Pictures that belong together, side by side: title -> [H, W, 3] uint8 RGB."""

    name: str
    pictures: Mapping[str, np.ndarray]


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
    """The charts of a run: loss, panoptic quality, mean IoU, loss terms, learning rate; those that have values."""
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
        charts.Chart("Learning rate", {"learning rate": curve(records, "learning_rate")}),
    ]
    found = [chart._replace(series={k: v for k, v in chart.series.items() if v}) for chart in found]
    return [chart for chart in found if chart.series]


def write_report(
    path: str | pathlib.Path,
    *,
    title: str,
    subtitle: str = "",
    summary: Sequence[Figure] = (),
    curves: Sequence[charts.Chart] = (),
    per_class_rows: Sequence[Mapping] = (),
    samples: Sequence[Sample] = (),
    clusters: Sequence[ClusterMaps] = (),
    unseen: Sequence[Sample] = (),
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
        _figures(summary),
        _section("Held-out scenes", "What the model sees, what is there, and what it says.", map(_sample, samples)),
        _legend(per_class_rows) if samples else "",
        _section("Training", "", [_charts(curves)] if curves else []),
        _section("Per class", "Sorted by panoptic quality.", [_class_table(per_class_rows)] if per_class_rows else []),
        _section(
            "Clusters, layer by layer",
            "Each pixel in the colour of the cluster it is assigned to, after every block of the k-means decoder. "
            "The same cluster has the same colour in all layers; clusters without pixels are not counted.",
            map(_cluster_maps, clusters),
        ),
        _section("Unseen pictures", "From elsewhere, without ground truth.", map(_sample, unseen)),
        _section("About this run", "", [_facts(facts)] if facts else []),
        _section("Notes", "", [f"<p>{html.escape(note)}</p>" for note in notes]),
    ]
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{_STYLE.read_text()}</style>
</head>
<body>
<header><div class="page"><h1>{html.escape(title)}</h1><p>{html.escape(subtitle)}</p></div></header>
<main class="page">
{"".join(sections)}
</main>
</body>
</html>
"""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _section(title: str, lead: str, parts: Iterable[str]) -> str:
    body = "".join(parts)
    if not body:
        return ""
    lead = f'<p class="lead">{html.escape(lead)}</p>' if lead else ""
    return f"<section><h2>{html.escape(title)}</h2>{lead}{body}</section>\n"


def _figures(figures: Sequence[Figure]) -> str:
    tiles = "".join(
        f'<div class="tile"><span>{html.escape(f.label)}</span><strong>{html.escape(f.value)}</strong>'
        f"<small>{html.escape(f.note)}</small></div>"
        for f in figures
    )
    return f'<div class="tiles">{tiles}</div>\n' if tiles else ""


def _sample(sample: Sample) -> str:
    pictures = "".join(_picture(array, caption) for caption, array in sample.pictures.items())
    return f'<h3>{html.escape(sample.name)}</h3><div class="row n{len(sample.pictures)}">{pictures}</div>'


def _cluster_maps(sample: ClusterMaps) -> str:
    height, width = sample.image.shape[:2]
    pictures = [_picture(sample.image, "input", width=480)]
    for index, ids in enumerate(sample.maps, start=1):
        colors = Image.fromarray(visualize.cluster_colors(np.asarray(ids)))
        resized = np.asarray(colors.resize((width, height), Image.Resampling.NEAREST))
        caption = f"layer {index}: {len(np.unique(ids))} clusters in use"
        pictures.append(_picture(resized, caption, width=480, lossless=True))
    return f'<h3>{html.escape(sample.name)}</h3><div class="row n4">{"".join(pictures)}</div>'


def _picture(array: np.ndarray, caption: str, *, width: int = _PICTURE_WIDTH, lossless: bool = False) -> str:
    """An array [H, W, 3] uint8 as a figure with its data inside."""
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError(f"Picture {caption!r}: expected [H, W, 3] uint8, got {array.shape} {array.dtype}.")
    image = Image.fromarray(array)
    if image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.NEAREST if lossless else Image.Resampling.LANCZOS)
    data = io.BytesIO()
    if lossless:
        image.quantize(256, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    else:
        image.save(data, "JPEG", quality=88, subsampling=0)
    kind = "png" if lossless else "jpeg"
    text = base64.b64encode(data.getvalue()).decode()
    alt = html.escape(caption, quote=True)
    return (
        f'<figure><img src="data:image/{kind};base64,{text}" width="{image.width}" height="{image.height}" alt="{alt}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _charts(curves: Sequence[charts.Chart]) -> str:
    cards = "".join(
        f'<div class="card"><h3>{html.escape(chart.title)}</h3>{charts.svg(chart)}{charts.legend(chart)}</div>'
        for chart in curves
    )
    return f'<div class="charts">{cards}</div>'


def _legend(rows: Sequence[Mapping]) -> str:
    shown = [row for row in rows if any(row.get(key) is not None for key in ("pq", "iou"))]
    keys = "".join(
        f'<span class="key"><i style="background:{_rgb(row["color"])}"></i>{html.escape(row["name"])}</span>'
        for row in shown
    )
    return f'<p class="legend">{keys}</p>' if keys else ""


def _class_table(rows: Sequence[Mapping]) -> str:
    """Classes by falling PQ (or IoU), those that did not occur last."""
    columns = [k for k in ("pq", "sq", "rq", "iou", "tp", "fp", "fn") if any(row.get(k) is not None for row in rows)]
    main = next((key for key in ("pq", "iou") if key in columns), None)

    def order(row: Mapping) -> float:
        value = row.get(main) if main else None
        return math.inf if value is None else -value

    titles = {"iou": "IoU"}
    head = "".join(
        f'<th class="{"bar" if key == main else "number"}">{titles.get(key, key.upper())}</th>' for key in columns
    )
    lines = []
    for row in sorted(rows, key=order):
        cells = []
        for key in columns:
            value = row.get(key)
            if value is None:
                cells.append(f'<td class="{"bar" if key == main else "number"} none">-</td>')
            elif key == main:
                bar = f'<i style="width:{100 * value:.1f}%;background:{_rgb(row["color"])}"></i>'
                cells.append(f'<td class="bar"><div>{bar}</div><b>{100 * value:.1f}</b></td>')
            else:
                text = f"{value:d}" if key in ("tp", "fp", "fn") else f"{100 * value:.1f}"
                cells.append(f'<td class="number">{text}</td>')
        lines.append(
            f'<tr><td><i class="chip" style="background:{_rgb(row["color"])}"></i>{html.escape(row["name"])}</td>'
            f"<td>{'thing' if row['thing'] else 'stuff'}</td>{''.join(cells)}</tr>"
        )
    return (
        f'<div class="card scroll"><table class="classes"><thead><tr><th>Class</th><th>Kind</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _facts(facts: Mapping[str, str]) -> str:
    lines = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items())
    return f'<div class="card"><table class="facts">{lines}</table></div>'


def _words(name: str) -> str:
    return name.replace("_loss", "").replace("_term", "").replace("_", " ")


def _rgb(color: Sequence[int]) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in color)
