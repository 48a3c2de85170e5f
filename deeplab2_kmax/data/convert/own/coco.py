"""Annotations in COCO's formats: panoptic (JSON and PNGs) and instances (JSON with polygons or run lengths)."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from deeplab2_kmax.data.convert import files, panoptic_json, segments
from deeplab2_kmax.data.convert.own import classes, labels, regions, sources
from deeplab2_kmax.data.convert.own.annotations import Annotations, Options
from deeplab2_kmax.data.convert.own.classes import Class


def read_panoptic(source: sources.Source, options: Options) -> Annotations:
    """A panoptic JSON file; its PNGs lie in a second folder, or in the one that is named like the file."""
    del options
    path = source.annotations
    png_dir = source.second or path.with_suffix("")
    if not png_dir.is_dir():
        raise ValueError(f"--panoptic_dir: there is no folder {png_dir}")
    content = panoptic_json.read(path)
    rows = content["annotations"]
    pictures = _Pictures(source.images, content, path)
    items, problems = [], pictures.problems
    seen: set[str] = set()
    for row in rows:
        name, image = pictures.find(row.image_id, pathlib.PurePosixPath(row.file_name).stem)
        if str(row.image_id if row.image_id is not None else name) in seen:
            raise ValueError(f"{path}: image {row.image_id!r} is annotated twice")
        seen.add(str(row.image_id if row.image_id is not None else name))
        png = files.below(png_dir, row.file_name, str(path))
        if image is None:
            problems.append(sources.Problem(name, f"{path}: there is no image {source.images / name}"))
        elif not png.is_file():
            problems.append(sources.Problem(name, f"{path}: there is no file {png}"))
        else:
            try:
                found = segments.read_segments(row.segments_info, f"{path}, image {row.image_id!r}")
                items.append(labels.Item(name, str(image), labels.SegmentPng(str(png), found)))
            except ValueError as error:
                problems.append(sources.Problem(name, str(error)))
    problems += pictures.bare({item.image for item in items} | {str(p) for p in pictures.annotated})
    return Annotations(sorted(items), _categories(content, path), problems, by_name=True, sparse=False)


def read_instances(source: sources.Source, options: Options) -> Annotations:
    """A JSON file of instances. Images that it lists without annotations have no objects."""
    del options
    path = source.annotations
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = {row["id"]: row for row in content["images"]}
        if len(listed) < len(content["images"]):
            raise ValueError("an image id comes twice")
        rows: dict[Any, list[Mapping]] = {image_id: [] for image_id in listed}
        for row in content["annotations"]:
            if row["image_id"] not in listed:
                raise ValueError(f"annotation {row.get('id')} is of image {row['image_id']}, which is not listed")
            rows[row["image_id"]].append(row)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not an instance annotation file of COCO's format ({error!r})") from error
    pictures = _Pictures(source.images, content, path)
    items, problems = [], pictures.problems
    for image_id, found in rows.items():
        name, image = pictures.find(image_id, "")
        if image is None:
            problems.append(sources.Problem(name, f"{path}: there is no image {source.images / name}"))
            continue
        row = listed[image_id]
        try:
            size = (int(row["height"]), int(row["width"])) if "height" in row and "width" in row else None
            outlines = labels.Outlines(tuple(_region(one, path) for one in found), size)
            items.append(labels.Item(name, str(image), outlines))
        except (KeyError, TypeError, ValueError) as error:
            problems.append(sources.Problem(name, str(error)))
    problems += pictures.bare({item.image for item in items} | {str(p) for p in pictures.annotated})
    return Annotations(sorted(items, key=lambda item: item.name), _categories(content, path), problems, by_name=True)


class _Pictures:
    """The images of a folder by the ids of a JSON file."""

    def __init__(self, folder: pathlib.Path, content: Mapping[str, Any], path: pathlib.Path):
        self.folder, self.path = folder, path
        self.problems: list[sources.Problem] = []
        self.annotated: list[pathlib.Path] = []
        self._there = sources.images(folder)
        self._files = {path: name for name, path in self._there.items()}
        self._listed = {}
        for row in content.get("images") or ():
            if isinstance(row, Mapping) and "id" in row and "file_name" in row:
                self._listed[row["id"]] = files.below(folder, row["file_name"], str(path))

    def find(self, image_id: Any, stem: str) -> tuple[str, pathlib.Path | None]:
        """Name and path of an image: by its entry in `images`, else by the name of its PNG."""
        expected = self._listed.get(image_id)
        if expected is None:
            image = self._there.get(stem)
            name = stem or str(image_id)
        else:
            # Some programs write the names of folders that are not there any more.
            places = (expected, self.folder / expected.name)
            image = next((place for place in places if place in self._files), None)
            name = self._files[image] if image else expected.relative_to(self.folder).as_posix()
        if image is not None:
            self.annotated.append(image)
        return name, image

    def bare(self, used: set[str]) -> list[sources.Problem]:
        """The images that nothing annotates."""
        return [
            sources.Problem(name, f"{self.path} does not annotate {path}")
            for name, path in self._there.items()
            if str(path) not in used
        ]


def _region(row: Mapping[str, Any], path: pathlib.Path) -> regions.Region:
    where = f"{path}: annotation {row.get('id')}"
    shape, crowd = row["segmentation"], bool(row.get("iscrowd", 0))
    if isinstance(shape, Mapping):
        height, width = (int(side) for side in shape["size"])
        counts = shape["counts"]
        runs = regions.coco_runs(counts, where) if isinstance(counts, str) else tuple(int(run) for run in counts)
        box = (0, 0, width, height)
        return regions.Region(row["category_id"], runs=runs, box=box, crowd=crowd, where=where)
    polygons = tuple(tuple(float(value) for value in polygon) for polygon in shape)
    if not polygons:
        raise ValueError(f"{where} has no polygon")
    return regions.Region(row["category_id"], polygons=polygons, crowd=crowd, where=where)


def _categories(content: Mapping[str, Any], path: pathlib.Path) -> list[Class]:
    try:
        rows = sorted(content.get("categories") or (), key=lambda row: row["id"])
        if len({row["id"] for row in rows}) < len(rows):
            raise ValueError("a category id comes twice")
        return [
            Class(
                int(row["id"]),
                str(row["name"]),
                bool(row["isthing"]) if "isthing" in row else None,
                classes.rgb(row.get("color")),
            )
            for row in rows
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: malformed categories ({error!r})") from error
