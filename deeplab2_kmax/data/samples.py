"""One sample: a decoded record -> what the network sees and learns from, in training and in evaluation.

Steps and their order are DeepLab2's. Every random step takes its own seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax.data import augment, autoaugment, copy_paste, datasets, preprocess
from deeplab2_kmax.data.preprocess import Sides
from deeplab2_kmax.data.targets import keys, masks, segments, semantic
from deeplab2_kmax.protos import dataset_pb2

TARGETS = ("semantic", "masks")

Tensors = dict[str, tf.Tensor]  # by key: of a parsed record (records.parse_example) or of a sample (targets/keys.py)


class Plan(NamedTuple):
    """Dataset options, checked and as plain values."""

    dataset: datasets.Dataset
    has_labels: bool
    crop: Sides
    min_size: Sides | None
    max_size: Sides | None
    resize_factor: int
    resizes: bool  # False: training, and nothing would change
    scales: tuple[float, float, float]  # lowest, highest, step
    autoaugment: Callable[..., tf.Tensor] | None
    paste: copy_paste.Options | None
    paste_scale: float
    small_threshold: int
    small_weight: float
    max_things: int | None  # None: no mask targets


def plan(
    options: dataset_pb2.DatasetOptions,
    dataset: datasets.Dataset,
    *,
    training: bool,
    targets: Sequence[str] | None = None,
) -> Plan:
    """Checks the options that concern one sample.

    Raises:
        ValueError: a value out of range, or an option that no model here needs yet.
    """
    _check_supported(options, dataset)
    if targets is None:
        targets = TARGETS if options.thing_id_mask_annotations else TARGETS[:1]
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown:
        raise ValueError(f"Targets {', '.join(unknown)} are not supported yet. There are: {', '.join(TARGETS)}.")
    if training and not options.decode_groundtruth_label:
        raise ValueError("Training needs labels, but decode_groundtruth_label is false in the dataset options.")
    if len(options.crop_size) != 2 or min(options.crop_size) <= 0:
        raise ValueError(f"crop_size: expected height and width, found {list(options.crop_size)}")
    crop = Sides(*options.crop_size)
    min_size = preprocess.parse_sides(options.min_resize_value, "min_resize_value")
    max_size = preprocess.parse_sides(options.max_resize_value, "max_resize_value")
    if max_size and (max_size.height > crop.height or max_size.width > crop.width):
        raise ValueError(f"max_resize_value {list(max_size)} is larger than crop_size {list(crop)}")
    if options.max_thing_id <= 0:
        raise ValueError(f"max_thing_id: expected a positive number, found {options.max_thing_id}")
    augmentations = options.augmentations
    pasting = augmentations.panoptic_copy_paste
    scales = (
        augmentations.min_scale_factor,
        augmentations.max_scale_factor,
        augmentations.scale_factor_step_size,
    )
    augment.scales(*scales)  # checks them
    paste = None
    if training and pasting.panoptic_copy_paste_scale < 0:
        raise ValueError(f"panoptic_copy_paste_scale {pasting.panoptic_copy_paste_scale}: expected 0 or more")
    if training and pasting.panoptic_copy_paste_scale > 0:
        paste = copy_paste.Options(
            pasting.panoptic_copy_paste_thing_option,
            pasting.panoptic_copy_paste_stuff_option,
            pasting.panoptic_copy_paste_void_option,
        )
        paste.check()
    weighted = options.increase_small_instance_weights
    lists_set = bool(
        options.min_resize_value or options.max_resize_value
    )  # a factor alone does nothing, as in DeepLab2
    policy = augmentations.autoaugment_policy_name
    return Plan(
        dataset=dataset,
        has_labels=options.decode_groundtruth_label,
        crop=crop,
        min_size=min_size,
        max_size=max_size or (None if training else crop),
        resize_factor=options.resize_factor,
        resizes=not training or bool(min_size or max_size or (options.resize_factor > 0 and lists_set)),
        scales=scales,
        autoaugment=autoaugment.policy(policy) if policy and training else None,
        paste=paste,
        paste_scale=pasting.panoptic_copy_paste_scale,
        small_threshold=options.small_instance_threshold if weighted else 0,
        small_weight=options.small_instance_weight if weighted else 1.0,
        max_things=options.max_thing_id if "masks" in targets else None,
    )


def _check_supported(options: dataset_pb2.DatasetOptions, dataset: datasets.Dataset) -> None:
    for name in ("use_two_frames", "use_next_frame"):
        if getattr(options, name):
            raise ValueError(f"{name} is not supported yet: no model here reads two frames. Remove it.")
    if options.cameras_to_use or dataset.camera_names:
        raise ValueError(
            f"Multi-camera records (data set {dataset.name!r}, cameras_to_use {list(options.cameras_to_use)}) are not "
            "supported yet. Use a data set with one camera per record."
        )


def training_sample(read: Callable[[int], Tensors], seed: tf.Tensor, plan: Plan) -> Tensors:
    """The sample of one position.

    Args:
        read: reads a record: read(0) the position's own, read(1) the one to be pasted into it.
        seed: of all augmentation of this sample.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    record = read(0)
    image, label = _augment(record, seeds[0], plan, scale=1.0, label_fill=plan.dataset.void_id)
    if plan.paste is not None:
        fill = copy_paste.padding_id(plan.dataset)
        pasted_image, pasted_label = _augment(read(1), seeds[1], plan, scale=plan.paste_scale, label_fill=fill)
        image, label = copy_paste.paste(
            image,
            label,
            pasted_image,
            pasted_label,
            dataset=plan.dataset,
            options=plan.paste,
            seed=seeds[2],
            source=record[keys.SAMPLE_ID],
        )
    return {
        keys.IMAGE: image,
        keys.SAMPLE_ID: record[keys.SAMPLE_ID],
        **_targets(label, plan, record[keys.SAMPLE_ID]),
    }


def _augment(
    record: Tensors, seed: tf.Tensor, plan: Plan, *, scale: float, label_fill: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """A random crop [H, W, 3] float32 with its label [H, W, 1]."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    image, label = tf.cast(record["image"], tf.float32), record["label"]
    if plan.resizes:
        size = _resized_size(image, plan)
        image, label = preprocess.resize_image(image, size), preprocess.resize_label(label, size)
    low, high, step = plan.scales
    factor = augment.draw_scale(seeds[0], low * scale, high * scale, step)
    image, label = augment.scale(image, label, factor)
    if plan.autoaugment is not None:
        image = tf.cast(plan.autoaugment(tf.cast(image, tf.uint8), seed=seeds[1]), tf.float32)
    image, label = augment.pad_and_crop(image, label, plan.crop, seed=seeds[2], label_fill=label_fill)
    return augment.flip(image, label, seed=seeds[3])


def evaluation_sample(record: Tensors, plan: Plan) -> Tensors:
    """The whole image, resized and padded, with targets at that size and at the raw one."""
    size = _resized_size(record["image"], plan)
    resized = preprocess.resize_image(tf.cast(record["image"], tf.float32), size)
    sample = {
        keys.IMAGE: tf.ensure_shape(preprocess.pad(resized, plan.crop, preprocess.FILL), [*plan.crop, 3]),
        keys.RESIZED_IMAGE: resized,
        keys.SIZE_RESIZED: size,
        keys.SIZE_RAW: tf.stack([record["height"], record["width"]]),
        **{
            key: record[key]
            for key in (keys.SAMPLE_ID, keys.IMAGE_NAME, keys.SEQUENCE_ID, keys.FRAME_ID)
            if key in record
        },
    }
    if plan.has_labels:
        label = preprocess.resize_label(record["label"], size)
        label = tf.ensure_shape(preprocess.pad(label, plan.crop, plan.dataset.void_id), [*plan.crop, 1])
        sample.update(_targets(label, plan, record[keys.SAMPLE_ID]))
        raw = segments.find(record["label"][..., 0], plan.dataset, record[keys.SAMPLE_ID])
        sample.update(semantic.make_raw(raw))
    return sample


def _targets(label: tf.Tensor, plan: Plan, source: tf.Tensor) -> Tensors:
    found = segments.find(label[..., 0], plan.dataset, source)
    made = semantic.make(found, small_threshold=plan.small_threshold, small_weight=plan.small_weight)
    if plan.max_things is not None:
        made.update(masks.make(found, max_things=plan.max_things, source=source))
    return made


def check_record(record: Tensors, plan: Plan) -> None:
    """Meets the errors that training or evaluation on this record would meet."""
    if plan.has_labels:
        _targets(record["label"], plan, record[keys.SAMPLE_ID])


def _resized_size(image: tf.Tensor, plan: Plan) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(image)[:2])
    return preprocess.resized_size(
        height, width, min_size=plan.min_size, max_size=plan.max_size, factor=plan.resize_factor
    )
