"""One self-contained HTML page about an evaluation: numbers, where quality is lost, classes, pictures, tracks.

Needs NumPy and Pillow only.
"""

from __future__ import annotations

import html
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evaluation import bars, error_analysis, error_pictures, error_sections, report_blocks

if TYPE_CHECKING:
    from evaluation import metric_set

_GROUPS = "_things", "_stuff"
_PERCENT = "percent"
_MAIN = (  # name in the results: title, unit, what it is
    ("evaluation/pq/PQ", "PQ", _PERCENT, "panoptic quality"),
    ("evaluation/pq/SQ", "SQ", _PERCENT, "mean IoU of matched segments"),
    ("evaluation/pq/RQ", "RQ", _PERCENT, "F1 of finding segments"),
    ("evaluation/vpq/VPQ", "VPQ", _PERCENT, "video panoptic quality"),
    ("evaluation/dvpq/DVPQ", "DVPQ", _PERCENT, "with depth"),
    ("evaluation/dstq/DSTQ", "DSTQ", _PERCENT, "with depth"),
    ("evaluation/dstq/STQ", "STQ", _PERCENT, "segmentation and tracking"),
    ("evaluation/dstq/DQ", "DQ", _PERCENT, "depth"),
    ("evaluation/step/STQ", "STQ", _PERCENT, "segmentation and tracking"),
    ("evaluation/step/AQ", "AQ", _PERCENT, "association"),
    ("evaluation/step/IoU", "SQ of STQ", _PERCENT, "mean IoU"),
    ("evaluation/ap/AP_Mask", "mask AP", _PERCENT, "average precision"),
    ("evaluation/ap/AP_Mask_@IoU=0.5", "AP50", _PERCENT, "IoU of 0.5"),
    ("evaluation/ap/AP_Mask_@IoU=0.75", "AP75", _PERCENT, "IoU of 0.75"),
    ("evaluation/boundary_pq/PQ", "boundary PQ", _PERCENT, ""),
    ("evaluation/pc/PC", "PC", _PERCENT, "parsing covering"),
    ("evaluation/iou/IoU", "mean IoU", _PERCENT, "classes"),
    ("evaluation/iou/accuracy", "accuracy", _PERCENT, "of pixels"),
    ("evaluation/depth/AbsErrorRel", "rel. error", _PERCENT, "of depth"),
    ("evaluation/depth/rmse", "RMSE", "m", "of depth"),
    ("evaluation/depth/DepthInlier", "within 1.25", _PERCENT, "of depth"),
    ("evaluation/normals/mean", "mean angle", "°", "of normals"),
)


def write(
    path: str | pathlib.Path,
    *,
    title: str,
    task: str,
    result: Mapping[str, float],
    rows: Sequence[metric_set.ClassRow],
    analysis: error_analysis.Analysis | None = None,
    facts: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Writes the page and returns its path; its folder is made. Sections without content are left out.

    Args:
        path: the HTML file.
        title: headline.
        task: what was scored, in a word.
        result: all values, by the names of the logs.
        rows: the classes; those that are not among them are left out everywhere.
        analysis: the errors of every image; None where a task has no label maps.
        facts: a small table of what was compared: name -> value.
    """
    if analysis is not None and not analysis.num_images:
        analysis = None
    errors = error_sections.sections(analysis, {row.id for row in rows}) if analysis is not None else []
    per_class = _per_class(rows, analysis)
    where, *others = errors or [""]
    sections = [
        report_blocks.tiles(_figures(result)),
        where,
        report_blocks.section("Per class", "Best classes first, in percent.", per_class),
        *others,
        report_blocks.section("All values", "As the logs have them.", [_values(result)] if result else []),
        report_blocks.section("About this evaluation", "", [report_blocks.facts(facts)] if facts else []),
    ]
    images = f", {analysis.num_images:,} images" if analysis is not None else ""
    return report_blocks.write_page(path, title=title, subtitle=f"{task.replace('_', ' ')}{images}", sections=sections)


def _figures(result: Mapping[str, float]) -> list[report_blocks.Figure]:
    """The main numbers; things and stuff stand below theirs."""
    found = []
    for name, title, unit, note in _MAIN:
        if name not in result:
            continue
        groups = [f"{group[1:]} {_number(result[name + group], unit)}" for group in _GROUPS if name + group in result]
        found.append(report_blocks.Figure(title, _number(result[name], unit), ", ".join(groups) or note))
    return found[:8]


def _number(value: float, unit: str) -> str:
    if not math.isfinite(value) or (unit == _PERCENT and value < 0):
        return "-"
    return f"{100 * value:.1f}" if unit == _PERCENT else f"{value:.2f} {unit}"


def _values(result: Mapping[str, float]) -> str:
    lines = [(html.escape(name), f"{value:.6g}") for name, value in sorted(result.items())]
    table = report_blocks.table(["name", "value"], lines)
    return f"<details><summary>{len(lines)} values</summary>{table}</details>"


def _per_class(rows: Sequence[metric_set.ClassRow], analysis: error_analysis.Analysis | None) -> list[str]:
    """The values of every class, and what the rest of its quality is lost to."""
    values = [row._asdict() for row in rows]
    if not values:
        return []
    if analysis is None:
        return [report_blocks.class_table(values)]
    breakdown = analysis.breakdown()
    # Metrics of videos and boundaries do not have what the bars are of.
    field = "iou" if analysis.only_classes else "pq"
    lead = ""
    if all(row[field] is None for row in values):
        lead = f'<p class="lead">{_title(analysis)} is that of single images.</p>'
        qualities = breakdown.quality_per_class.tolist()
        values = [{**row, field: None if math.isnan(qualities[row["id"]]) else qualities[row["id"]]} for row in values]
    losses = {
        row["id"]: bars.stacked(
            [
                bars.Slice(part.name, float(part.lost_per_class[row["id"]]), error_pictures.COLORS[part.kind])
                for part in breakdown.parts
            ]
        )
        for row in values
    }
    return [lead, report_blocks.class_table(values, notes={f"where {_title(analysis)} is lost": losses})]


def _title(analysis: error_analysis.Analysis) -> str:
    return "IoU" if analysis.only_classes else "PQ"
