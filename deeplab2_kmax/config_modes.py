"""What training, evaluation and export need of a config: placeholders filled in, files, sizes, something to build."""

from __future__ import annotations

import glob
from collections.abc import Sequence

from deeplab2_kmax import config_values
from deeplab2_kmax.config_text import ConfigError
from deeplab2_kmax.config_values import Findings
from deeplab2_kmax.protos import config_pb2, dataset_pb2

_SECTIONS: dict[str, tuple[str, ...]] = {  # mode: what it reads
    "train": ("model_options", "trainer_options", "train_dataset_options"),
    "eval": ("model_options", "evaluator_options", "eval_dataset_options"),
    "train_and_eval": (
        *("model_options", "trainer_options", "train_dataset_options"),
        *("evaluator_options", "eval_dataset_options"),
    ),
    "continuous_eval": ("model_options", "evaluator_options", "eval_dataset_options"),
    "export": ("model_options", "eval_dataset_options"),
    "predict": ("model_options", "eval_dataset_options"),
}
MODES = tuple(_SECTIONS)
# Strings that a mode does not use although it reads their message: weights to start training from, and data.
_UNUSED = {
    "eval": ("model_options.initial_checkpoint", "model_options.backbone.pretrained_weights"),
    "export": (
        *("model_options.initial_checkpoint", "model_options.backbone.pretrained_weights"),
        "eval_dataset_options.file_pattern",
    ),
}
_UNUSED["continuous_eval"], _UNUSED["predict"] = _UNUSED["eval"], _UNUSED["export"]


def check_mode(config: config_pb2.ExperimentOptions, mode: str, num_replicas: int, found: Findings) -> None:
    """Checks what one of MODES needs; `num_replicas` devices share a training batch."""
    if mode not in MODES:
        raise ConfigError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    sections = _SECTIONS[mode]
    unused = _UNUSED.get(mode, ())
    wanted = (*sections, "experiment_name") if mode not in ("export", "predict") else sections
    for path, _, _, value in config_values.fields(config):
        used = path.split(".")[0] in wanted and path.split("[")[0] not in unused
        if used and isinstance(value, str) and "${" in value:
            advice = f"fill it in with --override, or --set {value[value.index('{') + 1 :].split('}')[0]}=..."
            found.problem(path, "a value in place of the placeholder", value, advice)
    if "trainer_options" in sections:
        _check_training(config, num_replicas, found)
    for section in ("train_dataset_options", "eval_dataset_options"):
        if section in sections:
            data = getattr(config, section)
            if not data.crop_size:
                found.missing(f"{section}.crop_size", "[height, width]")
            if not data.dataset:
                found.missing(f"{section}.dataset", "the name of a data set")
            if mode not in ("export", "predict"):
                _check_files(section, data, found)
                if config.model_options.HasField("max_deeplab") and data.decode_groundtruth_label:
                    _check_masks(section, data, found)
    if not found.problems:  # last, because it imports everything
        from deeplab2_kmax import architectures
        from deeplab2_kmax.backbones import BACKBONES

        try:
            architectures.name_of(config.model_options)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        name = config.model_options.backbone.name
        if name.lower() not in BACKBONES:
            path, available = "model_options.backbone.name", ", ".join(sorted(BACKBONES))
            found.problem(path, f"a backbone that is available yet: {available}", name)


def _check_training(config: config_pb2.ExperimentOptions, num_replicas: int, found: Findings) -> None:
    trainer, data = config.trainer_options, config.train_dataset_options
    if data.batch_size % num_replicas:
        advice = f"nearest: {max(1, round(data.batch_size / num_replicas)) * num_replicas}"
        found.problem(
            "train_dataset_options.batch_size", f"a multiple of the {num_replicas} replicas", data.batch_size, advice
        )
    if trainer.save_summaries_steps % trainer.steps_per_loop:
        expected = f"a multiple of steps_per_loop ({trainer.steps_per_loop})"
        found.problem("trainer_options.save_summaries_steps", expected, trainer.save_summaries_steps)
    if not config_values.losses(trainer.loss_options):
        found.missing("trainer_options.loss_options", "at least one loss")
    if not data.decode_groundtruth_label:
        found.problem("train_dataset_options.decode_groundtruth_label", "true in training", False)


def _check_masks(section: str, data: dataset_pb2.DatasetOptions, found: Findings) -> None:
    if not data.thing_id_mask_annotations:
        advice = "max_deeplab learns from the masks of things"
        found.problem(f"{section}.thing_id_mask_annotations", "true", False, advice)


def _check_files(section: str, data: dataset_pb2.DatasetOptions, found: Findings) -> None:
    if data.mixture:
        for number, part in enumerate(data.mixture):
            _check_patterns(f"{section}.mixture[{number}]", part.file_pattern, found)
    else:
        _check_patterns(section, data.file_pattern, found)


def _check_patterns(section: str, patterns: Sequence[str], found: Findings) -> None:
    if not patterns:
        found.missing(f"{section}.file_pattern", "at least one pattern of TFRecord files")
    for index, pattern in enumerate(patterns):
        if "${" not in pattern and not _matches(pattern):
            path = f"{section}.file_pattern[{index}]"
            found.problem(
                path,
                "a pattern that matches files",
                pattern,
                "nothing matches; relative patterns start at the working directory",
            )


def _matches(pattern: str) -> bool:
    if "://" not in pattern:
        return bool(glob.glob(pattern))
    import tensorflow as tf

    return bool(tf.io.gfile.glob(pattern))
