"""Pictures of predictions: colour maps, overlays with segment outlines and class names, cluster maps.

Arrays in, uint8 RGB arrays out, with NumPy and Pillow only. Colours follow DeepLab2: stuff has its class colour, every
thing a shade of it that is the same in each run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deeplab2_kmax import labels

Array = Any  # np.ndarray; Python 3.9's NumPy stubs cannot say more
Colors = Sequence[Sequence[int]]  # one RGB colour per class id

# Things differ from their class colour by up to this much per channel.
COLOR_NOISE = 60
_COLOR_TRIALS = 50


def semantic_colors(classes: Array, colors: Colors) -> Array:
    """Class ids [H, W] -> class colours [H, W, 3]. Ids beyond the table, such as 255 for void, are black."""
    table = np.zeros((len(colors) + 1, 3), np.uint8)
    table[:-1] = colors
    known = np.logical_and(classes >= 0, classes < len(colors))
    return table[np.where(known, classes, len(colors))]


def panoptic_colors(
    panoptic: Array, *, colors: Colors, thing_ids: Collection[int], label_divisor: int, of_video: bool = False
) -> Array:
    """Panoptic ids [H, W] -> colours [H, W, 3]: class colours, with a shade of its own for every thing.

    Classes beyond the table (void) are black. With `of_video` an id has one colour in all frames.
    """
    panoptic = np.asarray(panoptic)
    shades = segment_colors(
        np.unique(panoptic), colors=colors, thing_ids=thing_ids, label_divisor=label_divisor, of_video=of_video
    )
    return _recolor(panoptic, shades)


def segment_colors(
    panoptic_ids: Array, *, colors: Colors, thing_ids: Collection[int], label_divisor: int, of_video: bool = False
) -> dict[int, tuple[int, int, int]]:
    """The colour of each of the given panoptic ids; the rule of `panoptic_colors`."""
    things = set(thing_ids)
    random = np.random.RandomState(0)
    used: dict[int, set[tuple[int, int, int]]] = {}
    result = {}
    for panoptic_id in sorted(int(i) for i in np.asarray(panoptic_ids).ravel()):
        class_id = labels.class_of(panoptic_id, label_divisor)
        color = tuple(colors[class_id]) if 0 <= class_id < len(colors) else (0, 0, 0)
        if class_id in things:
            taken = used.setdefault(class_id, set())
            if of_video:  # whatever else there is
                random, taken = np.random.RandomState(panoptic_id), set()
            for _ in range(_COLOR_TRIALS):
                shade = np.asarray(color) + random.randint(-COLOR_NOISE, COLOR_NOISE + 1, size=3)
                shade = tuple(int(c) for c in np.clip(shade, 0, 255))
                if shade not in taken:
                    break
            taken.add(shade)
            color = shade
        result[panoptic_id] = (int(color[0]), int(color[1]), int(color[2]))
    return result


def cluster_colors(clusters: Array) -> Array:
    """Any ids [H, W], for example the cluster of every pixel -> colours [H, W, 3] of the PASCAL VOC colour map.

    Id 0 is grey instead of black, because it is a cluster like any other.
    """
    clusters = np.asarray(clusters)
    number = int(clusters.max(initial=0)) + 1
    ids = np.arange(number)
    table = np.zeros((number, 3), np.uint8)
    for bit in range(8):  # bits 0, 3, 6, ... of an id are the highest bits of red, and so on
        for channel in range(3):
            table[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    table[0] = 127
    return table[clusters]


def depth_picture(depth: Array) -> Array:
    """Depth in metres [H, W], 0 unknown -> grey [H, W, 3] uint8, in proportion to 1 / depth: brighter is nearer."""
    depth = np.asarray(depth)
    known = depth > 0
    nearest = np.percentile(depth[known], 2) if known.any() else 1.0
    grey = np.where(known, 255.0 * np.minimum(nearest / np.where(known, depth, 1.0), 1.0), 0.0)
    return np.repeat(grey.astype(np.uint8)[..., np.newaxis], 3, axis=-1)


def outlines(ids: Array) -> Array:
    """Where segments [H, W] meet: True at a pixel whose right or lower neighbour has another id."""
    ids = np.asarray(ids)
    edges = np.zeros(ids.shape, bool)
    edges[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    edges[:-1] |= ids[:-1] != ids[1:]
    return edges


def overlay(image: Array, colored: Array, ids: Array | None = None, *, alpha: float = 0.6) -> Array:
    """Lays colours over an image, both [H, W, 3], and draws the outlines of the segments `ids` [H, W] in white.

    Black pixels of `colored` (void) let the image through.
    """
    image, colored = np.asarray(image, np.float32), np.asarray(colored)
    if image.shape != colored.shape:
        raise ValueError(f"Expected image and colours of one shape [H, W, 3], found {image.shape} and {colored.shape}.")
    weight = alpha * np.any(colored > 0, axis=-1, keepdims=True)
    mixed = (image * (1 - weight) + colored * weight + 0.5).astype(np.uint8)
    if ids is not None:
        mixed[outlines(ids)] = 255
    return mixed


def resize_nearest(values: Array, size: tuple[int, int]) -> Array:
    """Enlarges or shrinks [h, w] or [h, w, 3] to (H, W) by nearest neighbour, for small maps in pictures."""
    values = np.asarray(values)
    rows = (np.arange(size[0]) + 0.5) * values.shape[0] / size[0]
    columns = (np.arange(size[1]) + 0.5) * values.shape[1] / size[1]
    return values[rows.astype(int)[:, None], columns.astype(int)]


def draw_names(
    picture: Array, ids: Array, names: dict[int, str], *, min_area: int = 400, font_size: float = 10
) -> Array:
    """Writes `names[id]` into every segment of `ids` [H, W] that is large enough, near its middle.

    Where two names would cover each other, only that of the larger segment is written.
    """
    canvas = Image.fromarray(np.ascontiguousarray(picture))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(font_size)
    ids = np.asarray(ids)
    stroke = max(1, round(font_size / 8))
    written: list[tuple[float, float, float, float]] = []
    for segment, area in sorted(zip(*np.unique(ids, return_counts=True)), key=lambda found: -found[1]):
        name = names.get(int(segment))
        if not name or area < min_area:
            continue
        y, x = _inner_point(ids == segment)
        left, top, right, bottom = draw.textbbox((x, y), name, font=font, anchor="mm", stroke_width=stroke)
        shift = max(0, -left) or min(0, canvas.width - right)  # into the picture
        box = (left + shift, top, right + shift, bottom)
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in written):
            continue
        written.append(box)
        draw.text((x + shift, y), name, font=font, fill="white", anchor="mm", stroke_width=stroke, stroke_fill="black")
    return np.asarray(canvas)


def legend(entries: Sequence[tuple[str, Sequence[int]]], *, height: int, line: int = 16, width: int = 170) -> Array:
    """A white strip [height, *, 3] with a colour patch and a name per entry, in as many columns as needed."""
    per_column = max(1, (height - 8) // line)
    columns = max(1, -(-len(entries) // per_column))
    canvas = Image.new("RGB", (columns * width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for i, (name, color) in enumerate(entries):
        x, y = i // per_column * width + 6, i % per_column * line + 6
        draw.rectangle((x, y, x + line - 6, y + line - 6), fill=tuple(int(c) for c in color))
        draw.text((x + line, y - 1), name, font=font, fill="black")
    return np.asarray(canvas)


def side_by_side(pictures: Sequence[Array]) -> Array:
    """Pictures of one height next to each other."""
    return np.concatenate([np.asarray(p) for p in pictures], axis=1)


def _recolor(ids: Array, colors: dict[int, tuple[int, int, int]]) -> Array:
    known = np.array(sorted(colors), dtype=np.int64)
    table = np.array([colors[int(i)] for i in known], np.uint8)
    return table[np.searchsorted(known, ids)]


def _inner_point(mask: Array) -> tuple[int, int]:
    """(y, x) of a pixel well inside a mask: the middle of the longest run in the row nearest the centre of mass."""
    ys, _ = np.nonzero(mask)
    y = int(ys[(len(ys) - 1) // 2])  # the median row; of two with others between them the upper one
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask[y].astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return y, int((starts[longest] + ends[longest] - 1) // 2)
