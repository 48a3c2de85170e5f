"""What can be wrong with a config, found in seconds and before any model is built.

Three levels: values of single fields (`config_values`), rules between fields (here), and what a mode needs
(`config_modes`).
"""

from __future__ import annotations

import math
from typing import Any

from deeplab2_kmax import config_deeplab, config_modes, config_values
from deeplab2_kmax.config_values import Findings
from deeplab2_kmax.protos import config_pb2, dataset_pb2, model_pb2, trainer_pb2


def is_kmax(options: model_pb2.ModelOptions) -> bool:
    """Whether a model is a kMaX-DeepLab: `max_deeplab` with a backbone named kmax_*."""
    return options.HasField("max_deeplab") and options.backbone.name.lower().startswith("kmax_")


def is_max(options: model_pb2.ModelOptions) -> bool:
    """Whether a model is a MaX-DeepLab: `max_deeplab` with a backbone that has a memory."""
    return options.HasField("max_deeplab") and options.backbone.name.lower() in config_values.MEMORY_BACKBONES


def check(config: config_pb2.ExperimentOptions, mode: str | None = None, *, num_replicas: int = 1) -> list[str]:
    """Checks a resolved config.

    Args:
        config: as `config.load` returns it.
        mode: one of `config_modes.MODES`, to check also what that mode needs: its sections, `${...}` filled in, files
            that exist, batch sizes; None: only the values that are there.
        num_replicas: devices that share a training batch.

    Returns:
        Warnings, one line each, to be logged: settings that the model does not use.

    Raises:
        ConfigError: the path of a field, what was expected, what came, what to do, in one line. Where more is wrong,
            the line ends with the other fields' paths.
    """
    found = Findings()
    config_values.check_values(config, found)
    _check_names(config, found)
    _check_model(config.model_options, found)
    if config.model_options.max_deeplab.HasField("remax"):
        _check_remax(config, found)
    if config_deeplab.is_deeplab(config.model_options):
        config_deeplab.check(config, found)
    _check_solver(config.trainer_options, found)
    for name in ("train_dataset_options", "eval_dataset_options"):
        if config.HasField(name):
            _check_data(name, config, found)
    _warn_of_ignored(config, found)
    if mode is not None:
        config_modes.check_mode(config, mode, num_replicas, found)
    found.raise_first()
    return found.warnings


def _check_names(config: config_pb2.ExperimentOptions, found: Findings) -> None:
    from deeplab2_kmax.backbones import BACKBONES

    name = config.model_options.backbone.name
    known = {*BACKBONES, *config_values.DEEPLAB2_BACKBONES}
    if name.lower() not in known and "${" not in name:
        found.unknown("model_options.backbone.name", "a backbone", name, known)
    for section in ("train_dataset_options", "eval_dataset_options"):
        name = getattr(config, section).dataset
        if name:
            _check_dataset(f"{section}.dataset", name, found)
    for field, loss in config_values.losses(config.trainer_options.loss_options):
        expected = config_values.LOSS_NAMES.get(field, "")
        if loss.name in ("", expected) or loss.name not in config_values.CHOICES["SingleLossOptions", "name"]:
            continue
        path = f"trainer_options.loss_options.{field}.name"
        found.problem(path, repr(expected) if expected else "no name, only a weight", loss.name)


def _check_dataset(path: str, name: str, found: Findings) -> None:
    """A data set's name, or its class file."""
    from deeplab2_kmax.data import datasets

    if "${" in name:
        return
    if datasets.is_file(name):
        try:
            datasets.read(name)
        except ValueError as error:
            found.problem(path, "a class file", name, str(error))
    elif name not in datasets.DATASETS:
        found.unknown(path, "a data set", name, datasets.DATASETS)


def _check_model(options: model_pb2.ModelOptions, found: Findings) -> None:
    path = "model_options"
    meta = options.WhichOneof("meta_architecture")
    for name in ("kmax", "cmt", "remax", "transformer_decoder_drop_path_keep_prob"):
        if options.max_deeplab.HasField(name) and not is_kmax(options):
            backbone = repr(options.backbone.name)
            expected = "a backbone whose name begins with kmax_ beside this field"
            found.problem(f"{path}.max_deeplab.{name}", expected, backbone)
    if options.max_deeplab.HasField("memory") and not is_max(options):
        expected = f"the backbone {' or '.join(config_values.MEMORY_BACKBONES)} beside this field"
        found.problem(f"{path}.max_deeplab.memory", expected, repr(options.backbone.name))
    _check_backbone(options.backbone, found)
    _check_start(options, found)
    if is_kmax(options) or is_max(options):
        _check_mask_transformer(options, found)
    if is_kmax(options):
        _check_kmax(options, found)
    memory = options.max_deeplab.memory
    if is_max(options) and memory.num_heads > 0 and memory.transformer_filters % memory.num_heads:
        expected = f"a multiple of num_heads ({memory.num_heads})"
        found.problem(f"{path}.max_deeplab.memory.transformer_filters", expected, memory.transformer_filters)
    kmax = options.max_deeplab.kmax
    needs_aspp = (
        meta is not None
        and meta not in config_deeplab.WITHOUT_DECODER
        and not (is_kmax(options) and not kmax.auxiliary_semantic_decoder)
    )
    if needs_aspp:
        _check_atrous(f"{path}.decoder", options.decoder, found)
    for name in ("panoptic_deeplab", "motion_deeplab", "vip_deeplab"):
        instance = getattr(options, name).instance
        if instance.HasField("instance_decoder_override") and instance.enable:
            override = instance.instance_decoder_override
            _check_atrous(f"{path}.{name}.instance.instance_decoder_override", override, found)


def _check_backbone(options: model_pb2.ModelOptions.BackboneOptions, found: Findings) -> None:
    from deeplab2_kmax import backbones
    from deeplab2_kmax.backbones import fixed_options

    if len(options.window_size) not in (0, 2):
        expected = "two numbers, for stages 4 and 5"
        found.problem("model_options.backbone.window_size", expected, options.window_size)
    for field in ("rfp_channels", "rfp_shared"):
        if options.HasField(field) and options.rfp_steps == 1:
            found.problem(
                f"model_options.backbone.{field}", "nothing without rfp_steps of 2 or more", getattr(options, field)
            )
    if options.rfp_channels % 4:
        found.problem("model_options.backbone.rfp_channels", "a multiple of 4", options.rfp_channels)
    allowed = backbones.FIXED_OPTIONS.get(options.name.lower(), fixed_options.COMMON)
    for field, values in allowed.items():
        value = getattr(options, field)
        if value not in values:
            expected = f"{fixed_options.choices(values)} with the backbone {options.name!r}"
            found.problem(f"model_options.backbone.{field}", expected, value)


def _check_start(options: model_pb2.ModelOptions, found: Findings) -> None:
    """The weights that training starts from."""
    from deeplab2_kmax.checkpoints import sources

    written_by, formats = options.backbone.pretrained_format, {source.format for source in sources.SOURCES}
    if written_by and written_by not in formats:
        path = "model_options.backbone.pretrained_format"
        found.problem(path, f"one of {', '.join(sorted(formats))}", repr(written_by))
    if written_by and not options.backbone.pretrained_weights and not options.initial_checkpoint:
        found.warnings.append("model_options.backbone.pretrained_format is not used without pretrained_weights")
    for field in ("skip_from_initial_checkpoint", "allow_partial_backbone"):
        if getattr(options, field) and not options.initial_checkpoint:
            found.warnings.append(f"model_options.{field} is not used without initial_checkpoint")


def _check_atrous(path: str, decoder: model_pb2.DecoderOptions, found: Findings) -> None:
    if not decoder.aspp_use_only_1x1_proj_conv and len(decoder.atrous_rates) != 3:
        found.problem(f"{path}.atrous_rates", "three rates, for example [6, 12, 18]", decoder.atrous_rates)


def _check_mask_transformer(options: model_pb2.ModelOptions, found: Findings) -> None:
    head, path = options.max_deeplab, "model_options.max_deeplab"
    for name in ("pixel_space_head", "auxiliary_semantic_head"):
        for field in ("output_channels", "head_channels"):
            if not getattr(getattr(head, name), field):
                found.missing(f"{path}.{name}.{field}", "a number of channels")
    if options.decoder.feature_key not in ("", "feature_semantic"):
        advice = "this model's semantic branch starts at feature_semantic"
        found.problem("model_options.decoder.feature_key", "'feature_semantic'", options.decoder.feature_key, advice)
    for index, level in enumerate(head.auxiliary_low_level):
        for field in ("feature_key", "channels_project"):
            if not getattr(level, field):
                what = "a feature, for example 'res2'" if field == "feature_key" else "a number of channels"
                found.missing(f"{path}.auxiliary_low_level[{index}].{field}", what)
    if len(options.decoder.aspp_pool_size) not in (0, 2):
        expected = "[height, width], or nothing for the whole map"
        found.problem("model_options.decoder.aspp_pool_size", expected, options.decoder.aspp_pool_size)


def _check_kmax(options: model_pb2.ModelOptions, found: Findings) -> None:
    head, kmax = options.max_deeplab, options.max_deeplab.kmax
    path = "model_options.max_deeplab"
    if kmax.auxiliary_semantic_decoder and not head.auxiliary_low_level:
        advice = "or set kmax.auxiliary_semantic_decoder: false"
        found.missing(f"{path}.auxiliary_low_level", "the low levels of the auxiliary semantic decoder", advice)
    levels = {4: 4, 2: 5}.get(kmax.highest_stride)
    if levels and len(kmax.pixel_decoder_blocks) != levels:
        expected = f"{levels} numbers, strides 32 to {kmax.highest_stride}"
        found.problem(f"{path}.kmax.pixel_decoder_blocks", expected, kmax.pixel_decoder_blocks)
    if len(kmax.transformer_decoder_blocks) != 3:
        expected = "3 numbers, strides 32, 16, 8"
        found.problem(f"{path}.kmax.transformer_decoder_blocks", expected, kmax.transformer_decoder_blocks)
    if kmax.num_heads > 0 and kmax.transformer_decoder_filters % kmax.num_heads:
        expected = f"a multiple of num_heads ({kmax.num_heads})"
        found.problem(f"{path}.kmax.transformer_decoder_filters", expected, kmax.transformer_decoder_filters)


def _check_remax(config: config_pb2.ExperimentOptions, found: Findings) -> None:
    options, losses = config.model_options.max_deeplab, config.trainer_options.loss_options
    path, remax = "model_options.max_deeplab.remax", options.remax
    if options.HasField("cmt"):
        found.problem(path, "nothing beside max_deeplab.cmt: ReMaX trains kMaX-DeepLab", "a message")
    blocks = sum(options.kmax.transformer_decoder_blocks)
    for index in remax.remask_blocks:
        if index > blocks:
            expected = f"blocks of the transformer decoder, 0 to {blocks - 1}, or {blocks} for the final prediction"
            found.problem(f"{path}.remask_blocks", expected, remax.remask_blocks)
    if remax.remask and config_values.losses(losses) and not losses.HasField("semantic_loss"):
        found.missing(
            "trainer_options.loss_options.semantic_loss", "the loss that max_deeplab.remax.remask learns from"
        )
    if not remax.remask and not remax.reclass:
        found.warnings.append(f"{path} changes nothing: remask and reclass are both false")


def _check_solver(options: trainer_pb2.TrainerOptions, found: Findings) -> None:
    solver, path = options.solver_options, "trainer_options.solver_options"
    if solver.warmup_steps and solver.warmup_steps >= solver.training_number_of_steps:
        expected = f"fewer than training_number_of_steps ({solver.training_number_of_steps})"
        found.problem(f"{path}.warmup_steps", expected, solver.warmup_steps)
    if solver.poly_end_learning_rate > solver.base_learning_rate:
        expected = f"at most base_learning_rate ({solver.base_learning_rate:g})"
        found.problem(f"{path}.poly_end_learning_rate", expected, solver.poly_end_learning_rate)
    if solver.weight_decay and solver.optimizer == "adamw":
        found.warnings.append(f"{path}.weight_decay has no effect with adamw; use adamw_weight_decay")
    if solver.adamw_weight_decay and solver.optimizer != "adamw":
        found.warnings.append(f"{path}.adamw_weight_decay has no effect with {solver.optimizer}")
    if solver.HasField("clip_gradient_norm") and not solver.use_gradient_clipping:
        found.warnings.append(f"{path}.clip_gradient_norm has no effect without use_gradient_clipping: true")


def _check_data(section: str, config: config_pb2.ExperimentOptions, found: Findings) -> None:
    from deeplab2_kmax.data import datasets

    data: dataset_pb2.DatasetOptions = getattr(config, section)
    model = config.model_options
    stride = config_values.KMAX_STRIDE if is_kmax(model) else model.backbone.output_stride
    crop = list(data.crop_size)
    if crop and (len(crop) != 2 or any((side - 1) % stride for side in crop)):
        near = [max(1, round((side - 1) / stride)) * stride + 1 for side in crop]
        advice = f"nearest: {near}" if len(crop) == 2 else ""
        found.problem(f"{section}.crop_size", f"[height, width], each k * {stride} + 1", crop, advice)
    for name in ("min_resize_value", "max_resize_value"):
        if len(getattr(data, name)) > 2:
            found.problem(f"{section}.{name}", "at most two values, [height, width]", getattr(data, name))
    limits = list(data.max_resize_value) * (1 if len(data.max_resize_value) == 2 else 2)
    if len(crop) == len(limits) == 2 and min(limits) > 0 and any(high > side for high, side in zip(limits, crop)):
        found.problem(f"{section}.max_resize_value", f"at most the crop size {crop}", data.max_resize_value)
    if data.augmentations.min_scale_factor > data.augmentations.max_scale_factor:
        expected = f"at most max_scale_factor ({data.augmentations.max_scale_factor:g})"
        found.problem(f"{section}.augmentations.min_scale_factor", expected, data.augmentations.min_scale_factor)
    for number, part in enumerate(data.mixture):
        _check_dataset(f"{section}.mixture[{number}].dataset", part.dataset, found)
    if data.mixture and section == "eval_dataset_options":
        found.problem(f"{section}.mixture", "file_pattern: evaluation takes one data set at a time", "a mixture")
    frames = "use_two_frames" if data.use_two_frames else "use_next_frame" if data.use_next_frame else None
    if frames and model.HasField("max_deeplab"):
        found.problem(f"{section}.{frames}", "false: max_deeplab takes single images", True)
    if frames and data.augmentations.HasField("panoptic_copy_paste"):
        found.problem(f"{section}.augmentations.panoptic_copy_paste", f"nothing beside {frames}", "a message")
    if f"{section}.dataset" not in found.problems and data.dataset and "${" not in data.dataset:
        _check_classes(section, config, datasets.lookup(data.dataset), found)


def _check_classes(section: str, config: config_pb2.ExperimentOptions, dataset: Any, found: Findings) -> None:
    model, data = config.model_options, getattr(config, section)
    meta = model.WhichOneof("meta_architecture")
    if meta is not None:
        options = getattr(model, meta)
        path = {"max_deeplab": "auxiliary_semantic_head.output_channels"}.get(meta, "semantic_head.output_channels")
        path = "num_classes" if "num_classes" in options.DESCRIPTOR.fields_by_name else path
        channels = options
        for name in path.split("."):
            channels = getattr(channels, name)
        if channels and channels != dataset.num_classes:
            expected = f"{dataset.num_classes}, the classes of {section}.dataset {dataset.name!r}"
            found.problem(f"model_options.{meta}.{path}", expected, channels)
    paste = data.augmentations.panoptic_copy_paste.panoptic_copy_paste_scale > 0
    # Instances of one class are numbered below the divisor; copy-paste counts the pasted ones down from its end.
    limit = dataset.label_divisor // 2 if paste else dataset.label_divisor - 1
    if meta == "max_deeplab" and data.max_thing_id > limit:
        expected = f"at most {limit}: the label divisor of {dataset.name!r} is {dataset.label_divisor}"
        found.problem(f"{section}.max_thing_id", expected, data.max_thing_id)
    for owner, applies in (("kmax", is_kmax(model)), ("memory", is_max(model))):
        slots = getattr(model.max_deeplab, owner).num_mask_slots
        if applies and slots >= dataset.label_divisor:
            expected = f"fewer than the label divisor of {dataset.name!r}, {dataset.label_divisor}"
            found.problem(f"model_options.max_deeplab.{owner}.num_mask_slots", expected, slots)


def _warn_of_ignored(config: config_pb2.ExperimentOptions, found: Findings) -> None:
    evaluator, model = config.evaluator_options, config.model_options
    if evaluator.HasField("maskwise_postprocessing") and evaluator.transformer_post_processing != "maskwise":
        found.warnings.append(
            "evaluator_options.maskwise_postprocessing is not used by transformer_post_processing 'pixelwise'"
        )
    for (owner, field), switch in config_values.NEEDS_SWITCH.items():
        options = getattr(model.max_deeplab, owner)
        if field in (given.name for given, _ in options.ListFields()) and not getattr(options, switch):
            found.warnings.append(f"model_options.max_deeplab.{owner}.{field} is not used with {switch}: false")
    if config.eval_dataset_options.HasField("augmentations"):
        found.warnings.append("eval_dataset_options.augmentations is not used: evaluation does not augment")
    if not evaluator.save_raw_predictions:
        for name in ("raw_formats", "raw_panoptic_format"):
            if name in (field.name for field, _ in evaluator.ListFields()):
                found.warnings.append(f"evaluator_options.{name} is not used without save_raw_predictions: true")
    if evaluator.HasField("best_checkpoint_higher_is_better") and not evaluator.best_checkpoint_metric:
        name = "evaluator_options.best_checkpoint_higher_is_better"
        found.warnings.append(f"{name} is not used without best_checkpoint_metric")
    if not is_kmax(model) and not is_max(model):
        return
    family = "kMaX-DeepLab" if is_kmax(model) else "MaX-DeepLab"
    name = model.backbone.name
    for path, harmless in config_values.IGNORED_BY_KMAX.items():
        if is_max(model) and path.startswith("model_options.backbone."):
            continue
        value = config_values.given(config, path)
        if value is not None and (list(value) if config_values.is_repeated(value) else value) != harmless:
            found.warnings.append(f"{path} is not used by {family} ({name})")
    if model.backbone.pretrained_weights and is_max(model):
        path = "model_options.backbone.pretrained_weights"
        found.problem(path, f"nothing with {name}", model.backbone.pretrained_weights, "use initial_checkpoint")
    crop = list(config.train_dataset_options.crop_size)
    stride = model.max_deeplab.kmax.highest_stride if is_kmax(model) else config_values.MAX_STRIDE
    if len(crop) == 2 and stride > 0:
        pixels = math.prod((side - 1) // stride + 1 for side in crop)
        for field in ("instance_discrimination_sample_k", "semantic_sample_k"):
            samples = getattr(model.max_deeplab, field)
            if samples > pixels:
                path = f"model_options.max_deeplab.{field}"
                found.warnings.append(
                    f"{path} is {samples}, but the masks of a crop have {pixels} pixels: all are taken"
                )
