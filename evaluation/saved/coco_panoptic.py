"""The COCO panoptic format: a JSON file with the segments of every image, and PNGs whose colours are their ids.

An id is R + 256 G + 65536 B.

Cityscapes, ADE20K and Mapillary Vistas publish it too. What the official tool refuses is refused here: segments that
stand in the PNG or in the JSON alone, unknown categories, crowds of stuff.

In the official tool only the last crowd of a category (in JSON order) excuses false positives. So the others become
crowds of a class of their own at the end, `hidden_class`: they can neither be matched nor missed, and excuse nothing.
"""

from __future__ import annotations

import collections
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image

from deeplab2_kmax import labels
from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import files
from evaluation.saved import sides

LABEL_DIVISOR = 65536
_NUM_IDS = 2**24


class File(NamedTuple):
    """The JSON file of a set of panoptic PNGs."""

    path: pathlib.Path
    content: dict[str, Any]
    annotations: dict[Any, dict]  # image id: its annotation


def describe(
    path: pathlib.Path, categories: pathlib.Path | None = None, like: datasets.Dataset | None = None
) -> tuple[datasets.Dataset, int]:
    """The data set that a ground truth has, and its hidden class.

    Classes are numbered from 1 in the order of the categories, void is 0.

    Args:
        path: the JSON file, or a folder that holds one.
        categories: JSON list of the categories, where the ground truth does not have them.
        like: data set by whose rules it is scored; its classes serve where there are no categories.

    Raises:
        ValueError: files that are missing or not in the format.
    """
    file = load(path)
    table = sides.read_json(categories) if categories else file.content.get("categories")
    if table is None and like is not None:
        table = [
            {
                "id": like.eval_ids[i],
                "name": like.class_names[i],
                "isthing": i in like.thing_ids,
                "color": like.colors[i],
            }
            for i in range(like.num_classes)
            if i != like.ignore_label
        ]
    where = categories or file.path
    if not isinstance(table, list) or not table:
        raise ValueError(f"{where} has no list 'categories', so give a JSON file of them (id, name, isthing).")
    if not all(isinstance(category, dict) and isinstance(category.get("id"), int) for category in table):
        raise ValueError(f"{where}: expected categories with an 'id' each.")
    table = [{"name": str(c["id"]), "isthing": 1, "color": [128, 128, 128], **c} for c in table]
    ids = [category["id"] for category in table]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{where}: category ids occur twice.")
    hidden_class = len(table) + 1
    dataset = datasets.Dataset(
        name=like.name if like else file.path.name,
        num_classes=len(table) + 2,
        ignore_label=0,
        label_divisor=LABEL_DIVISOR,
        thing_ids=(*(i + 1 for i, c in enumerate(table) if c["isthing"]), hidden_class),
        class_names=("void", *(str(c["name"]) for c in table), "further crowds"),
        colors=((0, 0, 0), *(tuple(c["color"]) for c in table), (0, 0, 0)),
        eval_ids=(0, *ids, 0),
    )
    return dataset, hidden_class


def side(path: pathlib.Path, context: sides.Context) -> sides.Side:
    """The images of a JSON file, or of a folder that holds one.

    The PNGs lie in the folder of the JSON's name without `.json`, or beside the JSON.
    """
    file = load(path)
    named_like_file = file.path.with_suffix("")
    folder = named_like_file if named_like_file.is_dir() else file.path.parent
    dataset = context.dataset
    void = dataset.ignore_label
    classes = {k: i for i, k in enumerate(dataset.eval_ids) if i not in (void, context.hidden_class)}
    sources = {}
    for image_id, annotation in file.annotations.items():
        where = f"{file.path}, image {image_id}"
        png = files.below(folder, annotation["file_name"], where)
        segments = annotation["segments_info"]
        picture = annotation["file_name"].rpartition(".")[0].removesuffix("_gtFine_panoptic")
        sources[str(image_id)] = sides.Source((str(png), where, segments), picture=picture)
    return sides.Side(
        str(file.path),
        sources,
        functools.partial(
            _read, dataset=dataset, classes=classes, crowds=context.is_truth, hidden_class=context.hidden_class
        ),
        max((len(a["segments_info"]) for a in file.annotations.values()), default=0),
    )


def load(path: pathlib.Path) -> File:
    """The JSON file, or the one in a folder; raises ValueError where it is not in the format."""
    if path.is_dir():
        found = sorted(path.glob("*.json"))
        if len(found) != 1:
            raise ValueError(f"{path}: expected one JSON file in the folder, found {len(found)}; name the file.")
        path = found[0]
    return _load(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=2)
def _load(path: pathlib.Path, changed: int) -> File:
    content = sides.read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise ValueError(f"{path}: expected the COCO panoptic format with a list 'annotations'.")
    annotations = {}
    for annotation in content["annotations"]:
        for key in ("image_id", "file_name", "segments_info"):
            if not isinstance(annotation, dict) or key not in annotation:
                raise ValueError(f"{path}: an annotation has no {key!r}; expected the COCO panoptic format.")
        for segment in annotation["segments_info"]:
            if not all(isinstance(segment.get(key), int) for key in ("id", "category_id")):
                raise ValueError(f"{path}, image {annotation['image_id']}: expected segments with id and category_id.")
        annotations[annotation["image_id"]] = annotation
    return File(path, content, annotations)


def _read(
    source: sides.Source,
    *,
    dataset: datasets.Dataset,
    classes: dict[int, int],
    crowds: bool,
    hidden_class: int | None,
) -> sides.Maps:
    path, where, segments = source.content
    panoptic, semantic = _labels(segments, where, dataset, classes, crowds, hidden_class)
    places, areas = _places(_ids(pathlib.Path(path)), [segment["id"] for segment in segments], where)
    if crowds:
        wrong = [s["id"] for s, area in zip(segments, areas) if s.get("area", area) != area]
        if wrong:
            logging.log_first_n(
                logging.WARNING,
                "%s: the area of segment %d is not its number of pixels; the pixels are counted, here and elsewhere.",
                1,
                where,
                wrong[0],
            )
    return {sides.PANOPTIC: panoptic[places], sides.SEMANTIC: semantic[places]}


def _labels(
    segments: Sequence[dict],
    where: str,
    dataset: datasets.Dataset,
    classes: dict[int, int],
    crowds: bool,
    hidden_class: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Panoptic label and class of no segment, of void, and of every segment: [2 + segments] int32."""
    panoptic = [dataset.void_id] * 2
    semantic = [dataset.ignore_label] * 2
    last_crowd: dict[int, int] = {}
    count: dict[int, int] = collections.Counter()
    for place, segment in enumerate(segments, start=2):
        category = segment["category_id"]
        if category not in classes:
            raise ValueError(f"{where}: segment {segment['id']} has the unknown category {category}.")
        index = classes[category]
        instance = 0
        if crowds and segment.get("iscrowd", 0):
            if index not in dataset.thing_ids:
                raise ValueError(f"{where}: segment {segment['id']} is a crowd of stuff (category {category}).")
            if index in last_crowd and hidden_class is not None:
                panoptic[last_crowd[index]] = labels.pack(hidden_class, 0, dataset.label_divisor)
            last_crowd[index] = place
        else:
            count[index] += 1
            instance = count[index]
            if instance >= dataset.label_divisor:
                raise ValueError(f"{where}: expected fewer than {dataset.label_divisor} segments of a category.")
        panoptic.append(labels.pack(index, instance, dataset.label_divisor))
        semantic.append(index)
    return np.array(panoptic, np.int32), np.array(semantic, np.int32)


def _ids(path: pathlib.Path) -> np.ndarray:
    """The segment ids [H, W] of a PNG."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").convert("RGBA"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be read as an image ({error.__class__.__name__}).") from error
    return pixels.view("<u4")[..., 0] & np.uint32(_NUM_IDS - 1)


@functools.lru_cache(maxsize=1)
def _scratch() -> np.ndarray:
    """The place of every segment id there can be: all 0 between two images. Pages that are not used cost no memory."""
    return np.zeros(_NUM_IDS, np.uint16)


def _places(ids: np.ndarray, known: Sequence[int], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids [H, W] -> place of each in `known`, plus 2, and 1 for id 0 (void); pixels of each that is known.

    Raises:
        ValueError: ids that are not known, or known ones that have no pixels.
    """
    if len(set(known)) != len(known) or (len(known) and not 0 < min(known) <= max(known) < _NUM_IDS):
        raise ValueError(f"{where}: expected segment ids from 1 to {_NUM_IDS - 1}, each once.")
    if len(known) > 65533:
        raise ValueError(f"{where}: expected at most 65533 segments, found {len(known)}.")
    table = _scratch()
    numbers = np.array([0, *known], np.int64)
    table[numbers] = np.arange(1, len(numbers) + 1)
    places = table[ids]
    table[numbers] = 0
    counts = np.bincount(places.reshape(-1), minlength=len(numbers) + 1)
    if counts[0]:
        raise ValueError(f"{where}: the PNG has segment {ids[places == 0].min()}, which is not in the JSON file.")
    absent = np.flatnonzero(counts[2:] == 0)
    if len(absent):
        raise ValueError(f"{where}: the JSON file has segment {known[absent[0]]}, which is not in the PNG.")
    return places, counts[2:]
