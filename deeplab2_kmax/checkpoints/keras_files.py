"""Weights of Keras models as numpy arrays: `.h5` files and `.keras` archives, of Keras 2 and 3.

Names come out as "layer/variable", "conv1_conv/kernel", alike for all versions: in small letters and with underscores,
as Keras 3 spells the layers of its applications, and every kernel is called kernel. Only numbers are read, and from an
archive the names of its layers: no layer is made from what a file says, so a lambda in it is never run. The file's own
datasets are read, uncompressed ones; links to other places, virtual datasets and filters are refused, because they lead
out of the file or unfold to any size.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_LONGEST_CONFIG = 16 * 2**20
_DEEPEST = 16  # groups within groups; layers with slashes in their names make some

# The variables of layers, in the order in which archives number them.
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_VARIABLES: dict[str, tuple[str, ...]] = {
    "BatchNormalization": _NORM,
    "Conv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "DepthwiseConv2D": ("kernel", "bias"),
    "LayerNormalization": ("gamma", "beta"),
    "LayerScale": ("gamma",),
}
# What reading a damaged file may raise.
_DAMAGE = (
    *(OSError, ValueError, TypeError, AttributeError, ArithmeticError, EOFError, LookupError, MemoryError),
    *(RuntimeError, struct.error, zipfile.BadZipFile),
)


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads what `model.save` or, as `.h5`, `model.save_weights` wrote.

    Raises:
        ValueError: the file is damaged, is not of Keras, or has what these files never have.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        if content[:4] == b"PK\x03\x04":
            return _parse_archive(content)
        datasets = _datasets(content)
        if any(name.startswith(("layers/", "_layer_checkpoint_dependencies/")) for name in datasets):
            raise ValueError("it does not name its layers: write it by model.save('....keras')")
        return _by_name({_legacy_name(name): name for name in datasets}, datasets)
    except _DAMAGE as error:
        raise ValueError(f"{os.fspath(path)} is not a Keras file that can be read safely: {error}") from error


def _parse_archive(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        for name in (_CONFIG, _WEIGHTS):
            if name not in infos:
                raise ValueError(f"the archive has no member {name}")
            # Keras stores; a compressed member could unfold to any size.
            if infos[name].compress_type != zipfile.ZIP_STORED or infos[name].file_size > len(content):
                raise ValueError(f"member {name} is compressed")
        if infos[_CONFIG].file_size > _LONGEST_CONFIG:
            raise ValueError(f"member {_CONFIG} has more than {_LONGEST_CONFIG} bytes")
        config = json.loads(archive.read(_CONFIG))
        datasets = _datasets(archive.read(_WEIGHTS))
    variables = dict(_layers(config, ""))
    names = {}
    for name in datasets:
        place, _, number = name.rpartition("/vars/")
        layer, kind = variables.get(place, (place, ""))
        known = _VARIABLES.get(kind, ())
        variable = known[int(number)] if number.isdecimal() and int(number) < len(known) else number
        names[f"{_spelled(layer)}/{variable}"] = name
    return _by_name(names, datasets)


def _layers(config: Any, prefix: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Where the variables of every layer lie in the archive -> the layer's name and class.

    The place is the class in small letters, and a number for all but the first of a kind.
    """
    counts: dict[str, int] = {}
    for entry in config["config"]["layers"]:
        kind, inner = entry["class_name"], entry["config"]
        if not isinstance(kind, str) or not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise ValueError(f"{_CONFIG} describes a layer without a name")
        stem = re.sub(
            "([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
        ).lower()
        number = counts[stem] = counts.get(stem, -1) + 1
        place = f"{prefix}layers/{stem}" + (f"_{number}" if number else "")
        if isinstance(inner.get("layers"), list):
            yield from _layers(entry, f"{place}/")
        else:
            yield place, (inner["name"], kind)


def _legacy_name(name: str) -> str:
    """ "layer/layer/kernel:0", "layer/inner/kernel:0" or "model_weights/layer/layer/inner/kernel" -> one name."""
    *layers, variable = name.removeprefix("model_weights/").removesuffix(":0").split("/")
    half = len(layers) // 2
    if layers[:half] == layers[half:]:
        layers = layers[half:]
    else:
        layers = layers[-1:]  # a layer in a layer
    layer = _spelled("/".join(layers))
    if layer.endswith("_layer_scale"):
        variable = "gamma"
    return f"{layer}/{variable.removeprefix('depthwise_')}"


def _spelled(layer: str) -> str:
    """A layer's name as Keras 3 spells it: "expanded_conv/project/BatchNorm" -> "expanded_conv_project_bn"."""
    return layer.replace("/BatchNorm", "_bn").replace("/", "_").lower()


def _by_name(names: Mapping[str, str], datasets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if len(names) != len(datasets):
        raise ValueError("two of its variables have the same name")
    return {name: datasets[place] for name, place in names.items()}


def _datasets(content: bytes) -> dict[str, np.ndarray]:
    """Every dataset of an HDF5 file by its path. Attributes are not read."""
    import h5py  # TensorFlow brings it

    if content[:8] != b"\x89HDF\r\n\x1a\n":
        raise ValueError("it does not begin as HDF5 does")
    found: dict[str, np.ndarray] = {}
    with h5py.File(io.BytesIO(content), "r") as file:
        left = len(content)
        for name, dataset in _walk(h5py, file, "", set()):
            left -= _checked_size(name, dataset)
            if left < 0:
                raise ValueError("its datasets are larger than the file")
            found[name] = dataset[()]
    return found


def _walk(h5py: Any, group: Any, prefix: str, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    if prefix.count("/") > _DEEPEST:
        raise ValueError("its groups lie too deep")
    for key in group:
        name = prefix + key
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link to another place")
        child = group[key]
        place = h5py.h5o.get_info(child.id).addr
        if place in seen:
            raise ValueError(f"{name} is reached in two ways")
        seen.add(place)
        if isinstance(child, h5py.Group):
            yield from _walk(h5py, child, f"{name}/", seen)
        elif isinstance(child, h5py.Dataset):
            yield name, child
        else:
            raise ValueError(f"{name} is neither a group nor a dataset")


def _checked_size(name: str, dataset: Any) -> int:
    """Bytes of a plain dataset of numbers, all of which lie in the file."""
    if dataset.dtype.kind not in "fiu" or dataset.shape is None:
        raise ValueError(f"{name} does not hold numbers")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} takes its numbers from another file")
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{name} is compressed")
    size = dataset.size * dataset.dtype.itemsize
    if dataset.id.get_storage_size() != size:
        raise ValueError(f"{name} says that it has {size} bytes, but {dataset.id.get_storage_size()} are stored")
    return size
