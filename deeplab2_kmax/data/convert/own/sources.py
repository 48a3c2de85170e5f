"""Where images and annotations lie; nothing outside the given folders is read."""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

from deeplab2_kmax.data.convert import files

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class Source(NamedTuple):
    """One split, or all images before they are split."""

    images: pathlib.Path  # folder
    annotations: pathlib.Path  # file or folder
    second: pathlib.Path | None = None  # folder: PNGs of a panoptic JSON file, or class maps beside instance maps


class Problem(NamedTuple):
    """Something wrong with one image or its annotation."""

    name: str  # of the image or file
    text: str
    lost: bool = True  # the image cannot be used
    image: str = ""  # its path, where it is an image that was found


def images(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The pictures of a folder and its subfolders, by name: the path below it without the ending; sorted.

    Raises:
        ValueError: no pictures, two with one name, or a link that leads out of the folder.
    """
    found: dict[str, pathlib.Path] = {}
    for path in walk(root, SUFFIXES):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in found:
            raise ValueError(f"{root} holds several images named {name}: {found[name].name}, {path.name}")
        found[name] = path
    if not found:
        raise ValueError(f"{root} holds no images ({', '.join(SUFFIXES)})")
    return found


def walk(root: pathlib.Path, suffixes: tuple[str, ...]) -> list[pathlib.Path]:
    """The files of a folder and its subfolders with one of these endings, sorted; hidden ones are left out."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = pathlib.Path(folder, name)
            if path.suffix.lower() in suffixes and not name.startswith("."):
                if path.is_symlink():
                    files.stay(root, path)
                found.append(path)
    return sorted(found)
