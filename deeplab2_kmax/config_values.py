"""Which values every config field can have: tables, and the walk that applies them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from google.protobuf.message import Message

from deeplab2_kmax import registry
from deeplab2_kmax.config_text import ConfigError
from deeplab2_kmax.protos import trainer_pb2

KMAX_STRIDE = 32
# The backbones of MaX-DeepLab, and the stride of its masks.
MEMORY_BACKBONES = ("max_deeplab_s", "max_deeplab_l")
MAX_STRIDE = 4
FEATURE_KEYS = tuple(f"{kind}{level}" for kind in ("res", "stage") for level in range(1, 6)) + ("feature_semantic",)

# Names of DeepLab2; which of them this version has stands in backbones.BACKBONES.
_MOAT = [f"moat{size}" for size in ("0_pretrain_224", "1_pretrain_224")]
_MOAT_22K = ["moat2_finetune_384", "moat3_finetune_512", "moat4_finetune_512"]
_TINY_MOAT = [f"tiny_moat{size}_pretrain_256" for size in range(4)]
_MOAT_NAMES = [
    f"{stem}_{position}{data}"
    for stems, data in ((_MOAT, "1k"), (_MOAT_22K, "22k"), (_TINY_MOAT, "1k"))
    for stem in stems
    for position in ("", "no_pe_")
]
DEEPLAB2_BACKBONES = (
    *("resnet50", "resnet50_beta", "wide_resnet41", "swidernet", "axial_swidernet", "axial_resnet_s", "axial_resnet_l"),
    *("axial_deeplab_s", "axial_deeplab_l", "max_deeplab_s", "max_deeplab_l", "max_deeplab_s_backbone"),
    *("max_deeplab_l_backbone", "mobilenet_v3_small", "mobilenet_v3_large", "kmax_resnet50", "kmax_axial_resnet50"),
    *(f"kmax_convnext_{size}" for size in ("tiny", "small", "base", "large", "xlarge")),
    *(f"kmax_{name}" for name in _MOAT_NAMES),
)

_CONV_TYPES = ("depthwise_separable_conv", "standard_conv")
_PASTE = ("random", "none", "all")
CHOICES: dict[tuple[str, str], tuple[Any, ...]] = {  # (message, field): values
    ("BackboneOptions", "output_stride"): (4, 8, 16, 32),
    ("BackboneOptions", "drop_path_schedule"): ("constant", "linear"),
    ("BackboneOptions", "use_sac_beyond_stride"): (-1, 0, 2, 4, 8, 16, 32),
    ("BackboneOptions", "squeeze_and_excite_gate"): ("sigmoid", "hard_sigmoid"),
    ("DecoderOptions", "feature_key"): FEATURE_KEYS,
    ("DecoderOptions", "decoder_conv_type"): _CONV_TYPES,
    ("LowLevelOptions", "feature_key"): FEATURE_KEYS,
    ("LRASPPOptions", "feature_key"): FEATURE_KEYS,
    ("LRASPPOptions", "low_level_feature_key"): FEATURE_KEYS,
    ("SPGNetOptions", "num_stages"): (1, 2),
    ("HeadOptions", "head_conv_type"): _CONV_TYPES,
    ("KMaXOptions", "highest_stride"): (2, 4),
    ("KMaXOptions", "pixel_decoder_axial_beyond_stride"): (0, 2, 4, 8, 16, 32),
    ("SolverOptions", "learning_policy"): ("poly", "cosine"),
    ("SolverOptions", "optimizer"): ("adam", "sgd", "adamw"),
    ("SingleLossOptions", "name"): (
        *("", "softmax_cross_entropy", "l1", "mse", "depth_loss", "sigmoid_cross_entropy"),
    ),
    ("EvaluatorOptions", "raw_panoptic_format"): ("two_channel_png", "three_channel_png", "two_channel_numpy_array"),
    ("EvaluatorOptions", "transformer_post_processing"): ("pixelwise", "maskwise"),
    ("EvaluatorOptions", "raw_formats"): ("deeplab2", "coco", "cityscapes", "step", "dvps"),
    ("EvaluatorOptions", "more_metrics"): (
        *("panoptic", "boundary_panoptic", "next_frame_panoptic", "instance", "parsing_covering", "semantic"),
        *("video_panoptic", "step", "depth_video_panoptic", "depth_step", "depth", "normals"),
    ),
    ("DatasetOptions", "cameras_to_use"): ("side_left", "front_left", "front", "front_right", "side_right", "panorama"),
    ("AugmentationOptions", "autoaugment_policy_name"): (
        "",
        "simple_classification_policy",
        "simple_classification_policy_magnitude_scale_0.2",
    ),
    ("PanopticCopyPasteOptions", "panoptic_copy_paste_thing_option"): _PASTE,
    ("PanopticCopyPasteOptions", "panoptic_copy_paste_stuff_option"): _PASTE,
    ("PanopticCopyPasteOptions", "panoptic_copy_paste_void_option"): _PASTE,
}


class _Range(NamedTuple):
    text: str
    holds: Callable[[Any], bool]


_POSITIVE = _Range("a number > 0", lambda value: value > 0)
_NOT_NEGATIVE = _Range("a number >= 0", lambda value: value >= 0)
_SHARE = _Range("a number in (0, 1]", lambda value: 0 < value <= 1)
_PROBABILITY = _Range("a number in [0, 1]", lambda value: 0 <= value <= 1)
_HALF = _Range("a number in [0, 0.5]", lambda value: 0 <= value <= 0.5)
_BELOW_ONE = _Range("a number in [0, 1)", lambda value: 0 <= value < 1)
_COUNT_OR_ALL = _Range("a number > 0, or -1 for all", lambda value: value > 0 or value == -1)
_STAGE = _Range("a stage, 1 to 5", lambda value: 1 <= value <= 5)
_TIMEOUT = _Range("a number >= 0, or -1 for no limit", lambda value: value >= -1)

_RANGES: dict[str, dict[_Range, str]] = {  # message: range: fields
    "BackboneOptions": {
        _SHARE: "drop_path_keep_prob",
        _NOT_NEGATIVE: "window_size",
        _STAGE: "recompute_stages",
        _POSITIVE: "rfp_steps rfp_channels stem_width_multiplier backbone_width_multiplier backbone_layer_multiplier",
    },
    "DecoderOptions": {_POSITIVE: "decoder_channels aspp_channels atrous_rates aspp_pool_size"},
    "LowLevelOptions": {_POSITIVE: "channels_project"},
    "HeadOptions": {_POSITIVE: "output_channels head_channels"},
    "DeeplabV3Options": {_POSITIVE: "num_classes"},
    "DeeplabV3PlusOptions": {_POSITIVE: "num_classes"},
    "LRASPPOptions": {_POSITIVE: "num_classes channels pool_crop_size pool_stride"},
    "SPGNetOptions": {_POSITIVE: "num_classes decoder_channels"},
    "MaXDeepLabOptions": {
        _NOT_NEGATIVE: "instance_discrimination_sample_k semantic_sample_k",
        _POSITIVE: "instance_discrimination_sample_temperature semantic_sample_temperature",
        _SHARE: "transformer_decoder_drop_path_keep_prob",
    },
    "KMaXOptions": {
        _POSITIVE: "num_mask_slots pixel_decoder_blocks pixel_decoder_width_multiplier pixel_decoder_dilation "
        "transformer_decoder_blocks cluster_channels transformer_decoder_filters "
        "transformer_decoder_feed_forward_channels num_heads",
    },
    "MemoryOptions": {
        _POSITIVE: "num_mask_slots channels transformer_filters feed_forward_channels num_heads",
    },
    "CMTOptions": {_NOT_NEGATIVE: "reference_mask_loss_weight"},
    "ReMaXOptions": {_NOT_NEGATIVE: "remask_blocks", _PROBABILITY: "reclass_eta"},
    "TrainerOptions": {
        _POSITIVE: "num_checkpoints_to_keep save_checkpoints_steps save_summaries_steps steps_per_loop",
        _NOT_NEGATIVE: "seed",
    },
    "SolverOptions": {
        _NOT_NEGATIVE: "base_learning_rate poly_learning_power poly_end_learning_rate warmup_steps weight_decay "
        "backbone_learning_rate_multiplier adamw_weight_decay",
        _POSITIVE: "clip_gradient_norm training_number_of_steps batchnorm_epsilon gradient_accumulation_steps",
        _PROBABILITY: "batchnorm_momentum",
        _BELOW_ONE: "ema_decay",
    },
    "SingleLossOptions": {_NOT_NEGATIVE: "weight", _SHARE: "top_k_percent"},
    "EvaluatorOptions": {
        _COUNT_OR_ALL: "eval_steps keep_k_centers",
        _TIMEOUT: "continuous_eval_timeout",
        _POSITIVE: "eval_interval nms_kernel eval_scales keypoint_distance_limit",
        _NOT_NEGATIVE: "stuff_area_limit thing_area_limit num_vis_samples",
        _PROBABILITY: "center_score_threshold transformer_class_confidence_threshold pixel_confidence_threshold",
    },
    "MaskwisePostProcessingOptions": {
        _PROBABILITY: "transformer_class_confidence_threshold_thing transformer_class_confidence_threshold_stuff "
        "overlapping_threshold",
        _NOT_NEGATIVE: "reorder_class_weight reorder_mask_weight",
    },
    "ColorJitterOptions": {
        _PROBABILITY: "probability",
        _HALF: "hue",
        _NOT_NEGATIVE: "brightness contrast saturation blur_sigma",
    },
    "MixtureOptions": {_POSITIVE: "weight"},
    "DatasetOptions": {
        _BELOW_ONE: "skip_corrupt_budget",
        _POSITIVE: "batch_size crop_size sigma keypoint_radius max_thing_id",
        _NOT_NEGATIVE: "resize_factor small_instance_threshold small_instance_weight verify_checksums_gib",
    },
    "AugmentationOptions": {
        _POSITIVE: "min_scale_factor max_scale_factor",
        _NOT_NEGATIVE: "scale_factor_step_size",
    },
    "PanopticCopyPasteOptions": {_NOT_NEGATIVE: "panoptic_copy_paste_scale"},
}
RANGES = {
    (message, field): valid
    for message, ranges in _RANGES.items()
    for valid, fields in ranges.items()
    for field in fields.split()
}

LOSS_NAMES = {  # the one name a loss can have; the other losses have none
    "semantic_loss": "softmax_cross_entropy",
    "guide_loss": "softmax_cross_entropy",
    "center_loss": "mse",
    "regression_loss": "l1",
    "motion_loss": "l1",
    "next_regression_loss": "l1",
    "depth_loss": "depth_loss",
    "keypoint_loss": "sigmoid_cross_entropy",
    "short_offset_loss": "l1",
    "middle_offset_loss": "l1",
    "long_offset_loss": "l1",
}

# Fields that DeepLab2's kMaX-DeepLab reads over, and the one value that changes nothing.
IGNORED_BY_KMAX: dict[str, Any] = {
    "model_options.backbone.drop_path_schedule": "linear",
    "evaluator_options.center_score_threshold": None,
    "evaluator_options.nms_kernel": None,
    "evaluator_options.keep_k_centers": None,
    "evaluator_options.merge_as_compiled_kernel": None,
    "trainer_options.loss_options.guide_loss": None,
    "trainer_options.loss_options.center_loss": None,
    "trainer_options.loss_options.regression_loss": None,
    "trainer_options.loss_options.motion_loss": None,
    "trainer_options.loss_options.next_regression_loss": None,
    "trainer_options.loss_options.depth_loss": None,
    "trainer_options.loss_options.keypoint_loss": None,
    "trainer_options.loss_options.short_offset_loss": None,
    "trainer_options.loss_options.middle_offset_loss": None,
    "trainer_options.loss_options.long_offset_loss": None,
    "train_dataset_options.sigma": 8,
    "train_dataset_options.keypoint_radius": 32,
    "evaluator_options.keypoint_distance_limit": None,
}

# Fields of these messages in max_deeplab that only a switch beside them brings into use.
NEEDS_SWITCH = {
    ("cmt", "reference_mask_loss_weight"): "reference_masks",
    ("remax", "remask_blocks"): "remask",
    ("remax", "reclass_eta"): "reclass",
}


class Findings:
    """Problems and warnings of one config, by field path."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}  # field path: line
        self.warnings: list[str] = []

    def problem(self, path: str, expected: str, got: object, advice: str = "") -> None:
        line = f"{path}: expected {expected}, got {_show(got)}{'; ' + advice if advice else ''}"
        self.problems.setdefault(path, line)

    def unknown(self, path: str, kind: str, name: str, names: Any) -> None:
        self.problem(path, f"the name of {kind}", name, f"nearest: {', '.join(registry.nearest(name.lower(), names))}")

    def missing(self, path: str, what: str, advice: str = "") -> None:
        self.problems.setdefault(path, f"{path}: expected {what}, it is not set{'; ' + advice if advice else ''}")

    def raise_first(self) -> None:
        if self.problems:
            first, *others = self.problems
            more = f" (also wrong: {', '.join(others)})" if others else ""
            raise ConfigError(self.problems[first] + more)


def _show(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int)):
        return repr(value)
    return str(list(value)) if hasattr(value, "__iter__") else str(value)


def check_values(config: Message, found: Findings) -> None:
    """Checks every field that is set, by itself: finite numbers, ranges and choices."""
    for path, message, name, value in fields(config):
        key = (message.DESCRIPTOR.name, name)
        if isinstance(value, str) and "${" in value:
            continue
        if isinstance(value, float) and not math.isfinite(value):
            found.problem(path, "a finite number", value)
        elif key in RANGES and not RANGES[key].holds(value):
            found.problem(path, RANGES[key].text, value)
        elif key in CHOICES and value not in CHOICES[key]:
            choices = [str(choice) for choice in CHOICES[key] if choice != ""]
            near = registry.nearest(value.lower(), choices) if isinstance(value, str) else choices
            found.problem(
                path, f"one of {', '.join(choices)}", value, f"nearest: {near[0]}" if len(near) < len(choices) else ""
            )


def fields(message: Message, path: str = "") -> Iterator[tuple[str, Message, str, Any]]:
    """(path, message, field name, value) of every scalar that is set; the values of a repeated one singly."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        if is_repeated(value):
            for index, item in enumerate(value):
                if isinstance(item, Message):
                    yield from fields(item, f"{here}[{index}]")
                else:
                    yield f"{here}[{index}]", message, field.name, item
        elif isinstance(value, Message):
            yield from fields(value, here)
        else:
            yield here, message, field.name, value


def given(config: Message, path: str) -> Any:
    """The value of the field at a path such as "model_options.decoder.feature_key", None where it is not set."""
    *parents, leaf = path.split(".")
    message: Any = config
    for parent in parents:
        message = getattr(message, parent)
    value = getattr(message, leaf)
    is_given = len(value) > 0 if is_repeated(value) else message.HasField(leaf)
    return value if is_given else None


def is_repeated(value: Any) -> bool:
    """Whether the value of a field is that of a repeated field."""
    return not isinstance(value, (Message, str, bytes, bool, int, float))


def losses(options: trainer_pb2.LossOptions) -> list[tuple[str, trainer_pb2.LossOptions.SingleLossOptions]]:
    """(field name, options) of the losses that are set."""
    single = trainer_pb2.LossOptions.SingleLossOptions
    return [(field.name, value) for field, value in options.ListFields() if isinstance(value, single)]
