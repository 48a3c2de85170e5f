"""What a run changes and a checkpoint keeps: made, and restored or initialised."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax import architectures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import restore, sources, weight_files
from deeplab2_kmax.protos import config_pb2
from trainer import averages as averages_lib
from trainer import checkpointing, optimizers


class State(NamedTuple):
    """What a run changes and a checkpoint keeps."""

    model: keras.Model
    global_step: tf.Variable  # finished steps
    optimizer: optimizers.Solver | None  # None where nothing is trained
    averages: averages_lib.Averages | None
    origin: str  # where it starts from, in words


def make(
    config: config_pb2.ExperimentOptions, strategy: tf.distribute.Strategy, folder: pathlib.Path, *, trains: bool
) -> State:
    """The model, restored or initialised, and with `trains` what training it needs.

    In this order: the newest checkpoint in `folder`; else pretrained weights of the backbone (training only) and the
    initial checkpoint.

    Raises:
        ValueError: a checkpoint that does not fit, or with `trains` False none at all.
    """
    solver = config.trainer_options.solver_options
    prefix = checkpointing.newest(folder)
    optimizer = averages = None
    with strategy.scope():
        model = architectures.build_model(config)
        model.build_variables()
        global_step = tf.Variable(
            0,
            dtype=tf.int64,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="global_step",
        )
        if trains:
            optimizer = optimizers.build(solver, model.trainable_variables, backbone_variables(model))
        if solver.ema_decay and (trains or prefix is None or _has_averages(prefix)):
            averages = averages_lib.Averages(_trainable_paths(model), decay=solver.ema_decay, strategy=strategy)
        state = State(model, global_step, optimizer, averages, "")
        if prefix is not None:
            checkpointing.restore(checkpoint(state), prefix, whole=trains)
            return state._replace(origin=f"goes on from {prefix}" if trains else f"checkpoint {prefix}")
        origin = _initialise(config, model, folder, trains=trains)
        if averages is not None:
            averages.reset()
    return state._replace(origin=origin)


def _initialise(config, model: keras.Model, folder: pathlib.Path, *, trains: bool) -> str:
    """Loads what a run without a checkpoint of its own starts from; says what that is."""
    options = config.model_options
    said = []
    if trains and options.backbone.pretrained_weights:
        from deeplab2_kmax.checkpoints import pretrained

        said.append(
            pretrained.load_pretrained(
                model.backbone, options.backbone.pretrained_weights, format=options.backbone.pretrained_format
            )
        )
    if trains and weight_files.is_weight_file(options.initial_checkpoint):
        from deeplab2_kmax.checkpoints import pretrained

        said.append(
            pretrained.load_pretrained(
                model.backbone, options.initial_checkpoint, format=options.backbone.pretrained_format
            )
        )
    elif options.initial_checkpoint:
        report = restore.load_initial(
            model,
            options.initial_checkpoint,
            restore_semantic_last_layer=options.restore_semantic_last_layer_from_initial_checkpoint or not trains,
            restore_instance_last_layer=options.restore_instance_last_layer_from_initial_checkpoint or not trains,
            skip=options.skip_from_initial_checkpoint if trains else (),
            allow_partial_backbone=options.allow_partial_backbone and trains,
        )
        lacking = [*report.missing, *report.mismatched]
        if lacking and not trains:
            raise ValueError(
                f"{options.initial_checkpoint} lacks {len(lacking)} variables of the model, for example {lacking[0]}: "
                "evaluating it would score random weights."
            )
        said.append(str(report))
        alone = {path.split("/")[0] for path in report.loaded} == {"backbone"}
        if alone and sources.of_checkpoint(model.backbone) != sources.SYMMETRIC:
            said.append("It is taken as it is; in backbone.pretrained_weights its input normalisation is converted.")
    elif not trains:
        raise ValueError(
            f"There is no checkpoint in {folder}, and model_options.initial_checkpoint is not set: nothing to evaluate."
        )
    return "\n".join(said) or "random weights"


def checkpoint(state: State) -> tf.train.Checkpoint:
    """The layout of a run's checkpoints."""
    parts = {"model": state.model, "global_step": state.global_step}
    if state.optimizer is not None:
        parts["optimizer"] = state.optimizer
    if state.averages is not None:
        parts[checkpointing.AVERAGES] = state.averages.tree
    return tf.train.Checkpoint(**parts)


def _has_averages(prefix: str) -> bool:
    return any(name.startswith(f"{checkpointing.AVERAGES}/") for name, _ in tf.train.list_variables(prefix))


def _trainable_paths(model: keras.Model) -> dict[str, tf.Variable]:
    trainable = {variable.ref() for variable in model.trainable_variables}
    return {path: v for path, v in restore.variable_paths(model).items() if v.ref() in trainable}


def backbone_variables(model: keras.Model) -> list[tf.Variable]:
    """The trainable variables that have the backbone's learning rate.

    A backbone that brings more than a classifier starts from says which of its own these are.
    """
    backbone = model.backbone
    return list(getattr(backbone, "pretrained_variables", backbone.trainable_variables))


def variable_table(config: config_pb2.ExperimentOptions, model: keras.Model) -> list[optimizers.Row]:
    """How the solver treats each trainable variable of a built model, by its path."""
    trainable = {variable.ref() for variable in model.trainable_variables}
    named = [(path, v) for path, v in restore.variable_paths(model).items() if v.ref() in trainable]
    return optimizers.table(config.trainer_options.solver_options, named, backbone_variables(model))
