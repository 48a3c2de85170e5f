"""What can be wrong with data, by kind."""

from __future__ import annotations

from typing import NamedTuple

KINDS = {  # in the order of reports
    "outside": "a path that leads out of its folder; not read",
    "missing": "a file or entry that is not there",
    "manifest": "shards and their manifest disagree",
    "shard_cut": "a shard that ends too soon or has another size",
    "shard_empty": "a shard without records",
    "checksum": "bytes that changed since they were written",
    "record": "a record that cannot be parsed, or lacks a feature",
    "image_unreadable": "an image or map that cannot be decoded",
    "image_huge": "an image with more pixels than allowed",
    "sides_swapped": "height and width exchanged, as by an EXIF orientation",
    "size": "image, map and what is said of them differ in size",
    "duplicate_id": "an image or segment id that comes twice",
    "malformed": "an entry that is not in the format",
    "wrong_dataset": "records of another data set, by their manifest or labels",
    "label_range": "a class that the data set does not have",
    "no_instance": "a thing without an instance id",
    "stuff_instance": "stuff with an instance id",
    "two_classes": "a segment with two classes",
    "ids_differ": "segments of the JSON and ids of the PNG disagree",
    "area": "a segment with another area than the JSON says",
    "empty": "an image on which nothing is annotated",
}


class Problem(NamedTuple):
    """One thing that is wrong."""

    kind: str  # of KINDS
    file: str
    id: str  # of the record, image or segment; "" for the file itself
    text: str


class Checked(NamedTuple):
    """What a check has seen."""

    problems: list[Problem]
    num_files: int = 0
    num_images: int = 0
