"""Annotations drawn as outlines: labelme, YOLO's segmentation format, and CVAT's XML for images."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import pathlib
import re
import xml.etree.ElementTree
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from deeplab2_kmax.data.convert import files
from deeplab2_kmax.data.convert.own import classes, labels, regions, sources
from deeplab2_kmax.data.convert.own.annotations import Annotations, Options, annotated, in_order
from deeplab2_kmax.data.convert.own.classes import Class

_CIRCLE = 64  # corners


def read_labelme(source: sources.Source, options: Options) -> Annotations:
    """One JSON file per image. Shapes of one label and group are one object."""
    items: list[labels.Item] = []
    problems: list[sources.Problem] = []
    for name, image, path in annotated(source, options.suffix, ".json", problems):
        try:
            items.append(labels.Item(name, str(image), _labelme(path, name, problems), upright=True))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            problems.append(sources.Problem(name, f"{path}: {_reason(error)}"))
    return Annotations(items, _named(items), problems, by_name=True)


def _labelme(path: pathlib.Path, name: str, problems: list[sources.Problem]) -> labels.Outlines:
    content = json.loads(path.read_text(encoding="utf-8"))
    found: dict[tuple[Any, ...], regions.Region] = {}
    for k, shape in enumerate(content["shapes"]):
        where = f"shape {k} ({shape['label']})"
        region = _labelme_shape(shape, f"{path}: {where}")
        if region is None:
            text = f"{path}: {where} is left out: it is a {shape['shape_type']}"
            problems.append(sources.Problem(name, text, lost=False))
            continue
        group = shape.get("group_id")
        key = (region.category, group) if group is not None and region.polygons else (k,)
        if key in found:
            region = found[key]._replace(polygons=found[key].polygons + region.polygons)
        found[key] = region
    size = (int(content["imageHeight"]), int(content["imageWidth"])) if content.get("imageHeight") else None
    return labels.Outlines(tuple(found.values()), size, (str(path),))


def _labelme_shape(shape: Mapping[str, Any], where: str) -> regions.Region | None:
    """A shape with an area, or None."""
    kind = shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"]]
    label = str(shape["label"])
    if kind == "polygon":
        return regions.Region(label, (tuple(itertools.chain(*points)),), where=where)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points[0], points[-2 if len(points) == 4 else -1]
        return regions.Region(label, (_rectangle(x0, y0, x1, y1),), where=where)
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return regions.Region(label, (_ellipse(x, y, radius, radius),), where=where)
    if kind == "mask":
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
            pixels = np.array(image.convert("L")) > 0
        left, top = (int(round(value)) for value in points[0])
        height, width = pixels.shape
        return regions.Region(
            label, runs=_runs(pixels.ravel()), by_columns=False, box=(left, top, width, height), where=where
        )
    return None


def read_yolo(source: sources.Source, options: Options) -> Annotations:
    """One text file per image: class x1 y1 x2 y2 ... in parts of the width and height. An image without has no
    objects."""
    pictures = sources.images(source.images)
    problems: list[sources.Problem] = []
    notes = {
        path.relative_to(source.annotations).as_posix(): path for path in sources.walk(source.annotations, (".txt",))
    }
    items = []
    for name, image in pictures.items():
        path = notes.pop(f"{name}{options.suffix}.txt", None)
        try:
            items.append(labels.Item(name, str(image), _yolo(path, image), upright=True))
        except ValueError as error:
            problems.append(sources.Problem(name, str(error)))
    for name, path in notes.items():
        if path.name not in ("classes.txt", "train.txt", "val.txt", "test.txt"):
            problems.append(sources.Problem(name, f"{path}: there is no image of this name in {source.images}"))
    return Annotations(items, [] if options.given else _yolo_names(source), problems)


def _yolo(path: pathlib.Path | None, image: pathlib.Path) -> labels.Outlines:
    if path is None:
        return labels.Outlines(())
    size = _upright_size(image)
    found = []
    for k, line in enumerate(path.read_text().splitlines(), start=1):
        where = f"{path}, line {k}"
        if not line.strip():
            continue
        try:
            number, *values = line.split()
            points = np.array([float(value) for value in values])
            category = int(number)
        except ValueError:
            raise ValueError(f"{where}: expected a class and points, got {line[:40]!r}") from None
        if len(points) == 4:
            raise ValueError(f"{where}: a box; expected the outline, class x1 y1 x2 y2 x3 y3 ...")
        if len(points) < 6 or len(points) % 2:
            raise ValueError(f"{where}: expected three points or more, got {len(points)} numbers")
        if not ((points > -0.01) & (points < 1.01)).all():
            raise ValueError(f"{where}: points are parts of the width and height, from 0 to 1, not {points.max():g}")
        pixels = np.clip(points.reshape(-1, 2), 0, 1) * [size[1], size[0]]
        found.append(regions.Region(category, (tuple(pixels.ravel().tolist()),), where=where))
    return labels.Outlines(tuple(found), files=(str(path),))


def _yolo_names(source: sources.Source) -> list[Class]:
    """The names in data.yaml (or the only .yaml file) in the folder of the labels or one of the two above."""
    for folder in (source.annotations, *list(source.annotations.absolute().parents)[:2]):
        found = [folder / "data.yaml"] if (folder / "data.yaml").is_file() else sorted(folder.glob("*.yaml"))
        if len(found) == 1:
            return classes.from_yaml(found[0].read_text(encoding="utf-8"), str(found[0]))
        if (folder / "classes.txt").is_file():
            return classes.parse(str(folder / "classes.txt"))
    return []


def read_cvat(source: sources.Source, options: Options) -> Annotations:
    """The XML file of "CVAT for images": polygons, masks, boxes and ellipses; shapes of one group are one object."""
    del options
    path = source.annotations
    text = path.read_text(encoding="utf-8")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{path}: XML with definitions of its own is not read")
    try:
        root = xml.etree.ElementTree.fromstring(text)
    except xml.etree.ElementTree.ParseError as error:
        raise ValueError(f"{path}: not a readable XML file ({error})") from error
    if root.find("track") is not None:
        raise ValueError(f'{path}: tracks of a video; export the task as "CVAT for images"')
    pictures = sources.images(source.images)
    by_file = {file: name for name, file in pictures.items()}
    items, problems = [], []
    for element in root.iter("image"):
        image = files.below(source.images, element.get("name"), str(path))
        image = image if image in by_file else source.images / image.name
        name = by_file.pop(image, None)
        if name is None:
            problems.append(sources.Problem(str(element.get("name")), f"{path}: there is no image {image}, or twice"))
            continue
        try:
            outlines = _cvat(element, f"{path}: image {name}", problems)
            items.append(labels.Item(name, str(image), outlines, upright=True))
        except (TypeError, ValueError) as error:
            problems.append(sources.Problem(name, str(error)))
    problems += [sources.Problem(name, f"{path} does not annotate {file}") for file, name in by_file.items()]
    known = []
    for element in root.iterfind("meta//labels/label"):
        color = element.findtext("color") or ""
        rgb = re.fullmatch(r"#(..)(..)(..)", color)
        shade = (int(rgb[1], 16), int(rgb[2], 16), int(rgb[3], 16)) if rgb else None
        text = element.findtext("name") or ""
        known.append(Class(text, text, color=shade))
    items.sort(key=lambda item: item.name)
    return Annotations(items, known or _named(items), problems, by_name=True)


def _cvat(element: xml.etree.ElementTree.Element, image: str, problems: list[sources.Problem]) -> labels.Outlines:
    found: dict[Any, regions.Region] = {}
    for k, shape in enumerate(element):
        where = f"{image}, {shape.tag} {k} ({shape.get('label')})"
        region = _cvat_shape(shape, where)
        if region is None:
            if shape.tag not in ("tag",):
                text = f"{where} is left out: it has no area"
                problems.append(sources.Problem(image.rsplit(" ", 1)[-1], text, lost=False))
            continue
        group = shape.get("group_id")
        key = (region.category, group) if group and group != "0" and region.polygons else (k,)
        if key in found:
            region = found[key]._replace(polygons=found[key].polygons + region.polygons)
        found[key] = region
    height, width = element.get("height"), element.get("width")
    return labels.Outlines(tuple(found.values()), (int(height), int(width)) if height and width else None)


def _cvat_shape(shape: xml.etree.ElementTree.Element, where: str) -> regions.Region | None:
    label, order = str(shape.get("label")), int(shape.get("z_order", 0))

    def number(name: str) -> float:
        value = shape.get(name)
        if value is None:
            raise ValueError(f"{where}: {name} is missing")
        return float(value)

    if shape.tag == "polygon":
        pairs = [point.split(",") for point in shape.get("points", "").split(";")]
        polygon = tuple(float(value) for pair in pairs for value in pair)
    elif shape.tag == "box":
        polygon = _rectangle(number("xtl"), number("ytl"), number("xbr"), number("ybr"))
    elif shape.tag == "ellipse":
        polygon = _ellipse(number("cx"), number("cy"), number("rx"), number("ry"))
    elif shape.tag == "mask":
        box = (int(number("left")), int(number("top")), int(number("width")), int(number("height")))
        runs = tuple(int(run) for run in shape.get("rle", "").split(","))
        return regions.Region(label, runs=runs, by_columns=False, box=box, order=order, where=where)
    else:
        return None
    return regions.Region(label, (polygon,), order=order, where=where)


def _named(items: list[labels.Item]) -> list[Class]:
    """The labels that occur, sorted."""
    return [Class(str(name), str(name)) for name in in_order([c for item in items for c in item.label.used])]


def _upright_size(image: pathlib.Path) -> tuple[int, int]:
    """(height, width) as the EXIF orientation turns the image."""
    try:
        with Image.open(image) as picture:
            turned = picture.getexif().get(0x0112, 1) >= 5
            return (picture.width, picture.height) if turned else (picture.height, picture.width)
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{image}: not a readable image ({error})") from error


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> tuple[float, ...]:
    return (x0, y0, x1, y0, x1, y1, x0, y1)


def _ellipse(x: float, y: float, a: float, b: float) -> tuple[float, ...]:
    turns = [2 * math.pi * k / _CIRCLE for k in range(_CIRCLE)]
    return tuple(value for turn in turns for value in (x + a * math.cos(turn), y + b * math.sin(turn)))


def _runs(pixels: np.ndarray) -> tuple[int, ...]:
    """Lengths of runs of False, True, False, ... along a row of pixels."""
    ends = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *ends, len(pixels)]).tolist()
    return tuple([0, *runs] if len(pixels) and pixels[0] else runs)


def _reason(error: Exception) -> str:
    return f"not a readable annotation ({error!r})" if not isinstance(error, ValueError) else str(error)
