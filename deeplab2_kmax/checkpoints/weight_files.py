"""Files of weights that other libraries write, told apart by how they begin."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from deeplab2_kmax.checkpoints import keras_files, safetensors, torch_pickle

ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".h5", ".keras")
_LONGEST_NAME = 500


def is_weight_file(path: str) -> bool:
    """Whether a path names such a file, rather than a checkpoint of TensorFlow."""
    return path.endswith(ENDINGS) or os.path.isfile(path)


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all tensors of a file by name. Code in it is never run.

    Raises:
        ValueError: the file is damaged, of another kind, or does what files of weights never do.
    """
    tensors = _load(path)
    longest = max(map(len, tensors), default=0)
    if longest > _LONGEST_NAME:
        raise ValueError(f"{os.fspath(path)} is no file of weights: a name in it has {longest} characters.")
    return tensors


def _load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        start = file.read(16)
        if start.startswith(b"\x89HDF"):
            return keras_files.load(path)
        if start.startswith(b"PK\x03\x04"):
            return keras_files.load(path) if _has_keras_config(path) else torch_pickle.load_state_dict(path)
    if start[8:9] == b"{":
        return safetensors.load(path)
    if start.startswith(b"\x80"):
        return torch_pickle.load_state_dict(path)
    raise ValueError(
        f"{os.fspath(path)} is no file of weights that is known here: it begins with {start[:8]!r}; expected one of "
        f"{', '.join(ENDINGS)}, as PyTorch, safetensors and Keras write them."
    )


def _has_keras_config(path: str | os.PathLike[str]) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return os.fspath(path).endswith(".keras")
