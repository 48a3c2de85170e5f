"""The sections of an evaluation's report that come from its errors: what is lost, confusion, images, tracks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import numpy as np

from deeplab2_kmax import labels
from evaluation import bars, error_analysis, error_breakdown, error_pictures, report_blocks, timelines

_MAX_MATRIX = 30  # classes in the confusion matrix
_MAX_CONFUSIONS = 15
_QUALITY_COLOR = (71, 85, 105)


def sections(analysis: error_analysis.Analysis, classes: set[int]) -> list[str]:
    """What is lost, confusion of the given classes, worst and best images, tracks; "" for what is not there."""
    breakdown = analysis.breakdown()
    score = "mean IoU" if analysis.only_classes else "PQ"
    names = error_pictures.CLASS_NAMES if analysis.only_classes else error_pictures.NAMES
    legend = report_blocks.key((name, error_pictures.COLORS[kind]) for kind, name in names.items())
    return [
        _breakdown(breakdown, analysis),
        report_blocks.section(
            "Confusion between classes",
            "Rows: the true class; columns: what was predicted on its pixels, as a share of them. Void is not scored.",
            _confusion(analysis, sorted(classes)),
        ),
        _examples("Worst images", f"Lowest {score} of the image first.", analysis.worst(), analysis, legend),
        _examples("Best images", f"Highest {score} of the image first.", analysis.best(), analysis, legend),
        report_blocks.section(
            "Tracks",
            "The sequences whose objects are followed worst. Every bar is an object over the frames, in the colour of "
            "the predicted id that follows it (IoU above 0.5): another colour is another id. Dark marks: the id "
            "switches. Stripes: the class is wrong. Empty: nothing follows.",
            _tracks(analysis),
        ),
    ]


def _breakdown(breakdown: error_breakdown.Breakdown, analysis: error_analysis.Analysis) -> str:
    """A bar that adds up to 100, and a table of the parts."""
    if not breakdown.num_classes:
        return ""
    measure = breakdown.measure
    slices = [bars.Slice(measure, breakdown.quality, _QUALITY_COLOR)]
    slices += [bars.Slice(part.name, part.lost, error_pictures.COLORS[part.kind]) for part in breakdown.parts]
    lines = []
    for part in breakdown.parts:
        color = report_blocks.rgb(error_pictures.COLORS[part.kind])
        name = f'<i class="chip" style="background:{color}"></i>{html.escape(part.name)}'
        rise = part.if_fixed - breakdown.quality
        lines.append(
            (
                f"{name} <small>{html.escape(part.explanation)}</small>",
                f"{part.number:,}",
                f"{100 * part.lost:.1f}",
                f"{100 * part.if_fixed:.1f}",
                f"{100 * rise:+.1f}",
            )
        )
    unit = "pixels" if analysis.only_classes else "segments"
    table = report_blocks.table(["", unit, f"{measure} lost", f"{measure} without", "rise"], lines)
    lead = (
        f"100 - {measure} divided among the errors, as a mean over the {breakdown.num_classes} classes that occur "
        f"(exact: the bar adds up to 100). The last columns are what {measure} would be without one kind of error."
    )
    groups = ""
    if not analysis.only_classes:
        segmentation, recognition = (
            100 * breakdown.lost(group) for group in (error_breakdown.SEGMENTATION, error_breakdown.RECOGNITION)
        )
        groups = (
            f"<p>Masks (segmentation) cost <b>{segmentation:.1f}</b>, finding and naming segments (recognition) "
            f"<b>{recognition:.1f}</b> of the {100 * (1 - breakdown.quality):.1f} that are missing.</p>"
        )
        if analysis.tracks.num_sequences:
            lead += " Every frame counts as an image of its own here; ids over time are below."
    card = f'<div class="card">{bars.stacked(slices)}{_percents(slices)}{groups}</div>'
    return report_blocks.section("Where quality is lost", lead, [card, table])


def _percents(slices: Sequence[bars.Slice]) -> str:
    return report_blocks.key((f"{s.label} {100 * s.value:.1f}", s.color) for s in slices)


def _confusion(analysis: error_analysis.Analysis, classes: Sequence[int]) -> Iterable[str]:
    """A matrix of the classes that are confused most, and lists of pixels and segments."""
    names = analysis.dataset.class_names
    columns = [*classes, analysis.dataset.num_classes]
    pixels = analysis.confusion[np.ix_(classes, columns)].astype(np.float64)
    totals = pixels.sum(axis=1)
    shares = np.divide(pixels, totals[:, np.newaxis], out=np.zeros_like(pixels), where=totals[:, np.newaxis] > 0)
    wrong = shares.copy()
    np.fill_diagonal(wrong, 0.0)
    if not pixels.any():
        return
    present = (totals > 0) | (pixels.sum(axis=0)[:-1] > 0)
    involved = np.where(present, np.maximum(wrong.max(axis=1), wrong[:, :-1].max(axis=0)), -1.0)
    chosen = sorted(i for i in np.argsort(-involved, kind="stable")[:_MAX_MATRIX] if present[i])
    if len(chosen) < present.sum():
        yield f'<p class="lead">The {len(chosen)} classes that are confused most, of {int(present.sum())}.</p>'
    titles = [names[classes[i]] for i in chosen]
    values = shares[np.ix_(chosen, [*chosen, len(classes)])]
    yield f'<div class="card scroll">{bars.heat_map(bars.Heat(titles, [*titles, "nothing"], values.tolist()))}</div>'

    lines = []
    for index in np.argsort(-wrong, axis=None, kind="stable")[:_MAX_CONFUSIONS]:
        row, column = divmod(int(index), len(columns))
        if wrong[row, column] <= 0:
            break
        other = names[classes[column]] if column < len(classes) else "nothing"
        pair = f"{html.escape(names[classes[row]])} → {html.escape(other)}"
        lines.append((pair, f"{100 * wrong[row, column]:.1f} %", f"{pixels[row, column]:,.0f}"))
    tables = [report_blocks.table(["true → predicted", "of its pixels", "pixels"], lines)] if lines else []
    counts = [(int(analysis.mistaken[a, b]), a, b) for a in classes for b in classes if analysis.mistaken[a, b]]
    mistaken = [
        (f"{html.escape(names[a])} → {html.escape(names[b])}", f"{number:,}")
        for number, a, b in sorted(counts, key=lambda c: (-c[0], c[1], c[2]))[:_MAX_CONFUSIONS]
    ]
    if mistaken:
        tables.append(report_blocks.table(["segments of the wrong class", "segments"], mistaken))
    if tables:
        yield f'<div class="row n2">{"".join(tables)}</div>'


def _examples(
    title: str,
    lead: str,
    examples: Sequence[error_analysis.Example],
    analysis: error_analysis.Analysis,
    legend: str,
) -> str:
    measure = "mean IoU" if analysis.only_classes else "PQ"
    parts = [
        report_blocks.sample(
            report_blocks.Sample(
                f"{example.name}, {measure} {100 * example.score:.1f}", error_pictures.panels(example, analysis.dataset)
            ),
            columns=2,
        )
        for example in examples
    ]
    return report_blocks.section(title, lead, [legend, *parts] if parts else [])


def _tracks(analysis: error_analysis.Analysis) -> Iterable[str]:
    found = analysis.tracks.timelines()
    if not found:
        return
    dataset = analysis.dataset

    def class_of(label: int) -> int:
        return labels.class_of(label, dataset.label_divisor)

    def name_of(label: int) -> str:
        return f"{dataset.class_names[class_of(label)]} {labels.instance_of(label, dataset.label_divisor)}"

    total = f"{analysis.tracks.num_switches:,} switches in {analysis.tracks.num_sequences:,} sequences."
    yield f"<p>{total}</p>"
    for timeline in found:
        drawing = timelines.svg(timeline, name_of=name_of, class_of=class_of)
        words = (
            f"{len(timeline.tracks)} objects, {timeline.num_switches} switches, followed by one id in "
            f"{100 * timeline.score:.1f} % of their frames"
        )
        yield f'<div class="card"><h3>{html.escape(timeline.name)}: {words}</h3>{drawing}</div>'
