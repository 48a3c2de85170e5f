"""The parts of the reports' HTML pages: frame, tiles, pictures, tables; all inside of one file, without scripts."""

from __future__ import annotations

import base64
import html
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

_PICTURE_WIDTH = 720
_STYLE = pathlib.Path(__file__).with_name("report.css")
_FEATURES = ("id", "name", "thing", "color")  # of a class row; the rest are values
_ORDER = ("dvpq", "vpq", "pq", "sq", "rq", "iou", "ap")  # the first that is there gets the bars
_TITLES = {"iou": "IoU"}


class Figure(NamedTuple):
    """A number worth showing in large type."""

    label: str
    value: str
    note: str = ""


class Sample(NamedTuple):
    """Pictures that belong together, side by side: title -> [H, W, 3] uint8 RGB."""

    name: str
    pictures: Mapping[str, np.ndarray]


def write_page(path: str | pathlib.Path, *, title: str, subtitle: str, sections: Iterable[str]) -> pathlib.Path:
    """Writes the page and returns its path; its folder is made."""
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


def section(title: str, lead: str, parts: Iterable[str]) -> str:
    """A headline, a sentence and parts; nothing where there are no parts."""
    body = "".join(parts)
    if not body:
        return ""
    lead = f'<p class="lead">{html.escape(lead)}</p>' if lead else ""
    return f"<section><h2>{html.escape(title)}</h2>{lead}{body}</section>\n"


def tiles(figures: Sequence[Figure]) -> str:
    """The main numbers."""
    found = "".join(
        f'<div class="tile"><span>{html.escape(f.label)}</span><strong>{html.escape(f.value)}</strong>'
        f"<small>{html.escape(f.note)}</small></div>"
        for f in figures
    )
    return f'<div class="tiles">{found}</div>\n' if found else ""


def sample(sample: Sample, *, columns: int | None = None) -> str:
    """Pictures in a row, or in rows of so many columns."""
    pictures = "".join(picture(array, caption) for caption, array in sample.pictures.items())
    return f'<h3>{html.escape(sample.name)}</h3><div class="row n{columns or len(sample.pictures)}">{pictures}</div>'


def picture(array: np.ndarray, caption: str, *, width: int = _PICTURE_WIDTH, lossless: bool = False) -> str:
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


def legend(rows: Sequence[Mapping]) -> str:
    """The colours of the classes that have a value."""
    return key((row["name"], row["color"]) for row in rows if any(row.get(k) is not None for k in ("pq", "iou")))


def class_table(rows: Sequence[Mapping], *, notes: Mapping[str, Mapping[int, str]] | None = None) -> str:
    """Classes by falling PQ (or what is first of the values); those that did not occur are listed below.

    Args:
        rows: a mapping per class with `name`, `thing`, `color` and values: integers are counts, the others fractions,
            None where there is none.
        notes: further columns, HTML: title -> class id -> cell.
    """
    values = dict.fromkeys(key for row in rows for key in row if key not in _FEATURES and row[key] is not None)
    columns = sorted(values, key=lambda key: _ORDER.index(key) if key in _ORDER else len(_ORDER))
    counts = {key for key in columns if any(isinstance(row.get(key), int) for row in rows)}
    main = next((key for key in columns if key not in counts), None)
    absent = [row for row in rows if main and row.get(main) is None]
    present = [row for row in rows if not main or row.get(main) is not None]

    notes = notes or {}
    head = "".join(
        f'<th class="{"bar" if key == main else "number"}">{_TITLES.get(key, key.upper())}</th>' for key in columns
    )
    head += "".join(f'<th class="note">{html.escape(title)}</th>' for title in notes)
    lines = []
    for row in sorted(present, key=lambda row: -row[main] if main else 0):
        cells = []
        for key in columns:
            value = row.get(key)
            if value is None:
                cells.append(f'<td class="{"bar" if key == main else "number"} none">-</td>')
            elif key == main:
                bar = f'<i style="width:{100 * value:.1f}%;background:{rgb(row["color"])}"></i>'
                cells.append(f'<td class="bar"><div>{bar}</div><b>{100 * value:.1f}</b></td>')
            else:
                text = f"{value:d}" if key in counts else f"{100 * value:.1f}"
                cells.append(f'<td class="number">{text}</td>')
        cells += [f'<td class="note">{cell.get(row.get("id", -1), "")}</td>' for cell in notes.values()]
        lines.append(
            f'<tr><td><i class="chip" style="background:{rgb(row["color"])}"></i>{html.escape(row["name"])}</td>'
            f"<td>{'thing' if row['thing'] else 'stuff'}</td>{''.join(cells)}</tr>"
        )
    return (
        f'<div class="card scroll"><table class="classes"><thead><tr><th>Class</th><th>Kind</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{_absent(absent)}"
    )


def _absent(rows: Sequence[Mapping]) -> str:
    return f'<p class="lead">Do not occur:</p>{key((row["name"], row["color"]) for row in rows)}' if rows else ""


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A plain table: cells are HTML; all but the first column hold numbers."""
    classes = ["", *["number"] * (len(head) - 1)]

    def row(tag: str, cells: Sequence[str]) -> str:
        found = "".join(f'<{tag} class="{c}">{cell}</{tag}>' for c, cell in zip(classes, cells))
        return f"<tr>{found}</tr>"

    body = "".join(row("td", cells) for cells in lines)
    title = row("th", [html.escape(cell) for cell in head])
    return f'<div class="card scroll"><table><thead>{title}</thead><tbody>{body}</tbody></table></div>'


def key(entries: Iterable[tuple[str, Sequence[int]]]) -> str:
    """What colours mean: name and colour of each."""
    names = "".join(
        f'<span class="key"><i style="background:{rgb(color)}"></i>{html.escape(name)}</span>'
        for name, color in entries
    )
    return f'<p class="legend">{names}</p>' if names else ""


def facts(values: Mapping[str, str]) -> str:
    """A small table of names and values."""
    lines = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in values.items())
    return f'<div class="card"><table class="facts">{lines}</table></div>'


def rgb(color: Sequence[int]) -> str:
    """A colour as CSS has it."""
    return "#" + "".join(f"{int(part):02x}" for part in color)
