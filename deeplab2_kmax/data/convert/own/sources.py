"""Where images and annotations lie, and names that come from data: nothing outside the given folders is read."""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

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
                    stay(root, path)
                found.append(path)
    return sorted(found)


def below(root: pathlib.Path, name: object, where: str) -> pathlib.Path:
    """The path of a file by a name that comes from data. It need not be there.

    Raises:
        ValueError: a name that is absolute, or leads out of the folder.
    """
    if not isinstance(name, str) or not name or "\\" in name or "\0" in name:
        raise ValueError(f"{where}: {name!r} is no file name")
    pure = pathlib.PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"{where}: {name!r} leads out of {root}")
    path = root / pure
    stay(root, path, where)
    return path


def stay(root: pathlib.Path, path: pathlib.Path, where: str = "") -> None:
    """Raises a ValueError when a path leads out of a folder through links."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{where + ': ' if where else ''}{path} is a link that leads out of {root}")
