"""The label id PNGs of Cityscapes, found by `<city>_<sequence>_<frame>` as its scripts find them."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable

from evaluation.saved import label_files, sides

GROUNDTRUTH_ENDING = "_gtFine_labelIds.png"
_NAME = re.compile(r"(?P<image>[^_]+_\d+_\d+)(_.*)?\.[a-z]+")


def label_ids(path: pathlib.Path, context: sides.Context) -> sides.Side:
    """PNGs of one channel with the ids of labels: `*_gtFine_labelIds.png`; a prediction may be named otherwise."""
    context = context._replace(evaluation_ids=True)
    files = sides.tree(path, [GROUNDTRUTH_ENDING if context.is_truth else ".png"])
    sources = {name: sides.Source((str(path / file), None)) for name, file in images(path, files).items()}
    return label_files.classes(str(path), sources, context)


def images(folder: pathlib.Path, paths: Iterable[pathlib.Path]) -> dict[str, pathlib.Path]:
    """`<city>_<sequence>_<frame>` of files -> the file.

    Raises:
        ValueError: a file of another name, or two of one image.
    """
    found: dict[str, pathlib.Path] = {}
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if not match:
            raise ValueError(f"{folder / path}: expected <city>_<sequence>_<frame>*{path.suffix} as its name.")
        other = found.setdefault(match["image"], path)
        if other != path:
            raise ValueError(f"{folder}: {other} and {path} are both of image {match['image']}.")
    return found
