"""Reading checkpoints: DeepLab2's by a table of names, and whatever a training run starts from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab2_kmax import registry
from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import name_maps
from deeplab2_kmax.checkpoints.name_maps import backbones, kmax_deeplab

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# What a training checkpoint of DeepLab2 holds besides the model.
_NOT_MODEL = ("optimizer", "backbone_optimizer", "global_step", "save_counter")
# Where a backbone lies in a model's checkpoint: DeepLab2's, and the TF Model Garden's classifiers.
_BACKBONE_ROOTS = ("encoder/", "backbone/_encoder/")
_LEAST_BACKBONE_SHARE = 0.9
_SHOWN = 8

Shape = tuple[int, ...]

_MODEL_NAMES = name_maps.NameMap(kmax_deeplab.TABLE)
_BACKBONE_NAMES = name_maps.NameMap(backbones.TABLE)


@dataclasses.dataclass
class Report:
    """What became of every variable. Ours are paths in the model, `unused` are names in the checkpoint."""

    source: str
    loaded: list[str] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)
    mismatched: dict[str, str] = dataclasses.field(default_factory=dict)  # path -> "expected ..., got ..."
    skipped: list[str] = dataclasses.field(default_factory=list)
    unused: list[str] = dataclasses.field(default_factory=list)

    def table(self) -> str:
        """One line per part of the model, with the counts of its variables; then what did not fit."""
        columns = ("loaded", "missing", "mismatched", "skipped", "unused")
        counts: dict[str, dict[str, int]] = {}
        for column in columns:
            for path in getattr(self, column):
                row = counts.setdefault(path.split("/")[0], dict.fromkeys(columns, 0))
                row[column] += 1
        width = max([len(item) for item in counts] + [4])
        lines = [f"{'item':{width}} " + " ".join(f"{column:>10}" for column in columns)]
        for item in sorted(counts):
            lines.append(f"{item:{width}} " + " ".join(f"{counts[item][column]:>10}" for column in columns))
        lines += [f"shape of {path}: {why}" for path, why in self.mismatched.items()]
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"Variables taken from {self.source}:\n{self.table()}"


def variable_paths(root: tf.Module | keras.layers.Layer) -> dict[str, tf.Variable]:
    """Every variable of a built model or layer by its path of attributes, "stage2/block1/conv1/conv/kernel"."""
    found: dict[str, tf.Variable] = {}
    seen = {id(root)}
    queue: list[tuple[str, Any]] = [("", root)]
    while queue:
        prefix, node = queue.pop(0)
        for name, child in sorted(tf.train.TrackableView.children(node).items()):
            if id(child) in seen:
                continue
            seen.add(id(child))
            if isinstance(child, tf.Variable):
                found[prefix + name] = child
            else:
                queue.append((f"{prefix}{name}/", child))
    return found


def load_deeplab2_checkpoint(
    model: tf.Module | keras.Model, path: str | os.PathLike[str], *, skip: Sequence[str] = ()
) -> Report:
    """Loads a checkpoint of DeepLab2 into a model or a backbone; every variable on both sides is used exactly once.

    Optimiser, step and save counter of a training checkpoint are left aside. A backbone takes the variables below
    `encoder/` only.

    Args:
        model: a KMaXDeepLab or a backbone. Its variables are created if need be.
        path: checkpoint prefix, or a folder, of which the newest checkpoint is taken.
        skip: parts to leave as they are, by DeepLab2's names, for example "semantic_last_layer" or
            "transformer_class_head"; they may be missing in the checkpoint.

    Raises:
        ValueError: variables without a counterpart on the other side, or of another shape; the message lists them.
    """
    ours = _built_variables(model)
    reader, stored = _open(path)
    if _is_backbone(model):
        stored, names = _backbone_part(stored, ours)
    else:
        names = _MODEL_NAMES.names(ours)
    report = _match(ours, names, stored, skip, str(path))
    if report.missing or report.mismatched or report.unused:
        raise ValueError(_explain(report, names, stored))
    _assign(ours, names, reader, report)
    return report


def load_initial(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    restore_semantic_last_layer: bool = True,
    restore_instance_last_layer: bool = True,
    skip: Sequence[str] = (),
) -> Report:
    """Starts a model from a checkpoint that may fit in part: ours, DeepLab2's, or an image classifier's backbone.

    What the checkpoint lacks or has in another shape stays at its random start; show the report to the user. Steps and
    optimisers are never restored.

    Args:
        model: the model; its variables are created if need be.
        path: checkpoint prefix, or a folder, of which the newest checkpoint is taken.
        restore_semantic_last_layer: False leaves the last layer of the semantic head at its start.
        restore_instance_last_layer: False leaves the last layers of instance and motion heads at their start.
        skip: further parts to leave, by DeepLab2's names or by paths of ours.

    Raises:
        ValueError: nothing matches, or less than 90 % of the backbone's variables do.
    """
    ours = _built_variables(model)
    reader, stored = _open(path)
    skip = list(skip)
    if not restore_semantic_last_layer:
        skip.append("semantic_last_layer")
    if not restore_instance_last_layer:
        skip += [
            "motion_regression_head_last_layer",
            "instance_regression_head_last_layer",
            "instance_center_head_last_layer",
        ]
    names, stored = max(_namings(model, ours, stored), key=lambda naming: _hits(*naming))
    if _hits(names, stored) == 0:
        raise ValueError(
            f"{path} holds no variable of this model. It begins with {sorted(stored)[:_SHOWN]}; expected names such as "
            f"{sorted(ours)[:2]} or {[_MODEL_NAMES(path) or _BACKBONE_NAMES(path) for path in sorted(ours)[:2]]}."
        )
    report = _match(ours, names, stored, skip, str(path))
    _check_backbone(model, report)
    _assign(ours, names, reader, report)
    return report


def _built_variables(model: Any) -> dict[str, tf.Variable]:
    if hasattr(model, "build_variables"):
        model.build_variables()
    elif isinstance(model, keras.Model) and not model.built:
        model(tf.zeros([1, 65, 65, 3]), training=False)
    paths = variable_paths(model)
    if not paths:
        raise ValueError(f"{type(model).__name__} has no variables yet: call it once before loading a checkpoint.")
    return paths


def _is_backbone(model: Any) -> bool:
    return not hasattr(model, "backbone")


def _open(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Shape]]:
    """The checkpoint's reader, and the shape by name of every variable of the model in it."""
    prefix = os.fspath(path)
    if os.path.isdir(prefix):
        newest = tf.train.latest_checkpoint(prefix)
        if newest is None:
            raise ValueError(f"There is no checkpoint in the folder {prefix}.")
        prefix = newest
    elif not os.path.exists(prefix + ".index"):
        raise ValueError(
            f"There is no checkpoint {prefix}: expected the file {prefix}.index. Give the prefix without an ending, "
            "or a folder with a file named 'checkpoint'."
        )
    reader = tf.train.load_checkpoint(prefix)
    stored = {}
    for key, shape in reader.get_variable_to_shape_map().items():
        name = key.removesuffix(_SUFFIX)
        if name == key or "/.OPTIMIZER_SLOT/" in key or name.split("/")[0] in _NOT_MODEL:
            continue
        stored[name] = tuple(shape)
    return reader, stored


def _backbone_part(stored: Mapping[str, Shape], ours: Iterable[str]) -> tuple[dict[str, Shape], dict[str, str | None]]:
    root = next((root for root in _BACKBONE_ROOTS if any(name.startswith(root) for name in stored)), "")
    names = {path: None if name is None else root + name for path, name in _BACKBONE_NAMES.names(ours).items()}
    return {name: shape for name, shape in stored.items() if name.startswith(root)}, names


def _namings(
    model: Any, ours: Mapping[str, tf.Variable], stored: dict[str, Shape]
) -> list[tuple[dict[str, str | None], dict[str, Shape]]]:
    """The ways in which the checkpoint may name the variables, each with the stored names it is about."""
    sample = min(ours, key=len)
    ours_in = {name.removesuffix(sample) for name in stored if name == sample or name.endswith("/" + sample)} | {""}
    namings: list[tuple[dict[str, str | None], dict[str, Shape]]] = []
    # Of equals the first one is taken: the weights themselves before their averages.
    for root in sorted(ours_in, key=lambda root: (root not in ("", "model/"), root)):
        within = {name: shape for name, shape in stored.items() if name.startswith(root)}
        namings.append(({path: root + path for path in ours}, within))
    backbone = "" if _is_backbone(model) else "backbone/"
    for root in _BACKBONE_ROOTS:
        names: dict[str, str | None] = {}
        for path in ours:
            name = _BACKBONE_NAMES(path.removeprefix(backbone)) if path.startswith(backbone) else None
            names[path] = _MODEL_NAMES(path) if name is None else root + name
        namings.append((names, stored))
    return namings


def _hits(names: Mapping[str, str | None], stored: Mapping[str, Shape]) -> int:
    return sum(name in stored for name in names.values())


def _match(
    ours: Mapping[str, tf.Variable],
    names: Mapping[str, str | None],
    stored: Mapping[str, Shape],
    skip: Sequence[str],
    source: str,
) -> Report:
    report = Report(source)
    unused = {name for name in stored if not _is_skipped(name, skip)}
    for path, variable in ours.items():
        name = names[path]
        if _is_skipped(path, skip) or (name is not None and _is_skipped(name, skip)):
            report.skipped.append(path)
        elif name is None or name not in stored:
            report.missing.append(path)
        elif _essence(variable.shape) != _essence(stored[name]):
            report.mismatched[path] = f"expected {tuple(variable.shape)}, but {name} has {stored[name]}"
        elif name not in unused:
            raise AssertionError(f"Two variables map to {name}.")
        else:
            report.loaded.append(path)
        unused.discard(name or "")
    report.unused = sorted(unused)
    return report


def _essence(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape without its axes of size 1: those differ between a dense kernel and a convolution's, not the order."""
    return tuple(size for size in shape if size != 1)


def _assign(ours: Mapping[str, tf.Variable], names: Mapping[str, str | None], reader: Any, report: Report) -> None:
    for path in report.loaded:
        variable = ours[path]
        variable.assign(np.reshape(reader.get_tensor(f"{names[path]}{_SUFFIX}"), variable.shape))


def _is_skipped(name: str, skip: Sequence[str]) -> bool:
    parts = {part.lstrip("_") for part in name.split("/")}
    return any(item in parts or name.startswith(item.rstrip("/") + "/") for item in skip)


def _check_backbone(model: Any, report: Report) -> None:
    prefix = "" if _is_backbone(model) else "backbone/"

    def count(paths: Iterable[str]) -> int:
        return sum(path.startswith(prefix) for path in paths)

    loaded = count(report.loaded)
    total = loaded + count(report.missing) + count(report.mismatched)
    if loaded < _LEAST_BACKBONE_SHARE * total:
        lacking = [path for path in [*report.missing, *report.mismatched] if path.startswith(prefix)]
        raise ValueError(
            f"{report.source} holds only {loaded} of the backbone's {total} variables, fewer than 90 %: is it of "
            f"another backbone? Missing, for example: {', '.join(lacking[:_SHOWN])}.\n{report.table()}"
        )


def _explain(report: Report, names: Mapping[str, str | None], stored: Mapping[str, Shape]) -> str:
    lines = [
        f"{report.source} does not fit this model: {len(report.missing)} variables of the model are not in it, "
        f"{len(report.mismatched)} have another shape, and {len(report.unused)} of its variables belong nowhere."
    ]
    for path in report.missing[:_SHOWN]:
        name = names[path]
        close = registry.nearest(name or path, report.unused or stored)[:1]
        lines.append(f"  not in the checkpoint: {path} ({name or 'without a known name'}; nearest: {', '.join(close)})")
    lines += [f"  other shape: {path}: {why}" for path, why in list(report.mismatched.items())[:_SHOWN]]
    ours = [name or path for path, name in names.items()]
    for name in report.unused[:_SHOWN]:
        lines.append(f"  not in the model: {name} (nearest: {registry.nearest(name, ours)[0]})")
    lines.append("Parts can be left out by name with skip=(...).")
    return "\n".join(lines)
