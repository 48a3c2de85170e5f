"""What can be wrong with the config of a model of pixels: DeepLabV3, DeepLabV3+, Panoptic-DeepLab and its kin.

What such a model does not use is an error, because none of DeepLab2's own files sets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from deeplab2_kmax import config_values
from deeplab2_kmax.config_values import Findings
from deeplab2_kmax.protos import config_pb2, model_pb2

ARCHITECTURES = (
    *("deeplab_v3", "deeplab_v3_plus", "panoptic_deeplab", "motion_deeplab", "vip_deeplab", "deeper_lab"),
    *("lr_aspp", "spgnet"),
)
# Those that do not read `decoder`.
WITHOUT_DECODER = ("lr_aspp", "spgnet")
# Those with an instance branch, which Panoptic-DeepLab alone can do without.
_WITH_INSTANCES = ("panoptic_deeplab", "motion_deeplab", "vip_deeplab")

_SEMANTIC_LOSSES = ("semantic_loss",)
_INSTANCE_LOSSES = (*_SEMANTIC_LOSSES, "center_loss", "regression_loss")
# Of models of two frames: the option that adds the other one, and what else they learn from.
_OTHER_FRAME = {"motion_deeplab": "use_two_frames", "vip_deeplab": "use_next_frame"}
_VIDEO_LOSSES = {"motion_deeplab": ("motion_loss",), "vip_deeplab": ("next_regression_loss",)}
_KEYPOINT_LOSSES = (
    *_SEMANTIC_LOSSES,
    *("keypoint_loss", "short_offset_loss", "middle_offset_loss", "long_offset_loss"),
)
_OF_MASK_TRANSFORMERS = (
    "evaluator_options.thing_area_limit",
    "evaluator_options.transformer_class_confidence_threshold",
    "evaluator_options.pixel_confidence_threshold",
    "evaluator_options.transformer_post_processing",
    "evaluator_options.maskwise_postprocessing",
    "trainer_options.loss_options.unmatched_slot_weight",
    "trainer_options.loss_options.matching_ignores_crowd",
    *(
        f"{section}.{field}"
        for section in ("train_dataset_options", "eval_dataset_options")
        for field in ("thing_id_mask_annotations", "max_thing_id")
    ),
)
_OF_KEYPOINTS = (
    "evaluator_options.keypoint_distance_limit",
    "train_dataset_options.keypoint_radius",
    "eval_dataset_options.keypoint_radius",
)
_OF_CENTERS = ("train_dataset_options.sigma", "eval_dataset_options.sigma")
_OF_INSTANCES = (
    "evaluator_options.center_score_threshold",
    "evaluator_options.nms_kernel",
    "evaluator_options.keep_k_centers",
    "evaluator_options.stuff_area_limit",
    "evaluator_options.merge_as_compiled_kernel",
)


def is_deeplab(options: model_pb2.ModelOptions) -> bool:
    """Whether a model is one of ARCHITECTURES."""
    return options.WhichOneof("meta_architecture") in ARCHITECTURES


def fill_pool_sizes(config: config_pb2.ExperimentOptions) -> None:
    """Sets the windows of ASPP's image pooling that the config leaves open, in place.

    They have the size of the training crop's features, in evaluation too, as in DeepLab2.
    """
    crop = config.train_dataset_options.crop_size
    if not is_deeplab(config.model_options) or len(crop) != 2:
        return
    if config.model_options.HasField("lr_aspp") and not config.model_options.lr_aspp.pool_crop_size:
        config.model_options.lr_aspp.pool_crop_size.extend(crop)
    stride = config.model_options.backbone.output_stride
    for _, decoder in _decoders(config.model_options):
        if not decoder.aspp_pool_size and not decoder.aspp_use_only_1x1_proj_conv and stride > 0:
            decoder.aspp_pool_size.extend((side - 1) // stride + 1 for side in crop)


def check(config: config_pb2.ExperimentOptions, found: Findings) -> None:
    """Checks a config whose model is one of ARCHITECTURES."""
    options = config.model_options
    architecture = options.WhichOneof("meta_architecture")
    own = getattr(options, architecture)
    path = f"model_options.{architecture}"
    for where, decoder in _decoders(options):
        _check_decoder(where, decoder, found)
    if options.backbone.name.lower() in config_values.MEMORY_BACKBONES:
        found.problem("model_options.backbone.name", "a backbone without a memory", options.backbone.name)
    if architecture == "deeplab_v3_plus":
        _check_low_levels(f"{path}.low_level", [own.low_level], found)
    if architecture in _WITH_INSTANCES:
        _check_low_levels(f"{path}.low_level", own.low_level, found)
        _check_head(f"{path}.semantic_head", own.semantic_head, None, found)
    elif architecture == "deeper_lab":
        _check_low_levels(f"{path}.low_level", [own.low_level], found)
        _check_head(f"{path}.semantic_head", own.semantic_head, None, found)
        _check_deeper_lab(config, found)
    else:
        _require(f"{path}.num_classes", own.num_classes, "the number of classes", found)
    if architecture in WITHOUT_DECODER and options.HasField("decoder"):
        found.problem("model_options.decoder", f"nothing: {architecture} does not use it", "a message")
    if architecture == "lr_aspp":
        _check_lr_aspp(path, own, found)
    if architecture == "spgnet":
        _check_spgnet(path, config, found)
    finds_instances = architecture in _WITH_INSTANCES and own.instance.enable
    if finds_instances:
        _check_instance(f"{path}.instance", own.instance, found)
    if architecture == "panoptic_deeplab" and own.HasField("depth_head"):
        found.problem(f"{path}.depth_head", "nothing: it belongs to vip_deeplab", "a message")
    if finds_instances and architecture != "vip_deeplab" and own.instance.HasField("next_regression_head"):
        found.problem(f"{path}.instance.next_regression_head", "nothing: it belongs to vip_deeplab", "a message")
    if architecture == "motion_deeplab":
        _check_motion(path, own, found)
    if architecture == "vip_deeplab":
        _check_vip(path, config, found)
    _check_unused(config, architecture, finds_instances, found)


def _check_instance(path: str, instance: model_pb2.InstanceOptions, found: Findings) -> None:
    _check_low_levels(f"{path}.low_level_override", instance.low_level_override, found)
    _check_head(f"{path}.center_head", instance.center_head, 1, found)
    _check_head(f"{path}.regression_head", instance.regression_head, 2, found)


def _check_motion(path: str, own: model_pb2.ModelOptions.MotionDeepLabOptions, found: Findings) -> None:
    if not own.instance.enable:
        found.problem(f"{path}.instance.enable", "true: motion_deeplab follows instances", False)
    _check_head(f"{path}.motion_head", own.motion_head, 2, found)


def _check_vip(path: str, config: config_pb2.ExperimentOptions, found: Findings) -> None:
    own = config.model_options.vip_deeplab
    if not own.instance.enable:
        found.problem(f"{path}.instance.enable", "true: vip_deeplab follows instances", False)
    _check_head(f"{path}.instance.next_regression_head", own.instance.next_regression_head, 2, found)
    if own.HasField("depth_head"):
        _check_head(f"{path}.depth_head", own.depth_head, 1, found, is_depth=True)


def _check_lr_aspp(path: str, own: model_pb2.ModelOptions.LRASPPOptions, found: Findings) -> None:
    for field in ("feature_key", "low_level_feature_key"):
        if getattr(own, field) == "feature_semantic":
            found.problem(f"{path}.{field}", "a feature of the backbone, for example 'res5'", getattr(own, field))
    for field, what in (("pool_crop_size", "[height, width]"), ("pool_stride", "[down, right]")):
        if len(getattr(own, field)) not in (0, 2):
            found.problem(f"{path}.{field}", f"{what}, or nothing", getattr(own, field))


def _check_spgnet(path: str, config: config_pb2.ExperimentOptions, found: Findings) -> None:
    own, losses = config.model_options.spgnet, config.trainer_options.loss_options
    if own.decoder_channels % 4:
        found.problem(f"{path}.decoder_channels", "a multiple of 4", own.decoder_channels)
    if own.num_stages == 2 and losses.HasField("semantic_loss") and not losses.HasField("guide_loss"):
        found.missing("trainer_options.loss_options.guide_loss", "the loss of the first of two stages")


def _check_deeper_lab(config: config_pb2.ExperimentOptions, found: Findings) -> None:
    low, high = config.model_options.deeper_lab.low_level.feature_key, config.model_options.decoder.feature_key
    levels = [int(name[-1]) for name in (low, high) if name[-1:].isdigit()]
    if len(levels) == 2 and 2 ** levels[0] >= min(2 ** levels[1], config.model_options.backbone.output_stride):
        expected = f"a feature finer than decoder.feature_key {high!r}"
        found.problem("model_options.deeper_lab.low_level.feature_key", expected, low)
    if config.evaluator_options.add_flipped_images:
        found.problem("evaluator_options.add_flipped_images", "false: a mirrored keypoint is another one", True)
    radius = config.train_dataset_options.keypoint_radius
    if config.HasField("eval_dataset_options") and config.eval_dataset_options.keypoint_radius != radius:
        path = "eval_dataset_options.keypoint_radius"
        found.problem(path, f"{radius:g}, as in train_dataset_options", config.eval_dataset_options.keypoint_radius)


def _check_unused(
    config: config_pb2.ExperimentOptions, architecture: str, finds_instances: bool, found: Findings
) -> None:
    finds_keypoints = architecture == "deeper_lab"
    unused = (*_OF_MASK_TRANSFORMERS, *(() if finds_instances else _OF_CENTERS))
    unused += (
        *(() if finds_keypoints else _OF_KEYPOINTS),
        *(() if finds_instances or finds_keypoints else _OF_INSTANCES),
    )
    for path in unused:
        value = config_values.given(config, path)
        if value is not None:
            what = architecture if finds_instances or finds_keypoints else f"{architecture} without instances"
            found.problem(
                path, f"nothing: {what} does not use it", "a message" if hasattr(value, "ListFields") else value
            )
    losses = (*(_INSTANCE_LOSSES if finds_instances else _SEMANTIC_LOSSES), *_VIDEO_LOSSES.get(architecture, ()))
    losses = _KEYPOINT_LOSSES if finds_keypoints else losses
    if architecture == "spgnet" and config.model_options.spgnet.num_stages == 2:
        losses = (*losses, "guide_loss")
    if architecture == "vip_deeplab" and config.model_options.vip_deeplab.HasField("depth_head"):
        losses = (*losses, "depth_loss")
    for field, _ in config_values.losses(config.trainer_options.loss_options):
        if field not in losses:
            expected = f"one of the losses that this model has: {', '.join(losses)}"
            found.problem(f"trainer_options.loss_options.{field}", expected, field)
    for section in ("train_dataset_options", "eval_dataset_options"):
        for frames in ("use_two_frames", "use_next_frame"):
            given, needed = getattr(getattr(config, section), frames), frames == _OTHER_FRAME.get(architecture)
            if given and not needed:
                other = _OTHER_FRAME.get(architecture)
                why = f"takes {other}" if other else "takes single images"
                found.problem(f"{section}.{frames}", f"false: {architecture} {why}", True)
            elif needed and not given and config.HasField(section):
                found.problem(f"{section}.{frames}", f"true: {architecture} takes a frame and another one", False)


def _decoders(options: model_pb2.ModelOptions) -> Iterator[tuple[str, model_pb2.DecoderOptions]]:
    architecture = options.WhichOneof("meta_architecture")
    if architecture in WITHOUT_DECODER:
        return
    yield "model_options.decoder", options.decoder
    if architecture not in _WITH_INSTANCES:
        return
    instance = getattr(options, architecture).instance
    if instance.enable and instance.HasField("instance_decoder_override"):
        path = f"model_options.{architecture}.instance.instance_decoder_override"
        yield path, instance.instance_decoder_override


def _check_decoder(path: str, decoder: model_pb2.DecoderOptions, found: Findings) -> None:
    if decoder.feature_key == "feature_semantic":
        found.problem(f"{path}.feature_key", "a feature of the backbone, for example 'res5'", decoder.feature_key)
    _require(f"{path}.feature_key", decoder.feature_key, "a feature, for example 'res5'", found)
    if len(decoder.aspp_pool_size) not in (0, 2):
        found.problem(f"{path}.aspp_pool_size", "[height, width], or nothing", decoder.aspp_pool_size)


def _check_low_levels(path: str, levels: Iterable[model_pb2.LowLevelOptions], found: Findings) -> None:
    for index, level in enumerate(levels):
        here = path if path.endswith(("plus.low_level", "deeper_lab.low_level")) else f"{path}[{index}]"
        _require(f"{here}.feature_key", level.feature_key, "a feature, for example 'res2'", found)
        _require(f"{here}.channels_project", level.channels_project, "a number of channels", found)
        if level.feature_key == "feature_semantic":
            found.problem(f"{here}.feature_key", "a feature of the backbone, for example 'res2'", level.feature_key)


def _check_head(
    path: str, head: model_pb2.HeadOptions, outputs: int | None, found: Findings, *, is_depth: bool = False
) -> None:
    _require(f"{path}.head_channels", head.head_channels, "a number of channels", found)
    _require(f"{path}.output_channels", head.output_channels, "a number of channels", found)
    if outputs is not None and head.output_channels != outputs:
        found.problem(f"{path}.output_channels", str(outputs), head.output_channels)
    lowest, highest = head.min_value_after_activation, head.max_value_after_activation
    if is_depth:
        if not 0 <= lowest < highest:
            expected = f"more than min_value_after_activation ({lowest:g}), which is 0 or more: metres"
            found.problem(f"{path}.max_value_after_activation", expected, highest)
        return
    for field in ("min_value_after_activation", "max_value_after_activation"):
        if head.HasField(field):
            found.problem(f"{path}.{field}", "nothing: it belongs to a depth head", getattr(head, field))


def _require(path: str, value: Any, what: str, found: Findings) -> None:
    if not value:
        found.missing(path, what)
