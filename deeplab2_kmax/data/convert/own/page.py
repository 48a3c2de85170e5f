"""report.html of a data set of one's own: samples with overlays, classes, sizes, problems; one file, no scripts."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from deeplab2_kmax import visualize
from deeplab2_kmax.data.convert.own import experiment, inspection, labels, pictures

if TYPE_CHECKING:
    from deeplab2_kmax.data.convert.own import Survey

NAME = "report.html"
_SAMPLES = {"train": 6, "val": 2}
_PROBLEMS = 200
_WIDTH = 560  # pixels of a sample
_ENLARGED = 8.0  # times, at most
_STYLE = """
:root { --ink: #0f172a; --soft: #64748b; --line: #e2e8f0; --paper: #fff; --back: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
header { background: var(--ink); color: #f8fafc; padding: 32px 0 56px; }
header p { margin: 4px 0 0; color: #cbd5e1; }
h1 { margin: 0; font-size: 28px; }
h2 { margin: 40px 0 6px; font-size: 20px; }
.page { max-width: 1180px; margin: 0 auto; padding: 0 28px; }
.lead, figcaption, small, th { color: var(--soft); }
.lead { margin: 0 0 10px; max-width: 100ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; margin-top: -34px; }
.tile, .card { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 12px 18px; }
.tile strong { display: block; font-size: 28px; line-height: 1.2; }
.tile span { color: var(--soft); font-size: 13px; }
.samples { display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 18px; }
figure { margin: 0; }
figure div { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; }
img { width: 100%; height: auto; display: block; border-radius: 6px; }
figcaption { font-size: 13px; margin-top: 4px; overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 16px; }
svg { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-size: 13px; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
tr:last-child td { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
.chip { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 8px;
  border: 1px solid rgb(15 23 42 / 20%); }
.bar { width: 34%; }
.bar i { display: block; height: 12px; border-radius: 6px; min-width: 1px;
  box-shadow: inset 0 0 0 1px rgb(15 23 42 / 15%); }
.lost { color: #b91c1c; font-weight: 600; }
.good { color: #15803d; }
"""


def make(found: Survey, config: experiment.Config, *, shown: str) -> str:
    """The page.

    Args:
        found: the data.
        config: what was written for it.
        shown: the folder, as the user calls it.
    """
    dataset = found.dataset
    seen = [one for part in found.seen.values() for one in part]
    lost = sum(problem.lost for problem in found.problems)
    counts = ", ".join(f"{len(part)} {split}" for split, part in found.seen.items())
    segments = sum(one.num_segments for one in seen)
    tiles = [
        ("images", f"{len(seen):,}", counts),
        ("classes", str(dataset.num_classes), f"{len(dataset.thing_ids)} things, {len(dataset.stuff_ids)} stuff"),
        ("segments", f"{segments:,}", f"{segments / len(seen):.1f} an image, at most {max(map(_segments, seen))}"),
        ("void", _percent(_void_share(seen, dataset.ignore_label)), "of all pixels: not annotated, not scored"),
        ("problems", str(len(found.problems)), f"{lost} images left out" if lost else "no image left out"),
    ]
    sections = [
        '<div class="tiles">',
        *(
            f'<div class="tile"><span>{label}</span><strong>{value}</strong><small>{html.escape(note)}</small></div>'
            for label, value, note in tiles
        ),
        "</div>",
        _heading(
            "Samples",
            "Chosen so that as many classes as possible show. Every thing has a shade of its own; void "
            "lets the image through.",
        ),
        _samples(found),
        _heading("Classes", "Share of all annotated pixels, and in how many images and segments a class occurs."),
        _class_table(found, seen),
        _heading("Sizes", f"The config's crop is {config.crop[0]} x {config.crop[1]}: images are resized to fit it."),
        f'<div class="two"><div class="card">{_size_chart(seen)}</div>',
        f'<div class="card">{_segment_chart(seen)}</div></div>',
        _heading("Problems", "Images in red were left out."),
        _problem_table(found),
        _heading("The config", ""),
        _facts(found, config, shown),
    ]
    title = html.escape(f"Data set {dataset.name}")
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>{_STYLE}</style></head>
<body>
<header><div class="page"><h1>{title}</h1><p>{html.escape(found.format)} &rarr; {html.escape(shown)}</p></div></header>
<main class="page">
{chr(10).join(sections)}
</main>
</body>
</html>
"""


def _heading(title: str, lead: str) -> str:
    return f"<h2>{title}</h2>" + (f'<p class="lead">{html.escape(lead)}</p>' if lead else "")


def _segments(one: inspection.Seen) -> int:
    return one.num_segments


def _void_share(seen: Sequence[inspection.Seen], void: int) -> float:
    return sum(one.pixels.get(void, 0) for one in seen) / max(1, sum(sum(one.pixels.values()) for one in seen))


def _percent(part: float) -> str:
    return f"{part:.1%}" if part >= 0.001 or not part else "< 0.1%"


def choose(items: Sequence[labels.Item], seen: Sequence[inspection.Seen], number: int) -> list[labels.Item]:
    """Images that together show as many classes as possible; then those with the most segments."""
    left = list(range(len(items)))
    covered: set[int] = set()
    chosen: list[labels.Item] = []
    while left and len(chosen) < number:
        best = max(left, key=lambda k: (len(set(seen[k].segments) - covered), seen[k].num_segments, -k))
        left.remove(best)
        covered |= set(seen[best].segments)
        chosen.append(items[best])
    return chosen


def _samples(found: Survey) -> str:
    figures = []
    for split, items in found.splits.items():
        for item in choose(items, found.seen[split], _SAMPLES.get(split, 2)):
            figures.append(_sample(item, split, found))
    return f'<div class="samples">{"".join(figures)}</div>'


def _sample(item: labels.Item, split: str, found: Survey) -> str:
    dataset = found.dataset
    picture = pictures.read(item, max_pixels=2**62)
    label = item.label.read(picture.size, found.table).label
    with Image.open(io.BytesIO(picture.data)) as image:
        scale = min(_WIDTH / image.width, _ENLARGED)
        size = (max(1, round(image.height * scale)), max(1, round(image.width * scale)))
        pixels = np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS))
    label = visualize.resize_nearest(label, size)
    colors = visualize.panoptic_colors(
        label, colors=dataset.colors, thing_ids=dataset.thing_ids, label_divisor=dataset.label_divisor
    )
    overlay = visualize.overlay(pixels, colors, label)
    present = {int(number): int(number) // dataset.label_divisor for number in np.unique(label)}
    names = {number: dataset.class_names[k] for number, k in present.items() if k != dataset.ignore_label}
    overlay = visualize.draw_names(overlay, label, names, min_area=900)
    kinds = Counter(names.values())
    caption = ", ".join(f"{count} {name}" if count > 1 else name for name, count in kinds.most_common())
    text = html.escape(caption or "nothing")
    return (
        f"<figure><div>{_image(pixels, item.name)}{_image(overlay, f'{item.name}, labels')}</div>"
        f"<figcaption><b>{html.escape(item.name)}</b> ({split}): {text}</figcaption></figure>"
    )


def _image(pixels: np.ndarray, alt: str) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(alt, quote=True)}">'


def _class_table(found: Survey, seen: Sequence[inspection.Seen]) -> str:
    dataset = found.dataset
    pixels: Counter[int] = Counter()
    segments: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for one in seen:
        pixels.update(one.pixels)
        segments.update(one.segments)
        images.update(one.segments.keys())
    total = max(1, sum(count for k, count in pixels.items() if k != dataset.ignore_label))
    most = max([pixels[k] for k in range(dataset.num_classes)] + [1])
    rows, never = [], []
    for k in sorted(range(dataset.num_classes), key=lambda k: (-pixels[k], k)):
        if not images[k]:
            never.append(dataset.class_names[k])
            continue
        color = "rgb({}, {}, {})".format(*dataset.colors[k])
        rows.append(
            f'<tr><td><i class="chip" style="background:{color}"></i>{html.escape(dataset.class_names[k])}</td>'
            f"<td>{'thing' if k in dataset.thing_ids else 'stuff'}</td>"
            f'<td class="number">{k}</td><td class="number">{images[k]:,}</td><td class="number">{segments[k]:,}</td>'
            f'<td class="number">{_percent(pixels[k] / total)}</td>'
            f'<td class="bar"><i style="background:{color};width:{100 * pixels[k] / most:.2f}%"></i></td></tr>'
        )
    head = "".join(
        f"<th{' class=number' if number else ''}>{name}</th>"
        for name, number in (("class", 0), ("", 0), ("id", 1), ("images", 1), ("segments", 1), ("pixels", 1), ("", 0))
    )
    named = html.escape(", ".join(never))
    tail = f'<p><span class="lost">{len(never)} never occur:</span> {named}</p>' if never else ""
    return f'<div class="card"><table><tr>{head}</tr>{"".join(rows)}</table>{tail}</div>'


def _size_chart(seen: Sequence[inspection.Seen]) -> str:
    """Width against height, a circle per size."""
    counts = Counter(one.size for one in seen)
    largest = max(max(size) for size in counts)
    most = max(counts.values())
    marks = []
    for (height, width), count in counts.most_common():
        x, y = 40 + 360 * width / largest, 260 - 220 * height / largest
        radius = 3 + 9 * (count / most) ** 0.5
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#2563eb" fill-opacity=".45">'
            f"<title>{height} x {width}: {count}</title></circle>"
        )
    common = "; ".join(f"{height} x {width}: {count}" for (height, width), count in counts.most_common(4))
    return (
        f'<b>Image sizes</b> <small>({len(counts)})</small><svg viewBox="0 0 420 300" role="img">'
        '<path d="M40 260H410M40 260V30" stroke="#94a3b8" fill="none"/>'
        f"{_text(225, 290, 'width')}{_text(40, 277, '0')}{_text(400, 277, str(largest))}"
        f"{_text(20, 44, str(largest))}{_text(20, 150, 'height')}{''.join(marks)}</svg>"
        f"<small>height x width: {common}{' ...' if len(counts) > 4 else ''}</small>"
    )


def _segment_chart(seen: Sequence[inspection.Seen]) -> str:
    """How many images have so many segments."""
    numbers = [one.num_segments for one in seen]
    step = max(1, -(-(max(numbers) + 1) // 20))
    counts = Counter(number // step for number in numbers)
    bins, most = max(counts) + 1, max(counts.values())
    width = 360 / bins
    bars = "".join(
        f'<rect x="{40 + k * width + 1:.1f}" y="{260 - 220 * counts[k] / most:.1f}" width="{max(1, width - 2):.1f}" '
        f'height="{220 * counts[k] / most:.1f}" fill="#0d9488"><title>{k * step} to {(k + 1) * step - 1}: {counts[k]}'
        "</title></rect>"
        for k in range(bins)
    )
    return (
        '<b>Segments in an image</b><svg viewBox="0 0 420 300" role="img">'
        f'<path d="M40 260H410" stroke="#94a3b8" fill="none"/>{bars}'
        f"{_text(40, 277, '0')}{_text(396, 277, str(bins * step - 1))}{_text(225, 290, 'segments')}"
        f"{_text(20, 44, str(most))}{_text(20, 150, 'images')}</svg>"
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="11" fill="#64748b" text-anchor="middle">{text}</text>'


def _problem_table(found: Survey) -> str:
    if not found.problems:
        return '<p class="good">None.</p>'
    rows = [
        f"<tr><td{' class=lost' if problem.lost else ''}>{html.escape(problem.name)}</td>"
        f"<td>{html.escape(problem.text)}</td></tr>"
        for problem in sorted(found.problems, key=lambda problem: not problem.lost)[:_PROBLEMS]
    ]
    more = len(found.problems) - _PROBLEMS
    tail = f"<p>and {more} more</p>" if more > 0 else ""
    return f'<div class="card"><table><tr><th>image</th><th>what</th></tr>{"".join(rows)}</table>{tail}</div>'


def _facts(found: Survey, config: experiment.Config, shown: str) -> str:
    dataset = found.dataset
    rows: Iterable[tuple[str, str]] = (
        ("crop", f"{config.crop[0]} x {config.crop[1]}, of the form 32k + 1"),
        (
            "mask slots",
            f"{config.slots}, for at most {max(_segments(o) for p in found.seen.values() for o in p)} segments",
        ),
        ("steps", f"{config.steps} of {config.batch} images"),
        ("ids", f"class * {dataset.label_divisor} + instance; void is class {dataset.ignore_label}"),
        ("background", "class 0: what no outline covers" if found.table.background is not None else "none"),
        (
            "train",
            f"python trainer/train.py --config_file={shown}/{experiment.CONFIG} --mode=train_and_eval --model_dir=runs",
        ),
    )
    body = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="card"><table>{body}</table></div>'
