"""Draws the curves of a run, from its metrics.jsonl, as one SVG picture.

python evaluation/curves.py --run=runs/panoptic_deeplab --output=curves.svg
"""

from __future__ import annotations

import html
import pathlib
import sys
from collections.abc import Sequence

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from absl import flags

from deeplab2_kmax import registry
from evaluation import charts, command, report

_COLUMNS = 2
_TITLE, _LEGEND = 28, 20  # heights of the title and of a line of the legend
_MARGIN = 52  # of the legend
_LETTER = 7.2  # mean width in the legend
# The page behind the picture may be light or dark.
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#6b7280}.title{font-size:14px;font-weight:600}"
    ".grid{stroke:#9ca3af;stroke-opacity:.4}.curve{stroke-width:2;stroke-linejoin:round}"
)


def write(path: str | pathlib.Path, drawn: Sequence[charts.Chart]) -> pathlib.Path:
    """Writes charts side by side as an SVG file that needs nothing else.

    Raises:
        ValueError: there is no chart.
    """
    if not drawn:
        raise ValueError("There are no curves to draw.")
    legends = [_legend_lines(chart) for chart in drawn]
    width, height = charts.SIZE[0], charts.SIZE[1] + _TITLE + _LEGEND * max(map(len, legends)) + 8
    columns, rows = min(_COLUMNS, len(drawn)), -(-len(drawn) // _COLUMNS)
    body = []
    for index, (chart, legend) in enumerate(zip(drawn, legends)):
        x, y = index % columns * width, index // columns * height
        body.append(f'<text x="{x + 12}" y="{y + 18}" class="title">{html.escape(chart.title)}</text>')
        drawing = charts.svg(chart)
        place = f'x="{x}" y="{y + _TITLE}" width="{width}" height="{charts.SIZE[1]}" '
        body.append(drawing.replace("<svg ", f"<svg {place}", 1))
        for number, line in enumerate(legend):
            body.append(_drawn_line(line, x + _MARGIN, y + _TITLE + charts.SIZE[1] + 12 + number * _LEGEND))
    size = f'width="{columns * width}" height="{rows * height}" viewBox="0 0 {columns * width} {rows * height}"'
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>{"".join(body)}</svg>\n'
    path.write_text(content, encoding="utf-8")
    return path


def _legend_lines(chart: charts.Chart) -> list[list[charts.Key]]:
    """Colour, label and last value of every curve, in as many lines as it takes."""
    lines: list[list[charts.Key]] = [[]]
    for key in charts.keys(chart):
        if lines[-1] and sum(map(_length, [*lines[-1], key])) > charts.SIZE[0] - _MARGIN:
            lines.append([])
        lines[-1].append(key)
    return lines


def _drawn_line(line: Sequence[charts.Key], x: float, y: float) -> str:
    parts = []
    for key in line:
        parts.append(f'<circle cx="{x:g}" cy="{y - 4:g}" r="4" fill="{key.color}"/>')
        parts.append(f'<text x="{x + 9:g}" y="{y:g}">{html.escape(f"{key.label} {key.value}")}</text>')
        x += _length(key)
    return "".join(parts)


def _length(key: charts.Key) -> float:
    return 28 + _LETTER * len(f"{key.label} {key.value}")


def main(argv: list[str]) -> int:
    """Exit code 2 where the run has no curves."""
    run, output = flags.FLAGS.run, flags.FLAGS.output
    try:
        if len(argv) > 1:
            raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
        for name, value in (("run", run), ("output", output)):
            if not value:
                raise ValueError(f"--{name} is missing; see --help")
        if pathlib.Path(output).suffix != ".svg":
            raise ValueError(f"--output={output}: expected a name that ends in .svg")
        metrics = pathlib.Path(run) / report.METRICS if pathlib.Path(run).is_dir() else pathlib.Path(run)
        if not metrics.is_file():
            raise ValueError(
                f"--run={run}: there is no {metrics}; expected the folder of a run, or its file of metrics"
            )
        found = report.training_charts(report.read_metrics(metrics))
        if not found:
            raise ValueError(f"{metrics} holds no curves")
        titles = {chart.title: chart for chart in found}
        for title in flags.FLAGS.without:
            registry.lookup(titles, title, "chart of this run in --without")
        write(output, [chart for title, chart in titles.items() if title not in flags.FLAGS.without])
    except (ValueError, OSError) as error:
        print(f"curves: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(output)
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("run", None, "Folder of a run, <model_dir>/<experiment_name>, or its metrics.jsonl.")
    flags.DEFINE_string("output", None, "SVG file to write.")
    flags.DEFINE_multi_string("without", [], "Title of a chart to leave out; repeatable.")
    command.run(main)
