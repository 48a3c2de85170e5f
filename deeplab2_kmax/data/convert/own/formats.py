"""The formats that annotations come in: what a folder or file looks like, and how its labels are found."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from deeplab2_kmax.data.convert.own import coco, drawn, maps, sources
from deeplab2_kmax.data.convert.own.annotations import Annotations, Options

Read = Callable[[sources.Source, Options], Annotations]


class Format(NamedTuple):
    """One format. The flag --annotations names `what`."""

    read: Read
    what: str


FORMATS: Mapping[str, Format] = {
    "coco_panoptic": Format(coco.read_panoptic, "JSON file; its PNGs in --panoptic_dir, or beside it"),
    "coco_instances": Format(coco.read_instances, "JSON file with polygons or run lengths"),
    "semantic_png": Format(maps.read_semantic, "folder of PNGs, the class of every pixel"),
    "instance_png": Format(maps.read_instances, "folder of PNGs, the instance of every pixel; classes: --semantic_dir"),
    "labelme": Format(drawn.read_labelme, "folder of JSON files, one per image"),
    "yolo_seg": Format(drawn.read_yolo, "folder of text files, one per image; names in data.yaml or --classes"),
    "cvat": Format(drawn.read_cvat, 'XML file, "CVAT for images"'),
    "voc": Format(maps.read_voc, "folder with SegmentationClass, perhaps SegmentationObject and labelmap.txt"),
}
AUTO = "auto"


def detect(source: sources.Source, options: Options) -> str:
    """The format of annotations, by what is there.

    Raises:
        ValueError: it looks like none; the message tells all.
    """
    path = source.annotations
    if path.is_file():
        if path.suffix.lower() == ".xml":
            return "cvat"
        if path.suffix.lower() == ".json" and (found := _json_kind(path)):
            return found
    else:
        if (path / "SegmentationClass").is_dir():
            return "voc"
        for suffix, name in ((".txt", "yolo_seg"), (".json", "labelme")):
            if sources.walk(path, (suffix,)):
                return name
        if sources.walk(path, (".png",)):
            return "instance_png" if source.second or options.instance_divisor else "semantic_png"
    known = "; ".join(f"{name}: {one.what}" for name, one in FORMATS.items())
    raise ValueError(f"--annotations: {path} is of no known format. Set --format; {known}")


def _json_kind(path: pathlib.Path) -> str | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows: Sequence[Mapping] = content["annotations"]
        if any("segments_info" in row for row in rows):
            return "coco_panoptic"
        if any("segmentation" in row for row in rows):
            return "coco_instances"
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return None
