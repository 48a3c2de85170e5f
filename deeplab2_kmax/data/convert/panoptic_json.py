"""Annotations in COCO's panoptic format, one JSON file and one PNG per image -> records: what all such data sets share.

Each data set decides where its images lie, how an annotation finds its image, and what its categories become.
"""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import files, segments

CLASSES = pathlib.Path(__file__).parent.parent / "classes"


class Item(NamedTuple):
    """One image with its annotation, where it has one."""

    name: str
    image: str
    label: str | None = None
    segments: tuple[segments.Segment, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """What it is read from."""
        return (self.image,) if self.label is None else (self.image, self.label)


class Annotation(NamedTuple):
    """An entry of `annotations`, as it stands there."""

    image_id: Any
    file_name: str
    segments_info: Any


def read(path: pathlib.Path) -> dict[str, Any]:
    """The content of an annotation file; `annotations` becomes a list of `Annotation`.

    Raises:
        ValueError: it is no such file.
    """
    try:
        content = json.loads(path.read_text())
        rows = [
            Annotation(row.get("image_id"), row["file_name"], row["segments_info"]) for row in content["annotations"]
        ]
        if not all(isinstance(row.file_name, str) for row in rows):
            raise ValueError("a file_name that is no text")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a panoptic annotation file of COCO's format ({error!r})") from error
    return {**content, "annotations": rows}


def by_file_name(annotation: Annotation) -> str:
    """The image's name is that of the PNG without its ending."""
    return pathlib.PurePosixPath(annotation.file_name).stem


def by_image_id(annotation: Annotation) -> str:
    """The image's name is its id."""
    return str(annotation.image_id)


def items(
    images: Mapping[str, pathlib.Path],
    panoptic_json: pathlib.Path,
    panoptic_dir: pathlib.Path,
    *,
    key: Callable[[Annotation], str] = by_file_name,
    where: str | pathlib.Path,
) -> list[Item]:
    """Images with their annotations, in the order of the images.

    Args:
        images: name of an image -> its path.
        panoptic_json: annotates exactly these images.
        panoptic_dir: folder of the PNGs.
        key: annotation -> name of its image.
        where: the place of the images, for messages.

    Raises:
        ValueError: a file that is missing or malformed, or images and annotations that do not match.
    """
    rows = read(panoptic_json)["annotations"]
    annotations = {key(row): row for row in rows}
    if len(annotations) < len(rows):
        raise ValueError(f"{panoptic_json}: an image is annotated twice")
    if missing := sorted(set(annotations) - set(images)):
        raise ValueError(f"{panoptic_json}: {len(missing)} images are not in {where}, the first is {missing[0]}")
    if bare := sorted(set(images) - set(annotations)):
        raise ValueError(f"{panoptic_json} does not annotate {len(bare)} images of {where}, the first is {bare[0]}")
    return [item(name, path, annotations[name], panoptic_json, panoptic_dir) for name, path in images.items()]


def item(
    name: str, image: pathlib.Path, annotation: Annotation, panoptic_json: pathlib.Path, panoptic_dir: pathlib.Path
) -> Item:
    """One image with its annotation, whose PNG must be a file of `panoptic_dir`."""
    label = files.inside(panoptic_dir, annotation.file_name, str(panoptic_json))
    return Item(name, str(image), str(label), segments.read_segments(annotation.segments_info, name))


def images_of(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The images of one folder by name without ending, sorted by path."""
    return {path.stem: path for path in files.images(folder)}


def unlabelled(images: Mapping[str, pathlib.Path]) -> list[Item]:
    """Images without annotations."""
    return [Item(name, str(path)) for name, path in images.items()]


@functools.cache
def categories(classes: str, key: str = "eval_id", *, without: Iterable[int] = ()) -> Mapping[int, segments.Category]:
    """Category id -> class, from the file of classes; `key` names the column of the category ids."""
    rows = json.loads((CLASSES / f"{classes}.json").read_text())
    return {row[key]: segments.Category(row["id"], row["thing"]) for row in rows if row["id"] not in without}


def encode(
    item: Item,
    *,
    categories: Mapping[int, segments.Category],
    ignore_label: int,
    label_divisor: int,
    treat_crowd_as_ignore: bool = True,
    check_area: bool = True,
    label_format: str = example.RAW,
) -> bytes:
    """Reads an image with its annotation and serialises it; the rules are those of `segments.to_panoptic`."""
    label = None
    if item.label is not None:
        label = segments.to_panoptic(
            files.read_map(item.label, channels=3),
            item.segments,
            categories,
            ignore_label=ignore_label,
            label_divisor=label_divisor,
            where=item.label,
            treat_crowd_as_ignore=treat_crowd_as_ignore,
            check_area=check_area,
        )
    image = pathlib.Path(item.image).read_bytes()
    return example.encode_example(image, label, filename=item.name, label_format=label_format)
