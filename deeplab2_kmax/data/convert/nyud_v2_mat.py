"""The MATLAB files in which NYUD-v2 is published.

`nyu_depth_v2_labeled.mat` is an HDF5 file (read by h5py, which TensorFlow brings along) with images, depths and labels
of 894 kinds. The split (`trainNdxs`, `testNdxs`) and the map to 40 classes (`mapClass`) are older MATLAB files, read by
SciPy.
"""

from __future__ import annotations

import functools
import io
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Place(NamedTuple):
    """Where one image lies."""

    labeled_mat: str
    number: int  # from 1
    class_map_mat: str


def splits(labeled_mat: pathlib.Path, splits_mat: pathlib.Path) -> dict[str, list[int]]:
    """Split -> numbers of its images, from 1, ascending.

    Raises:
        ValueError: a file that is malformed, or numbers that the data set does not have.
    """
    num_images = len(_open(str(labeled_mat))["images"])
    content = _load(str(splits_mat))
    found = {}
    for split in ("train", "test"):
        numbers = sorted(int(number) for number in np.ravel(_variable(content, f"{split}Ndxs", splits_mat)))
        if not numbers or len(set(numbers)) < len(numbers) or not 1 <= numbers[0] <= numbers[-1] <= num_images:
            raise ValueError(f"{splits_mat}: {split}Ndxs must be different numbers from 1 to {num_images}")
        found[split] = numbers
    return found


def read(place: Place) -> tuple[bytes, np.ndarray, np.ndarray]:
    """One image as a PNG, its classes (0 for void, 1 to 40) and its depth in metres, [H, W].

    Raises:
        ValueError: a label that the map to 40 classes does not know.
    """
    content, index = _open(place.labeled_mat), place.number - 1
    # MATLAB stores columns first: [3, W, H] and [W, H].
    pixels, labels = np.asarray(content["images"][index]).T, np.asarray(content["labels"][index]).T
    class_map = _class_map(place.class_map_mat)
    if labels.max() >= len(class_map):
        raise ValueError(f"{place.class_map_mat} maps {len(class_map) - 1} labels, but there is label {labels.max()}")
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=6)
    return file.getvalue(), class_map[labels], np.asarray(content["depths"][index]).T


@functools.lru_cache(maxsize=1)
def _open(path: str) -> Any:
    import h5py

    try:
        content = h5py.File(path, "r")
        shapes = {name: content[name].shape for name in ("images", "depths", "labels")}
    except (KeyError, AttributeError, OSError) as error:
        raise ValueError(f"{path}: expected a MATLAB 7.3 file with images, depths and labels ({error})") from error
    count, _, width, height = shapes["images"] if len(shapes["images"]) == 4 else (0,) * 4
    if shapes["depths"] != (count, width, height) or shapes["labels"] != (count, width, height) or not count:
        raise ValueError(f"{path}: images, depths and labels have shapes that do not fit: {shapes}")
    return content


@functools.lru_cache(maxsize=1)
def _class_map(path: str) -> np.ndarray:
    """Label -> class; label 0, void, stays."""
    numbers = np.ravel(_variable(_load(path), "mapClass", path)).astype(np.int32)
    return np.concatenate([[0], numbers]).astype(np.int32)


def _load(path: str) -> dict[str, Any]:
    try:
        from scipy import io as scipy_io
    except ImportError as error:
        raise ValueError(f"{path}: SciPy is needed to read it: pip install scipy") from error
    try:
        return scipy_io.loadmat(path)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a MATLAB file of version 5 to 7 ({error})") from error


def _variable(content: dict[str, Any], name: str, path: str | pathlib.Path) -> Any:
    if name not in content:
        raise ValueError(f"{path} has no variable {name}")
    return content[name]
