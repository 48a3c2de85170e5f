"""Reading checkpoints: DeepLab2's by a table of names, and whatever a training run starts from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import first_layer, name_maps
from deeplab2_kmax.checkpoints import report as reports
from deeplab2_kmax.checkpoints.name_maps import backbones, deeplab, kmax_deeplab, max_deeplab
from deeplab2_kmax.checkpoints.report import Report

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# What a training checkpoint of DeepLab2 holds besides the model.
_NOT_MODEL = ("optimizer", "backbone_optimizer", "global_step", "save_counter")
# Where a backbone lies in a model's checkpoint: DeepLab2's, and the TF Model Garden's classifiers.
_BACKBONE_ROOTS = ("encoder/", "backbone/_encoder/")
# Parts that no classifier has.
_MODEL_PARTS = {"pixel_decoder", "transformer_decoder", "semantic_decoder", "semantic_last_layer"}
# Last layers by DeepLab2's names, then by paths of ours: models that DeepLab2 does not have go by those alone.
_SEMANTIC_LAST = ("semantic_last_layer", "semantic_head/last/", "last/", "low_last/")
_INSTANCE_LAST = (
    *("motion_regression_head_last_layer", "instance_regression_head_last_layer", "instance_center_head_last_layer"),
    *("motion_head/last/", "offset_head/last/", "center_head/last/"),
)
_LEAST_BACKBONE_SHARE = 0.9
_SHOWN = 8
# Where a recursive feature pyramid has its networks.
_FIRST_PASS = "networks/0/"
_LATER_PASS = re.compile(r"^(backbone/)?networks/[1-9]\d*/")
# What reading a damaged checkpoint may raise.
_DAMAGE = (tf.errors.OpError, ValueError, RuntimeError, LookupError)

Shape = tuple[int, ...]

# Of each family of models a table of its own. The one that names most of a model's variables is the model's.
_MODEL_NAMES = [
    name_maps.NameMap(table)
    for table in (
        *(kmax_deeplab.TABLE, deeplab.PANOPTIC_DEEPLAB, deeplab.MOTION_DEEPLAB, deeplab.VIP_DEEPLAB),
        *(deeplab.DEEPLAB_V3, deeplab.DEEPLAB_V3_PLUS),
    )
]
_BACKBONE_NAMES = name_maps.NameMap(backbones.TABLE)


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
    ours = built_variables(model)
    reader, stored = _open(path)
    if _is_backbone(model):
        stored, names = _backbone_part(stored, ours)
    else:
        names = _resolved(_model_names(ours), ours, stored)
    report = reports.match(ours, names, stored, skip, str(path))
    reports.check_skip(skip, ours, names, stored)
    reports.check_complete(report, names, stored)
    _assign(ours, _values(ours, names, reader, report))
    return report


def load_initial(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    restore_semantic_last_layer: bool = True,
    restore_instance_last_layer: bool = True,
    skip: Sequence[str] = (),
    allow_partial_backbone: bool = False,
) -> Report:
    """Starts a model from a checkpoint that may fit in part: ours, DeepLab2's, or an image classifier's backbone.

    What the checkpoint lacks or has in another shape stays at its random start; show the report to the user. Steps and
    optimisers are never restored.

    Args:
        model: the model; its variables are created if need be. If it sees more than colours, as Motion-DeepLab, the
            first layer of a model of images is taken, with zeros for the rest. Networks of a recursive feature pyramid
            that the checkpoint does not tell apart all start from the one that it has.
        path: checkpoint prefix, or a folder, of which the newest checkpoint is taken.
        restore_semantic_last_layer: False leaves the last layer of the semantic head at its start.
        restore_instance_last_layer: False leaves the last layers of instance and motion heads at their start.
        skip: further parts to leave, by DeepLab2's names or by paths of ours.
        allow_partial_backbone: whether less than 90 % of the backbone may match.

    Raises:
        ValueError: nothing matches, or less than 90 % of the backbone's variables do.
    """
    ours = built_variables(model)
    reader, stored = _open(path)
    skip, asked = list(skip), skip
    if not restore_semantic_last_layer:
        skip += _SEMANTIC_LAST
    if not restore_instance_last_layer:
        skip += _INSTANCE_LAST
    names, stored = max(_namings(model, ours, stored), key=lambda naming: _hits(*naming))
    if _hits(names, stored) == 0:
        raise ValueError(
            f"{path} holds no variable of this model. It begins with {sorted(stored)[:_SHOWN]}; expected names such as "
            f"{sorted(ours)[:2]} or {[_model_names(ours)[path] or _BACKBONE_NAMES(path) for path in sorted(ours)[:2]]}."
        )
    report = reports.match(ours, names, stored, skip, str(path))
    reports.take_wider(report, ours, names, stored)
    reports.check_skip(asked, ours, names, stored)
    if not allow_partial_backbone:
        _check_backbone(model, report)
    values = _values(ours, names, reader, report)
    for path in [path for path in report.missing if _first_pass(path) in values]:
        values[path] = values[_first_pass(path)]
        report.missing.remove(path)
        report.loaded.append(path)
    _assign(ours, values)
    return report


def backbone_values(backbone: keras.Model, path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """What a classifier's checkpoint with DeepLab2's names holds for a backbone, by our path.

    Raises:
        ValueError: variables that fit nothing, or the checkpoint of a whole model.
    """
    ours = built_variables(backbone)
    reader, stored = _open(path)
    whole = sorted({name.split("/")[0] for name in stored} & _MODEL_PARTS)
    if whole:
        raise ValueError(
            f"{path} is of a whole model ({', '.join(whole)}), not of a classifier: put it in initial_checkpoint."
        )
    stored, names = _backbone_part(stored, ours)
    report = reports.match(ours, names, stored, (), str(path))
    if not any(name.startswith(_BACKBONE_ROOTS) for name in stored):
        report.unused = []  # the classifier lies beside the backbone
    reports.check_complete(report, names, stored)
    return _values(ours, names, reader, report)


def built_variables(model: Any) -> dict[str, tf.Variable]:
    """Every variable of a model by its path; they are created if need be."""
    if hasattr(model, "build_variables"):
        model.build_variables()
    elif isinstance(model, keras.Model) and not model.built:
        model(tf.zeros([1, 65, 65, 3]), training=False)
    paths = variable_paths(model)
    if not paths:
        raise ValueError(f"{type(model).__name__} has no variables yet: call it once before loading a checkpoint.")
    return paths


def _model_names(ours: Iterable[str]) -> dict[str, str | None]:
    named = [table.names(ours) for table in _MODEL_NAMES]
    return max(named, key=lambda names: sum(name is not None for name in names.values()))


def _resolved(
    names: Mapping[str, str | None], ours: Mapping[str, tf.Variable], stored: Mapping[str, Shape]
) -> dict[str, str | None]:
    """The names as this checkpoint spells those that the tables are not sure of."""
    return max_deeplab.resolve(names, {path: tuple(variable.shape) for path, variable in ours.items()}, stored)


def _is_backbone(model: Any) -> bool:
    return not hasattr(model, "backbone")


def open_checkpoint(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The reader of a checkpoint, and its prefix; of a folder the newest one.

    Raises:
        ValueError: there is none, or it is damaged.
    """
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
    try:
        return tf.train.load_checkpoint(prefix), prefix
    except _DAMAGE as error:
        raise ValueError(f"{prefix} is damaged: {str(error).splitlines()[0]}") from error


def _open(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Shape]]:
    """The checkpoint's reader, and the shape by name of every variable of the model in it."""
    reader, _ = open_checkpoint(path)
    stored = {}
    for key, shape in reader.get_variable_to_shape_map().items():
        name = key.removesuffix(_SUFFIX)
        if name == key or "/.OPTIMIZER_SLOT/" in key or name.split("/")[0] in _NOT_MODEL:
            continue
        stored[name] = tuple(shape)
    return reader, stored


def _backbone_part(
    stored: Mapping[str, Shape], ours: Mapping[str, tf.Variable]
) -> tuple[dict[str, Shape], dict[str, str | None]]:
    root = next((root for root in _BACKBONE_ROOTS if any(name.startswith(root) for name in stored)), "")
    names = {path: None if name is None else root + name for path, name in _BACKBONE_NAMES.names(ours).items()}
    part = {name: shape for name, shape in stored.items() if name.startswith(root)}
    return part, _resolved(names, ours, part)


def _namings(
    model: Any, ours: Mapping[str, tf.Variable], stored: dict[str, Shape]
) -> list[tuple[dict[str, str | None], dict[str, Shape]]]:
    """The ways in which the checkpoint may name the variables, each with the stored names it is about."""
    sample = min(ours, key=len)
    ours_in = {name.removesuffix(sample) for name in stored if name == sample or name.endswith("/" + sample)} | {""}
    namings: list[tuple[dict[str, str | None], dict[str, Shape]]] = []
    model_names = _model_names(ours)
    backbone = "" if _is_backbone(model) else "backbone/"
    # As they are called without a recursive feature pyramid.
    plain = {path: path.replace(f"{backbone}{_FIRST_PASS}", backbone, 1) for path in ours}
    # Of equals the first one is taken: the weights themselves before their averages.
    for root in sorted(ours_in, key=lambda root: (root not in ("", "model/"), root)):
        within = {name: shape for name, shape in stored.items() if name.startswith(root)}
        namings.append(({path: root + path for path in ours}, within))
        if any(path != name for path, name in plain.items()):
            namings.append(({path: root + name for path, name in plain.items()}, within))
    for root in _BACKBONE_ROOTS:
        names: dict[str, str | None] = {}
        for path in ours:
            name = _BACKBONE_NAMES(plain[path].removeprefix(backbone)) if path.startswith(backbone) else None
            names[path] = model_names[path] if name is None else root + name
        namings.append((_resolved(names, ours, stored), stored))
    return namings


def _first_pass(path: str) -> str:
    """The variable of a recursive feature pyramid's first network that another pass's starts from."""
    return _LATER_PASS.sub(rf"\1{_FIRST_PASS}", path)


def _hits(names: Mapping[str, str | None], stored: Mapping[str, Shape]) -> int:
    return sum(name in stored for name in names.values())


def _values(
    ours: Mapping[str, tf.Variable], names: Mapping[str, str | None], reader: Any, report: Report
) -> dict[str, np.ndarray]:
    try:
        stored = {path: reader.get_tensor(f"{names[path]}{_SUFFIX}") for path in report.loaded}
    except _DAMAGE as error:
        raise ValueError(f"{report.source} is damaged: {str(error).splitlines()[0]}") from error
    return {path: _fitted(value, tuple(ours[path].shape)) for path, value in stored.items()}


def _fitted(value: np.ndarray, shape: Shape) -> np.ndarray:
    wider = first_layer.is_wider(shape, value.shape)
    return first_layer.widen(value, shape[2]) if wider else np.reshape(value, shape)


def _assign(ours: Mapping[str, tf.Variable], values: Mapping[str, np.ndarray]) -> None:
    for path, value in values.items():
        ours[path].assign(value)


def _check_backbone(model: Any, report: Report) -> None:
    paths = _pretrained_paths(model)

    def count(found: Iterable[str]) -> int:
        return sum(path in paths for path in found)

    loaded = count(report.loaded)
    total = loaded + count(report.missing) + count(report.mismatched)
    if loaded < _LEAST_BACKBONE_SHARE * total:
        lacking = [path for path in [*report.missing, *report.mismatched] if path in paths]
        raise ValueError(
            f"{report.source} holds only {loaded} of the backbone's {total} variables, fewer than 90 %: is it of "
            f"another backbone? Missing, for example: {', '.join(lacking[:_SHOWN])}. With allow_partial_backbone it is "
            f"taken all the same.\n{report.table()}"
        )


def _pretrained_paths(model: Any) -> set[str]:
    """The variables that a classifier's checkpoint has: all of the backbone, if it does not say which."""
    prefix, backbone = ("", model) if _is_backbone(model) else ("backbone/", model.backbone)
    named = variable_paths(backbone)
    if hasattr(backbone, "pretrained_variables"):
        own = {variable.ref() for variable in backbone.pretrained_variables}
        named = {path: variable for path, variable in named.items() if variable.ref() in own}
    return {prefix + path for path in named}
