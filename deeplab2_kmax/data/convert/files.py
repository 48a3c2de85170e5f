"""Finding and reading the files of a raw data set."""

from __future__ import annotations

import pathlib

import numpy as np
from PIL import Image

IMAGES = (".jpg", ".jpeg", ".png")


def folder(path: str, flag: str) -> pathlib.Path:
    """The folder that a flag names, or a ValueError when it is missing."""
    if not path:
        raise ValueError(f"--{flag} is missing; see --help")
    if not pathlib.Path(path).is_dir():
        raise ValueError(f"--{flag}: there is no folder {path}")
    return pathlib.Path(path)


def file(path: str, flag: str) -> pathlib.Path:
    """The file that a flag names, or a ValueError when it is missing."""
    if not path:
        raise ValueError(f"--{flag} is missing; see --help")
    if not pathlib.Path(path).is_file():
        raise ValueError(f"--{flag}: there is no file {path}")
    return pathlib.Path(path)


def images(where: pathlib.Path) -> list[pathlib.Path]:
    """The JPEG and PNG files of a folder, sorted by name.

    Raises:
        ValueError: no folder, no images, or two images that differ in their ending alone.
    """
    if not where.is_dir():
        raise ValueError(f"there is no folder {where}")
    found = sorted(path for path in where.iterdir() if path.suffix.lower() in IMAGES and path.is_file())
    if not found:
        raise ValueError(f"{where} holds no {', '.join(IMAGES)} files")
    stems = [path.stem for path in found]
    twice = {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else set()
    if twice:
        raise ValueError(f"{where} holds several images named {min(twice)}")
    return found


def inside(where: pathlib.Path, name: str, what: str) -> pathlib.Path:
    """A file of a folder by a name that comes from data: it must be a plain name of a file that is there."""
    if not name or pathlib.PurePosixPath(name).name != name or "\\" in name or name in (".", ".."):
        raise ValueError(f"{what}: {name!r} is not a plain file name")
    path = where / name
    if not path.is_file():
        raise ValueError(f"{what}: there is no file {path}")
    return path


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


def read_map(path: str | pathlib.Path, *, channels: int) -> np.ndarray:
    """A label PNG as [H, W] (channels 1, palette indices as they are) or [H, W, 3] uint8.

    Raises:
        ValueError: it cannot be read or has another kind of pixels.
    """
    try:
        with Image.open(path) as image:
            expected = ("L", "P") if channels == 1 else ("RGB",)
            if image.mode not in expected:
                raise ValueError(f"{path}: expected a PNG of mode {' or '.join(expected)}, found {image.mode}")
            return np.array(image)
    except OSError as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


def read_integers(path: str | pathlib.Path) -> np.ndarray:
    """A PNG of one channel with 8 or 16 bits (palette indices as they are): [H, W] int32.

    Raises:
        ValueError: it cannot be read or has several channels.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "1") and not image.mode.startswith("I"):
                raise ValueError(f"{path}: expected a PNG of one channel, 8 or 16 bits, found mode {image.mode}")
            return np.array(image).astype(np.int32)
    except OSError as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


def read_rgb(path: str | pathlib.Path) -> np.ndarray:
    """A PNG of any kind as colours: [H, W, 3] uint8.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


def size(path: str | pathlib.Path) -> tuple[int, int]:
    """(height, width) of the stored pixels, from the head of the file.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


def mode(path: str | pathlib.Path) -> str:
    """Pillow's mode of an image: RGB, L, P, ...

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.mode
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error
