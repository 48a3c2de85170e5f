"""Segments of COCO's panoptic format -> one panoptic id per pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np


class Segment(NamedTuple):
    """An entry of `segments_info`."""

    id: int
    category_id: int
    area: int
    iscrowd: bool


class Category(NamedTuple):
    """What a category becomes."""

    class_id: int
    is_thing: bool


def read_segments(entries: Iterable[Mapping], where: str) -> tuple[Segment, ...]:
    """The `segments_info` of an annotation.

    Raises:
        ValueError: a missing or malformed field, or an id that comes twice or does not fit into 24 bits.
    """
    try:
        segments = tuple(
            Segment(int(e["id"]), int(e["category_id"]), int(e["area"]), bool(e.get("iscrowd", 0))) for e in entries
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where}: a segment lacks id, category_id or area as numbers ({error!r})") from error
    ids = [segment.id for segment in segments]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{where}: a segment id comes twice")
    for number in ids:
        if not 0 < number < 2**24:
            raise ValueError(f"{where}: segment id {number} does not lie between 1 and 2^24 - 1")
    return segments


def to_panoptic(
    pixels: np.ndarray,
    segments: Iterable[Segment],
    categories: Mapping[int, Category],
    *,
    ignore_label: int,
    label_divisor: int,
    where: str,
    treat_crowd_as_ignore: bool = True,
    check_area: bool = True,
    instances: Mapping[int, int] | None = None,
) -> np.ndarray:
    """Panoptic ids [H, W] int32 of one image.

    Instances count from 1 per class in the order of the list. Crowd regions of things have instance 0 and, with
    `treat_crowd_as_ignore`, the ignore label. Pixels of no listed segment are void.

    Args:
        pixels: [H, W, 3] uint8, segment id = R + 256 G + 65536 B.
        segments: what the annotation lists.
        categories: category id -> class.
        ignore_label, label_divisor: of the panoptic ids.
        where: the image, for error messages.
        treat_crowd_as_ignore: see above.
        check_area: compare the listed areas with the pixels.
        instances: numbers of the things by segment id, for tracks that last through a video, instead of counting.

    Raises:
        ValueError: an unknown category, a wrong area, crowd on stuff, or more instances than the divisor holds.
    """
    segment_ids = pixels.astype(np.int64) @ np.array([1, 256, 65536])
    present, places, counts = np.unique(segment_ids, return_inverse=True, return_counts=True)
    area_of = dict(zip(present.tolist(), counts.tolist()))
    label_of: dict[int, int] = {}
    num_instances: dict[int, int] = {}
    for segment in segments:
        if segment.category_id not in categories:
            raise ValueError(f"{where}: segment {segment.id} has the unknown category {segment.category_id}")
        class_id, is_thing = categories[segment.category_id]
        area = area_of.get(segment.id, 0)
        if check_area and area != segment.area:
            raise ValueError(f"{where}: segment {segment.id} has {area} pixels, but the JSON says {segment.area}")
        instance = 0
        if segment.iscrowd:
            if not is_thing:
                raise ValueError(f"{where}: segment {segment.id} is stuff (class {class_id}), but marked as crowd")
            class_id = ignore_label if treat_crowd_as_ignore else class_id
        elif is_thing:
            instance = num_instances[class_id] = num_instances.get(class_id, 0) + 1
            if instances is not None:
                instance = instances[segment.id]
            if instance >= label_divisor:
                raise ValueError(
                    f"{where}: class {class_id} has {instance} instances or more, but the label divisor is "
                    f"{label_divisor}"
                )
        label_of[segment.id] = class_id * label_divisor + instance
    void = ignore_label * label_divisor
    table = np.array([label_of.get(number, void) for number in present.tolist()], np.int32)
    return table[places].reshape(segment_ids.shape)
