"""The checkpoints of a run: found again after a kill, never of another model, never with weights not finite."""

from __future__ import annotations

import difflib
import os
import pathlib
import re
import shutil

import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.protos import config_pb2

CONFIG_FILE = "config.textproto"
AVERAGES = "averages"  # where a checkpoint keeps the running averages of the weights

_NUMBER = re.compile(r"ckpt-(\d+)\.index$")


def newest(folder: pathlib.Path) -> str | None:
    """The prefix of the newest complete checkpoint of a run, None where there is none.

    Checkpoints that the file `checkpoint` does not know (copied here, or written just before a kill) count too.
    """
    found = {int(match[1]) for path in folder.glob("ckpt-*.index") if (match := _NUMBER.search(path.name))}
    complete = [number for number in found if list(folder.glob(f"ckpt-{number}.data-*"))]
    return str(folder / f"ckpt-{max(complete)}") if complete else None


def clean(folder: pathlib.Path) -> None:
    """Removes what a kill in the middle of saving left behind and makes the file `checkpoint` know the newest one."""
    for path in folder.glob("ckpt-*_temp*"):
        shutil.rmtree(path, ignore_errors=True)
    latest = newest(folder)
    state = tf.train.get_checkpoint_state(str(folder))
    if latest is None or (state is not None and os.path.basename(state.model_checkpoint_path) == _base(latest)):
        return
    known = [_base(path) for path in (state.all_model_checkpoint_paths if state is not None else ())]
    names = [*(name for name in known if name != _base(latest)), _base(latest)]
    write_state(folder, names)


def write_state(folder: pathlib.Path, names: list[str]) -> None:
    """Writes the file `checkpoint`, which lists the checkpoints of a folder; the last of the names is the newest."""
    lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
    (folder / "checkpoint").write_text("\n".join(lines) + "\n", encoding="utf-8")


def restore(checkpoint: tf.train.Checkpoint, prefix: str, *, whole: bool) -> None:
    """Restores everything in `checkpoint`; `whole`: and the file must hold nothing else.

    Raises:
        ValueError: the file is damaged, or lacks something.
    """
    try:
        status = checkpoint.restore(prefix)
        status.assert_existing_objects_matched()
        if not whole:
            status.expect_partial()
    except AssertionError as error:
        raise ValueError(
            f"{prefix} does not fit this config: {_first_line(error)}. Was it written with other options? Use another "
            "experiment_name or model_dir to start anew."
        ) from error
    except (tf.errors.OpError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"{prefix} cannot be restored: {_first_line(error)}. If it is damaged, delete its files: the run then goes "
            "on from the checkpoint before it."
        ) from error


class NonFiniteWeights(RuntimeError):
    """Weights to be saved hold NaN or infinite values."""


class Manager(tf.train.CheckpointManager):
    """Saves a step once only, and refuses weights that are not finite."""

    def save(self, checkpoint_number=None, check_interval=True, options=None):
        """As TensorFlow's.

        Raises:
            NonFiniteWeights: a variable holds NaN or infinite values; nothing was written.
        """
        number = int(checkpoint_number)
        if self.latest_checkpoint is not None and _base(self.latest_checkpoint) == f"ckpt-{number}":
            self._last_checkpoint_step = number
            return None
        interval, last = self.checkpoint_interval, self._last_checkpoint_step
        if not (check_interval and interval and last is not None and number < last + interval):
            self._check_finite(number)
        return super().save(checkpoint_number=number, check_interval=check_interval, options=options)

    def _check_finite(self, number: int) -> None:
        bad = [
            variable.name
            for variable in _variables(self.checkpoint)
            if variable.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(variable)))
        ]
        if bad:
            raise NonFiniteWeights(
                f"After step {number}, {len(bad)} variables are not finite, for example {', '.join(bad[:5])}. Nothing "
                f"was saved; the last good checkpoint is {self.latest_checkpoint}."
            )


def check_config(config: config_pb2.ExperimentOptions, folder: pathlib.Path) -> list[str]:
    """Compares a config with the one that the checkpoints of a run were written with.

    Returns:
        The lines that differ; they change how training goes on, but not the model.

    Raises:
        ValueError: the model is another one.
    """
    path = folder / CONFIG_FILE
    if not path.exists() or newest(folder) is None:
        return []
    before = text_format.Parse(path.read_text(encoding="utf-8"), config_pb2.ExperimentOptions())
    changes = _changes(_model_of(before), _model_of(config))
    if changes:
        raise ValueError(
            f"{folder} holds checkpoints of another model: {'; '.join(changes[:6])}. Use another experiment_name or "
            "model_dir, or undo the change."
        )
    return _changes(before, config)


def write_config(config: config_pb2.ExperimentOptions, folder: pathlib.Path) -> None:
    """Writes the resolved config of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{CONFIG_FILE}"
    temporary.write_text(_text(config), encoding="utf-8")
    temporary.replace(folder / CONFIG_FILE)


def _model_of(config: config_pb2.ExperimentOptions) -> config_pb2.ExperimentOptions:
    """What decides the variables and their meaning."""
    kept = config_pb2.ExperimentOptions()
    kept.model_options.CopyFrom(config.model_options)
    kept.train_dataset_options.dataset = config.train_dataset_options.dataset or config.eval_dataset_options.dataset
    model = kept.model_options
    for name in (
        "initial_checkpoint",
        "restore_semantic_last_layer_from_initial_checkpoint",
        "restore_instance_last_layer_from_initial_checkpoint",
        "skip_from_initial_checkpoint",
        "allow_partial_backbone",
    ):
        model.ClearField(name)
    for name in ("pretrained_weights", "pretrained_format", "drop_path_keep_prob", "drop_path_schedule"):
        model.backbone.ClearField(name)
    if model.HasField("max_deeplab"):
        for field in list(model.max_deeplab.DESCRIPTOR.fields_by_name):
            if "_sample_" in field or "drop_path" in field:
                model.max_deeplab.ClearField(field)
    return kept


def _changes(before: config_pb2.ExperimentOptions, after: config_pb2.ExperimentOptions) -> list[str]:
    lines = difflib.ndiff(_text(before).splitlines(), _text(after).splitlines())
    return [f"{line[0]} {line[1:].strip()}" for line in lines if line[0] in "+-"]


def _text(config: config_pb2.ExperimentOptions) -> str:
    return text_format.MessageToString(config, as_utf8=True, use_short_repeated_primitives=True)


def _variables(checkpoint: tf.train.Checkpoint) -> list[tf.Variable]:
    nodes = tf.train.TrackableView(checkpoint).descendants()
    return [node for node in nodes if isinstance(node, tf.Variable)]


def _base(prefix: str) -> str:
    return os.path.basename(os.fspath(prefix))


def _first_line(error: Exception) -> str:
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    return str(message).splitlines()[0].rstrip(".")
