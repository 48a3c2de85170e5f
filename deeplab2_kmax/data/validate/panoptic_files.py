"""Raw annotations in COCO's panoptic format: a JSON file, a folder of PNGs and one of images."""

from __future__ import annotations

import functools
import json
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from deeplab2_kmax.data.convert import files, parallel
from deeplab2_kmax.data.validate.problems import Checked, Problem
from deeplab2_kmax.data.validate.records import size_kind

_MAX_ID = 2**24


class Row(NamedTuple):
    """One annotation with its files, as far as they are there."""

    image_id: str
    png: str
    image: str
    size: tuple[int, int] | None  # height, width by the JSON
    segments: Any


def check(
    json_path: pathlib.Path,
    png_dir: pathlib.Path,
    image_dir: pathlib.Path | None,
    *,
    max_pixels: int,
    num_processes: int = 1,
    categories: Mapping[int, bool] | None = None,
) -> Checked:
    """Checks everything that the JSON file names.

    Args:
        json_path: annotations.
        png_dir: their PNGs.
        image_dir: the images; None: they are not looked at.
        max_pixels: of an image.
        num_processes: 0 means one per processor core.
        categories: id -> whether it is a thing, where the file does not say.

    Raises:
        ValueError: no such file.
    """
    where = str(json_path)
    try:
        content = json.loads(json_path.read_text(encoding="utf-8"))
        annotations = list(content["annotations"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{json_path}: not a panoptic annotation file of COCO's format ({error!r})") from error
    problems: list[Problem] = []
    known = _categories(content, where, problems) or categories
    if known is None:
        raise ValueError(f"{json_path} has no categories: name the data set by --dataset")
    images = _images(content, where, problems)
    rows, seen = [], set()
    for k, annotation in enumerate(annotations):
        if not isinstance(annotation, Mapping) or not isinstance(annotation.get("file_name"), str):
            problems.append(Problem("malformed", where, f"annotations[{k}]", "no file_name"))
            continue
        image_id = annotation.get("image_id", pathlib.PurePosixPath(annotation["file_name"]).stem)
        if str(image_id) in seen:
            problems.append(Problem("duplicate_id", where, f"image {image_id}", "annotated twice"))
        seen.add(str(image_id))
        entry = images.get(str(image_id))
        if images and entry is None:
            problems.append(Problem("missing", where, f"image {image_id}", "annotated, but not in `images`"))
        png = _below(png_dir, annotation["file_name"], where, image_id, problems)
        image = _find_image(image_dir, entry, annotation["file_name"], where, image_id, problems)
        rows.append(Row(str(image_id), png, image, _size(entry), annotation.get("segments_info")))
    for image_id in images:
        if image_id not in seen:
            problems.append(Problem("missing", where, f"image {image_id}", "in `images`, but not annotated"))
    work = functools.partial(check_row, where=where, categories=dict(known), max_pixels=max_pixels)
    for found in parallel.run(work, rows, "annotations", num_processes):
        problems += found
    return Checked(problems, 1, len(rows))


def check_row(row: Row, *, where: str, categories: Mapping[int, bool], max_pixels: int) -> list[Problem]:
    """Checks one annotation with its PNG and its image."""
    problems: list[Problem] = []
    name = f"image {row.image_id}"
    segments = _segments(row, categories, where, problems)
    size = _check_image(row, max_pixels, problems) if row.image else row.size
    if not row.png:
        return problems
    try:
        shape = files.size(row.png)
        if shape[0] * shape[1] > max_pixels:
            told = f"{shape[0]} x {shape[1]} pixels, more than {max_pixels / 1e6:g} millions"
            return [*problems, Problem("image_huge", row.png, name, told)]
        pixels = files.read_map(row.png, channels=3).astype(np.int64) @ [1, 256, 65536]
    except ValueError as error:
        return [*problems, Problem("image_unreadable", row.png, name, str(error))]
    if size is not None and shape != size:
        told = f"{shape[0]} x {shape[1]}, but the image is {size[0]} x {size[1]}"
        problems.append(Problem(size_kind(shape, size), row.png, name, told))
    ids, counts = np.unique(pixels, return_counts=True)
    areas = dict(zip(ids.tolist(), counts.tolist()))
    for number, segment in segments.items():
        place = f"{name}, segment {number}"
        if number not in areas:
            problems.append(Problem("ids_differ", row.png, place, "in the JSON, but not in the PNG"))
        elif segment.get("area") != areas[number]:
            told = f"{areas[number]} pixels, but the JSON says {segment.get('area')}"
            problems.append(Problem("area", row.png, place, told))
    for number, area in areas.items():
        if number and number not in segments:
            told = f"{area} pixels of the PNG, but not in the JSON"
            problems.append(Problem("ids_differ", row.png, f"{name}, segment {number}", told))
    if not segments or set(areas) == {0}:
        problems.append(Problem("empty", row.png, name, "no segments"))
    return problems


def _segments(
    row: Row, categories: Mapping[int, bool], where: str, problems: list[Problem]
) -> dict[int, Mapping[str, Any]]:
    """The segments by id, without those that have none."""
    name = f"image {row.image_id}"
    if not isinstance(row.segments, list):
        problems.append(Problem("malformed", where, name, "no segments_info"))
        return {}
    found: dict[int, Mapping[str, Any]] = {}
    for k, segment in enumerate(row.segments):
        if not isinstance(segment, Mapping) or not isinstance(segment.get("category_id"), int):
            problems.append(Problem("malformed", where, f"{name}, segments_info[{k}]", "no category_id"))
            continue
        number, category = segment.get("id"), segment["category_id"]
        place = f"{name}, segment {number}"
        if category not in categories:
            problems.append(Problem("label_range", where, place, f"category {category} is not in the list"))
        if not isinstance(number, int) or not 0 < number < _MAX_ID:
            kind = "no_instance" if not number and categories.get(category) else "malformed"
            told = f"a segment of category {category} has the id {number!r}, expected 1 to {_MAX_ID - 1}"
            problems.append(Problem(kind, where, place, told))
            continue
        if number in found:
            other = found[number]["category_id"]
            kind = "duplicate_id" if other == category else "two_classes"
            told = f"listed twice, with the categories {other} and {category}"
            problems.append(Problem(kind, where, place, told))
            continue
        found[number] = segment
    return found


def _check_image(row: Row, max_pixels: int, problems: list[Problem]) -> tuple[int, int] | None:
    """Decodes an image; returns the size of its stored pixels, or what the JSON says where it cannot be read."""
    name = f"image {row.image_id}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(row.image) as image:
                size = (image.height, image.width)
                if size[0] * size[1] > max_pixels:
                    told = f"{size[0]} x {size[1]} pixels, more than {max_pixels / 1e6:g} millions"
                    problems.append(Problem("image_huge", row.image, name, told))
                    return size
                orientation = image.getexif().get(0x0112, 1)
                image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        huge = isinstance(error, Image.DecompressionBombError)
        problems.append(Problem("image_huge" if huge else "image_unreadable", row.image, name, str(error)))
        return row.size
    if row.size is not None and row.size != size:
        turned = f"; its EXIF orientation is {orientation}" if orientation >= 5 else ""
        told = f"stored as {size[0]} x {size[1]}, but the JSON says {row.size[0]} x {row.size[1]}{turned}"
        problems.append(Problem(size_kind(size, row.size), row.image, name, told))
    return size


def _categories(content: Mapping[str, Any], where: str, problems: list[Problem]) -> dict[int, bool] | None:
    rows = content.get("categories")
    if not isinstance(rows, list) or not rows:
        return None
    found: dict[int, bool] = {}
    for k, row in enumerate(rows):
        if not isinstance(row, Mapping) or not isinstance(row.get("id"), int):
            problems.append(Problem("malformed", where, f"categories[{k}]", "no id"))
        elif row["id"] in found:
            problems.append(Problem("duplicate_id", where, f"category {row['id']}", "listed twice"))
        else:
            found[row["id"]] = bool(row.get("isthing", True))
    return found


def _images(content: Mapping[str, Any], where: str, problems: list[Problem]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    names: dict[str, str] = {}
    for k, row in enumerate(content.get("images") or ()):
        if not isinstance(row, Mapping) or "id" not in row or not isinstance(row.get("file_name"), str):
            problems.append(Problem("malformed", where, f"images[{k}]", "no id or file_name"))
            continue
        image_id = str(row["id"])
        if image_id in found:
            problems.append(Problem("duplicate_id", where, f"image {image_id}", "listed twice"))
            continue
        if row["file_name"] in names:
            told = f"the file {row['file_name']!r} is that of image {names[row['file_name']]}"
            problems.append(Problem("duplicate_id", where, f"image {image_id}", told))
        names[row["file_name"]] = image_id
        found[image_id] = row
    return found


def _size(entry: Mapping[str, Any] | None) -> tuple[int, int] | None:
    sides = (entry or {}).get("height"), (entry or {}).get("width")
    return (int(sides[0]), int(sides[1])) if all(isinstance(side, int) for side in sides) else None  # type: ignore


def _below(root: pathlib.Path, name: str, where: str, image_id: Any, problems: list[Problem]) -> str:
    """The path of a file that is there, or ""."""
    try:
        path = files.below(root, name, where)
    except ValueError as error:
        problems.append(Problem("outside", where, f"image {image_id}", str(error)))
        return ""
    if not path.is_file():
        problems.append(Problem("missing", str(path), f"image {image_id}", "there is no such file"))
        return ""
    return str(path)


def _find_image(
    root: pathlib.Path | None,
    entry: Mapping[str, Any] | None,
    png: str,
    where: str,
    image_id: Any,
    problems: list[Problem],
) -> str:
    if root is None:
        return ""
    if entry is not None:
        return _below(root, entry["file_name"], where, image_id, problems)
    stem = pathlib.PurePosixPath(png).stem
    for suffix in files.IMAGES:
        if (root / f"{stem}{suffix}").is_file():
            return _below(root, f"{stem}{suffix}", where, image_id, problems)
    problems.append(Problem("missing", str(root / stem), f"image {image_id}", "there is no such image"))
    return ""
