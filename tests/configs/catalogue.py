"""Writes out the textprotos that DeepLab2 ships, from the table deeplab2_catalogue.md and the examples below."""

import pathlib
import re

from google.protobuf import text_format

from deeplab2_kmax.data import datasets
from deeplab2_kmax.protos import config_pb2

TABLE = pathlib.Path(__file__).with_name("deeplab2_catalogue.md")
HEADER = "# proto-file: deeplab2/config.proto\n# proto-message: ExperimentOptions\n#\n# A comment.\n"

MODEL = "model_options."
SOLVER = "trainer_options.solver_options."
LOSSES = "trainer_options.loss_options."
PREFIXES = {  # of item names: paths in the config
    "decoder": [MODEL + "decoder"],
    "backbone": [MODEL + "backbone"],
    "solver": ["trainer_options.solver_options"],
    "trainer": ["trainer_options"],
    "evaluator": ["evaluator_options"],
    "train": ["train_dataset_options"],
    "eval": ["eval_dataset_options"],
    "both": ["train_dataset_options", "eval_dataset_options"],
    "aug": ["train_dataset_options.augmentations"],
    "semantic_loss": [LOSSES + "semantic_loss"],
    **{name: [MODEL + name] for name in ("max_deeplab", "panoptic_deeplab", "motion_deeplab", "vip_deeplab")},
}
SHORT = {
    "initial_checkpoint": [MODEL + "initial_checkpoint"],
    "lr": [SOLVER + "base_learning_rate"],
    "steps": [SOLVER + "training_number_of_steps"],
    "batch": ["train_dataset_options.batch_size"],
    "os": [MODEL + "backbone.output_stride"],
    "keep": [MODEL + "backbone.drop_path_keep_prob"],
}
POLICY = "train_dataset_options.augmentations.autoaugment_policy_name"
AUTOAUGMENT = {"AA1": "simple_classification_policy", "AA0.2": "simple_classification_policy_magnitude_scale_0.2"}

# The model-only examples: items in the notation of the table.
_V3 = "decoder.feature_key res5; decoder.atrous_rates [6, 12, 18]; train crop 1025x2049"
_MV3 = "mobilenet_v3_large; backbone.use_squeeze_and_excite true"
_INSTANCE = (
    "panoptic_deeplab.low_level res3:64 res2:32; panoptic_deeplab.semantic_head 19/256; decoder.feature_key res5; "
    "panoptic_deeplab.instance.low_level_override res3:32 res2:16; "
    "panoptic_deeplab.instance.instance_decoder_override.feature_key res5; "
    "panoptic_deeplab.instance.instance_decoder_override.decoder_channels 128; "
    "panoptic_deeplab.instance.center_head 1/32; panoptic_deeplab.instance.regression_head 2/32; "
    "decoder.atrous_rates [6, 12, 18]; panoptic_deeplab.instance.instance_decoder_override.atrous_rates [6, 12, 18]"
)
_MAX = (
    "decoder.feature_key feature_semantic; decoder.atrous_rates [6, 12, 18]; max_deeplab.pixel_space_head 128/256; "
    "max_deeplab.auxiliary_low_level res3:64 res2:32; max_deeplab.auxiliary_semantic_head 134/256; train crop 65x65"
)
EXAMPLES = {
    "example_cityscapes_deeplabv3": f"resnet50; {_V3}; model.deeplab_v3.num_classes 19",
    "example_cityscapes_deeplabv3_mv3l": f"{_MV3}; {_V3}; model.deeplab_v3.num_classes 19",
    "example_cityscapes_deeplabv3plus": f"resnet50; {_V3}; model.deeplab_v3_plus.low_level.feature_key res2; "
    "model.deeplab_v3_plus.low_level.channels_project 48; model.deeplab_v3_plus.num_classes 19",
    "example_cityscapes_panoptic_deeplab": f"resnet50; {_INSTANCE}; train crop 1025x2049",
    "example_cityscapes_panoptic_deeplab_mv3l": f"{_MV3}; {_INSTANCE}; train crop 1025x2049",
    "example_coco_kmax_meta_convnext": f"kmax_convnext_base; keep 0.5; {_MAX}",
    "example_coco_max_deeplab": f"max_deeplab_s; os 16; {_MAX}",
    "example_kitti-step_motion_deeplab": "resnet50; "
    + _INSTANCE.replace("panoptic_deeplab.", "motion_deeplab.")
    + "; motion_deeplab.motion_head 2/32",
}


def configs() -> dict[str, config_pb2.ExperimentOptions]:
    """Path below DeepLab2's `configs/` -> message, of all 62 files."""
    blocks, found = _blocks(), {}
    for section in TABLE.read_text().split("\n### configs/")[1:]:
        folder, _, body = section.partition("/\n")
        heading = re.search(r"^Blocks: (.*?)(?: \((.*)\))?\. Also: (.*)$", body, re.MULTILINE)
        shared = [*_split(heading[1]), *_split(heading[3])]
        rows = re.findall(r"^\| ([\w.]+) \| (.*?) ?\| (.*) \|$", body, re.MULTILINE)
        rows = [row for row in rows if row[0] not in ("File", "---")]
        rows += [(name, "", "") for name in re.findall(r"^One file: (\w+)\.textproto", body, re.MULTILINE)]
        for name, own_blocks, own in rows:
            items = [*_split(own_blocks), *shared, *_split(own)]
            config = _config(items, blocks)
            if heading[2]:  # "save_raw_predictions is not set"
                config.evaluator_options.ClearField(heading[2].split()[0])
            found[f"{folder}/{name}"] = config
    for name, items in EXAMPLES.items():
        found[f"example/{name}"] = _config(_split(items), blocks)
    return found


def text_of(path: str, config: config_pb2.ExperimentOptions) -> str:
    """A file as DeepLab2 writes it: headers, repeated values on several lines; one example is a bare ModelOptions."""
    message = config.model_options if path.endswith("example_kitti-step_motion_deeplab") else config
    return HEADER + text_format.MessageToString(message)


def _blocks() -> dict[str, list[str]]:
    rows = re.findall(r"^\| ([\w.-]+) \| (.*) \|$", TABLE.read_text().split("###")[0], re.MULTILINE)
    blocks = {name: _split(fields) for name, fields in rows if name not in ("Block", "---")}
    for architecture in ("pdl", "motion", "vip"):
        owner = {"pdl": "panoptic_deeplab", "motion": "motion_deeplab", "vip": "vip_deeplab"}[architecture]
        for name, rates in (("r3", "[3, 6, 9]"), ("r6", "[6, 12, 18]")):
            override = f"{owner}.instance.instance_decoder_override.atrous_rates {rates}"
            blocks[f"{architecture}-{name}"] = [f"decoder.atrous_rates {rates}", override]
    return blocks


def _split(items: str) -> list[str]:
    return [item.strip() for item in re.split(r"[;,](?![^\[]*\])", items) if item.strip()]


def _config(items: list[str], blocks: dict[str, list[str]]) -> config_pb2.ExperimentOptions:
    config = config_pb2.ExperimentOptions()
    classes = next((item.split("= ")[1] for item in items if item.startswith("C = ")), "")
    for item in _expand(items, blocks):
        if not item.startswith("C = "):
            _apply(config, re.sub(r"\bC/", f"{classes}/", item))
    return config


def _expand(items: list[str], blocks: dict[str, list[str]]) -> list[str]:
    # Blocks first: what stands beside them wins.
    plain = []
    for item in sorted(items, key=lambda item: item not in blocks):
        under = re.fullmatch(r"as ([\w-]+)(?: under (\w+))?", item)
        if item in blocks:
            plain += _expand(blocks[item], blocks)
        elif under:
            inner = _expand(blocks[under[1]], blocks)
            plain += [i.replace("panoptic_deeplab", under[2] or "panoptic_deeplab") for i in inner]
        else:
            plain.append(item)
    return plain


def _apply(config: config_pb2.ExperimentOptions, item: str) -> None:
    name, _, value = item.partition(" ")
    loss = re.fullmatch(r"(\w+_loss) ?(\w*) x (.+)", item)
    crop = re.fullmatch(r"(?:(train|eval) )?crop (\d+)x(\d+)", item)
    sample = re.fullmatch(r"(inst|sem)_sample_(\w+)", name)
    if loss:
        if loss[2]:
            _set(config, f"{LOSSES}{loss[1]}.name", loss[2])
        _set(config, f"{LOSSES}{loss[1]}.weight", loss[3])
    elif crop:
        for section in [crop[1]] if crop[1] else ["train", "eval"]:
            _set(config, f"{section}_dataset_options.crop_size", f"[{crop[2]}, {crop[3]}]")
    elif name == "resize":
        for section in ("train", "eval"):
            for field in ("min_resize_value", "max_resize_value"):
                _set(config, f"{section}_dataset_options.{field}", f"[{value}]")
    elif name == "scale":
        for field, bound in zip(("min", "max"), value.split("..")):
            _set(config, f"train_dataset_options.augmentations.{field}_scale_factor", bound)
    elif sample:
        kind = {"inst": "instance_discrimination", "sem": "semantic"}[sample[1]]
        _set(config, f"{MODEL}max_deeplab.{kind}_sample_{sample[2]}", value)
    elif name in AUTOAUGMENT:
        _set(config, POLICY, AUTOAUGMENT[name])
    elif name in datasets.DATASETS:
        for section in ("train", "eval"):
            _set(config, f"{section}_dataset_options.dataset", name)
    elif name in SHORT:
        _set(config, SHORT[name][0], value)
    elif name.startswith("paste."):
        _set(config, f"train_dataset_options.augmentations.panoptic_copy_paste.panoptic_copy_paste_{name[6:]}", value)
    elif name.startswith("maskwise."):
        field = name[9:].replace("threshold_", "transformer_class_confidence_threshold_", "overlapping" not in name)
        _set(config, f"evaluator_options.maskwise_postprocessing.{field}", value)
    elif name.startswith("model."):
        _set(config, f"{MODEL}{name[6:]}", value)
    elif "." in name:
        prefix, _, rest = name.partition(".")
        for path in PREFIXES[prefix]:
            _set(config, f"{path}.{rest}", value)
    elif value:
        _set(config, name, value)
    else:
        _set(config, f"{MODEL}backbone.name", name)


def _set(config: config_pb2.ExperimentOptions, path: str, value: str) -> None:
    *parents, leaf = path.split(".")
    message = config
    for parent in parents:
        message = getattr(message, parent)
    field = message.DESCRIPTOR.fields_by_name[leaf]
    if re.fullmatch(r"\d+/\d+", value):  # a head
        head = getattr(message, leaf)
        head.output_channels, head.head_channels = map(int, value.split("/"))
    elif re.fullmatch(r"(\w+:\d+ ?)+", value):  # low levels
        for level in value.split():
            key, channels = level.split(":")
            getattr(message, leaf).add(feature_key=key, channels_project=int(channels))
    elif value.startswith("["):
        message.ClearField(leaf)
        for part in value[1:-1].split(","):
            getattr(message, leaf).append(_scalar(field, part.strip()))
    else:
        setattr(message, leaf, _scalar(field, value))


def _scalar(field, value: str):
    if field.type == field.TYPE_BOOL:
        return {"true": True, "false": False}[value]
    return {field.TYPE_INT32: int, field.TYPE_FLOAT: float, field.TYPE_STRING: str}[field.type](value)
