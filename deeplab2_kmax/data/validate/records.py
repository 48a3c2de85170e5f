"""Records: their features, images and labels."""

from __future__ import annotations

import collections
import io
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import NamedTuple, Union

import numpy as np
from PIL import Image

from deeplab2_kmax.data import datasets, example
from deeplab2_kmax.data.validate import shards, whose
from deeplab2_kmax.data.validate.problems import Checked, Problem

Features = dict[str, Union[bytes, int]]

_LABEL_KINDS = ("label_range", "no_instance", "stuff_instance")


class Rules(NamedTuple):
    """What is expected."""

    dataset: datasets.Dataset | None = None  # None: labels are not looked at
    has_labels: bool = True
    allow_crowd: bool = False  # things without instance id are meant
    max_pixels: int = 100_000_000


class File(NamedTuple):
    """What one shard holds."""

    problems: list[Problem]
    names: list[str]  # of the images, by record; in a video after that of the sequence
    traits: set[whose.Trait]  # of all labels
    num_bad: int = 0  # records whose labels do not fit the data set


def check_file(shard: shards.Shard, *, rules: Rules) -> File:
    """Reads a shard from end to end."""
    problems: list[Problem] = []
    names: list[str] = []
    traits: set[whose.Trait] = set()
    num_bad = 0
    empty_shards = rules.dataset is not None and rules.dataset.empty_shards
    sure = shards.check(shard, problems, allow_empty=empty_shards)
    count = 0
    for number, data in shards.records(shard.path, problems, sure=sure):
        count += 1
        found: list[tuple[str, str]] = []
        name, sequence = _check(data, rules, found, traits)
        names.append(f"{sequence}/{name}" if sequence and name else name)
        record = f"record {number}" + (f" ({name})" if name else "")
        problems += [Problem(kind, shard.path, record, text) for kind, text in found]
        num_bad += any(kind in _LABEL_KINDS for kind, _ in found)
    if sure and shard.entry is not None and count != shard.entry["records"]:
        told = f"{count} records, but the manifest says {shard.entry['records']}"
        problems.append(Problem("manifest", shard.path, "", told))
    return File(problems, names, traits, num_bad)


def join(files: Sequence[shards.Shard], found: Sequence[File], dataset: datasets.Dataset | None = None) -> Checked:
    """All shards of one data set together: image names must differ, and labels be of that data set."""
    problems = [problem for one in found for problem in one.problems]
    if dataset is not None and files:
        problems += whose.check(
            set().union(*(one.traits for one in found)),
            dataset,
            where=os.path.dirname(files[0].path) or ".",
            num_bad=sum(one.num_bad for one in found),
            num_records=sum(len(one.names) for one in found),
            sources=[shard.entry.get("source") or {} for shard in files if shard.entry is not None],
        )
    places: dict[str, list[str]] = collections.defaultdict(list)
    for shard, one in zip(files, found):
        for number, name in enumerate(one.names):
            if name:
                places[name].append(f"{shard.path}, record {number}")
    for name, where in places.items():
        if len(where) > 1:
            problems.append(Problem("duplicate_id", where[0].split(", record")[0], name, f"also in {where[1]}"))
    return Checked(problems, len(files), sum(len(one.names) for one in found))


def _check(data: bytes, rules: Rules, found: list[tuple[str, str]], traits: set[whose.Trait]) -> tuple[str, str]:
    """Appends (kind, text) of what is wrong with a record, and what its labels tell; names of image and sequence."""
    try:
        features = example.parse(data)
        name = _text(features, example.FILENAME)
    except (ValueError, RecursionError) as error:
        found.append(("record", f"cannot be parsed: {error}"))
        return "", ""
    if not name:
        found.append(("record", f"{example.FILENAME} is missing"))
    elif pathlib.PurePosixPath(name).is_absolute() or ".." in pathlib.PurePosixPath(name).parts:
        found.append(("outside", f"the image's name {name!r} would lead out of a folder of predictions"))
    cameras = [key[len(example.IMAGE) + 1 :] for key in features if key.startswith(f"{example.IMAGE}/")]
    for camera in sorted(cameras) or [""]:
        _check_view(features, camera, rules, found, traits)
    return name, _text(features, example.SEQUENCE_ID)


def _check_view(
    features: Features, camera: str, rules: Rules, found: list[tuple[str, str]], traits: set[whose.Trait]
) -> None:
    """One camera's share of a record."""

    def get(key: str) -> Union[bytes, int, None]:
        return features.get(example.camera_key(key, camera) if camera else key)

    size = (get(example.HEIGHT), get(example.WIDTH))
    if not all(isinstance(side, int) and side > 0 for side in size):
        found.append(("record", f"{example.HEIGHT} or {example.WIDTH} is missing"))
        return
    height, width = int(size[0] or 0), int(size[1] or 0)
    if get(example.IMAGE) is None:
        found.append(("record", f"{example.IMAGE} is missing"))
    if rules.has_labels and get(example.LABEL) is None:
        found.append(("record", f"{example.LABEL} is missing"))
    if height * width > rules.max_pixels:
        found.append(("image_huge", f"{height} x {width} pixels, more than {rules.max_pixels / 1e6:g} millions"))
        return
    for key in (example.IMAGE, example.PREV_IMAGE, example.NEXT_IMAGE):
        encoded = get(key)
        if isinstance(encoded, bytes):
            found += check_image(encoded, (height, width), key)
    for key in (
        *(example.LABEL, example.PREV_LABEL, example.NEXT_LABEL),
        *(example.DEPTH, example.NORMALS, example.NUM_CAMERAS),
    ):
        encoded = get(key)
        if not isinstance(encoded, bytes):
            continue
        divisor = rules.dataset.label_divisor if rules.dataset else 1
        map_format = _text(features, example.format_key(key)) or example.RAW
        try:
            values = example.decode_map(encoded, map_format, (height, width), class_scale=divisor)
        except ValueError as error:
            found.append(("size" if map_format == example.RAW else "image_unreadable", f"{key}: {error}"))
            continue
        if rules.dataset is not None and key in (example.LABEL, example.PREV_LABEL, example.NEXT_LABEL):
            # A PNG of classes has no instances.
            crowd = rules.allow_crowd or map_format == example.PNG
            ids, counts = np.unique(values, return_counts=True)
            traits |= whose.traits(ids)
            found += check_label(ids, counts, rules.dataset, key, allow_crowd=crowd)


def check_image(encoded: bytes, size: tuple[int, int], what: str) -> list[tuple[str, str]]:
    """Decodes an image and compares its size (height, width)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded)) as image:
                stored = (image.height, image.width)
                if stored != size:
                    return [(size_kind(stored, size), f"{what} is {_by(stored)}, but the record says {_by(size)}")]
                image.load()
                if image.format not in ("JPEG", "PNG"):
                    return [("image_unreadable", f"{what} is {image.format}, expected JPEG or PNG")]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return [("image_unreadable", f"{what}: {error}")]
    return []


def size_kind(one: tuple[int, int], other: tuple[int, int]) -> str:
    """How two sizes differ."""
    return "sides_swapped" if one == other[::-1] else "size"


def check_label(
    ids: np.ndarray, counts: np.ndarray, dataset: datasets.Dataset, what: str, *, allow_crowd: bool = False
) -> list[tuple[str, str]]:
    """The panoptic ids of a label with their pixel counts, [N] each, against the classes of a data set."""
    found = []
    classes = ids // dataset.label_divisor
    ignored = classes == dataset.ignore_label
    known = ignored | ((classes >= 0) & (classes < dataset.num_classes))
    for number, count in zip(ids[~known].tolist(), counts[~known].tolist()):
        class_id = number // dataset.label_divisor
        told = f"{count} pixels have id {number}, class {class_id}; {dataset.name} has 0 to {dataset.num_classes - 1}"
        found.append(("label_range", f"{what}: {told} and {dataset.ignore_label} for void"))
    if ignored.all():
        found.append(("empty", f"{what}: all pixels are void"))
    numbered = ids % dataset.label_divisor != 0
    things = np.isin(classes, dataset.thing_ids)
    if not allow_crowd:
        for number, count in _few(ids, counts, things & known & ~ignored & ~numbered):
            name = dataset.class_names[number // dataset.label_divisor]
            found.append(("no_instance", f"{what}: {count} pixels of the thing {name} have id {number}, instance 0"))
    for number, count in _few(ids, counts, ~things & known & ~ignored & numbered):
        name = dataset.class_names[number // dataset.label_divisor]
        told = f"{count} pixels of the stuff {name} have id {number}, instance {number % dataset.label_divisor}"
        found.append(("stuff_instance", f"{what}: {told}"))
    return found


def _few(ids: np.ndarray, counts: np.ndarray, chosen: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(ids[chosen].tolist(), counts[chosen].tolist()))


def _text(features: Features, key: str) -> str:
    value = features.get(key, b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
