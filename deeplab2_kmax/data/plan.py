"""The options that concern one sample, checked and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deeplab2_kmax.data import augment, autoaugment, color_jitter, copy_paste, datasets, preprocess
from deeplab2_kmax.data.preprocess import Sides
from deeplab2_kmax.protos import dataset_pb2

# What a model can ask for, each with the option or property of the data set that it needs.
TARGETS = {
    "semantic": None,
    "masks": None,
    "centers": None,
    "keypoints": None,
    "motion": "use_two_frames",
    "next_offsets": "use_next_frame",
    "tracks": "use_two_frames or use_next_frame",
    "depth": "a data set with depth",
    "normals": None,
}


class Plan(NamedTuple):
    """How samples are made."""

    dataset: datasets.Dataset
    targets: frozenset[str]  # of TARGETS
    has_labels: bool
    frame: str | None  # "prev" or "next": the other frame of a sample
    crop: Sides
    min_size: Sides | None
    max_size: Sides | None
    resize_factor: int
    resizes: bool  # False: training, and nothing would change
    scales: tuple[float, float, float]  # lowest, highest, step
    autoaugment: autoaugment.Policy | None
    color_jitter: color_jitter.ColorJitter | None
    paste: copy_paste.Options | None
    paste_scale: float
    sigma: float
    keypoint_radius: float
    small_threshold: int
    small_weight: float
    max_things: int
    cameras: tuple[str, ...]  # empty: one camera without a name

    @property
    def reads_depth(self) -> bool:
        """Whether records must hold depth."""
        return self.has_labels and "depth" in self.targets

    @property
    def reads_normals(self) -> bool:
        """Whether records must hold surface normals."""
        return self.has_labels and "normals" in self.targets

    @property
    def reads_num_cameras(self) -> bool:
        """Whether an evaluation reads how many cameras see a pixel."""
        return self.has_labels and self.dataset.has_panoramas


def make(
    options: dataset_pb2.DatasetOptions,
    dataset: datasets.Dataset,
    *,
    training: bool,
    targets: Sequence[str] | None = None,
) -> Plan:
    """Checks the options that concern one sample.

    Raises:
        ValueError: a value out of range, or options that contradict each other.
    """
    if targets is None:
        targets = ("semantic", "masks") if options.thing_id_mask_annotations else ("semantic",)
    _check_targets(targets, options, dataset)
    if training and not options.decode_groundtruth_label:
        raise ValueError("Training needs labels, but decode_groundtruth_label is false in the dataset options.")
    if len(options.crop_size) != 2 or min(options.crop_size) <= 0:
        raise ValueError(f"crop_size: expected height and width, found {list(options.crop_size)}")
    crop = Sides(*options.crop_size)
    min_size = preprocess.parse_sides(options.min_resize_value, "min_resize_value")
    max_size = preprocess.parse_sides(options.max_resize_value, "max_resize_value")
    if max_size and (max_size.height > crop.height or max_size.width > crop.width):
        raise ValueError(f"max_resize_value {list(max_size)} is larger than crop_size {list(crop)}")
    if training and {"depth", "normals"} & set(targets) and (min_size or max_size):
        raise ValueError(
            "min_resize_value and max_resize_value would change depth and normals by an unknown factor: leave them "
            "out, and use a random scale (min_scale_factor, max_scale_factor), which takes care of them."
        )
    for name in ("max_thing_id", "sigma", "keypoint_radius"):
        if getattr(options, name) <= 0:
            raise ValueError(f"{name}: expected a positive number, found {getattr(options, name):g}")
    augmentations = options.augmentations
    scales = (
        augmentations.min_scale_factor,
        augmentations.max_scale_factor,
        augmentations.scale_factor_step_size,
    )
    augment.scales(*scales)  # checks them
    weighted = options.increase_small_instance_weights
    # A factor alone does nothing, as in DeepLab2.
    lists_set = bool(options.min_resize_value or options.max_resize_value)
    policy = augmentations.autoaugment_policy_name
    jitter = color_jitter.build(augmentations.color_jitter) if augmentations.HasField("color_jitter") else None
    return Plan(
        dataset=dataset,
        targets=frozenset(targets),
        has_labels=options.decode_groundtruth_label,
        frame="prev" if options.use_two_frames else "next" if options.use_next_frame else None,
        crop=crop,
        min_size=min_size,
        max_size=max_size or (None if training else crop),
        resize_factor=options.resize_factor,
        resizes=not training or bool(min_size or max_size or (options.resize_factor > 0 and lists_set)),
        scales=scales,
        autoaugment=autoaugment.policy(policy) if policy and training else None,
        color_jitter=jitter if training else None,
        paste=_copy_paste(options, targets) if training else None,
        paste_scale=augmentations.panoptic_copy_paste.panoptic_copy_paste_scale,
        sigma=options.sigma,
        keypoint_radius=options.keypoint_radius,
        small_threshold=options.small_instance_threshold if weighted else 0,
        small_weight=options.small_instance_weight if weighted else 1.0,
        max_things=options.max_thing_id,
        cameras=_cameras(options, dataset),
    )


def _check_targets(targets: Sequence[str], options: dataset_pb2.DatasetOptions, dataset: datasets.Dataset) -> None:
    if options.use_two_frames and options.use_next_frame:
        raise ValueError("use_two_frames and use_next_frame: a sample has one other frame, the previous or the next.")
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown:
        raise ValueError(f"Unknown targets {', '.join(unknown)}. There are: {', '.join(TARGETS)}.")
    given = {
        "use_two_frames": options.use_two_frames,
        "use_next_frame": options.use_next_frame,
        "use_two_frames or use_next_frame": options.use_two_frames or options.use_next_frame,
        "a data set with depth": dataset.has_depth,
    }
    for target in targets:
        needed = TARGETS[target]
        if needed is not None and not given[needed]:
            raise ValueError(
                f"The model learns from {target!r} targets, which need {needed} (data set {dataset.name})."
            )


def _copy_paste(options: dataset_pb2.DatasetOptions, targets: Sequence[str]) -> copy_paste.Options | None:
    pasting = options.augmentations.panoptic_copy_paste
    if pasting.panoptic_copy_paste_scale < 0:
        raise ValueError(f"panoptic_copy_paste_scale {pasting.panoptic_copy_paste_scale}: expected 0 or more")
    if pasting.panoptic_copy_paste_scale == 0:
        return None
    if options.use_two_frames or options.use_next_frame or options.cameras_to_use or {"depth", "normals"} & {*targets}:
        raise ValueError("panoptic_copy_paste is for single images with labels: no frames, cameras, depth or normals.")
    paste = copy_paste.Options(
        pasting.panoptic_copy_paste_thing_option,
        pasting.panoptic_copy_paste_stuff_option,
        pasting.panoptic_copy_paste_void_option,
    )
    paste.check()
    return paste


def _cameras(options: dataset_pb2.DatasetOptions, dataset: datasets.Dataset) -> tuple[str, ...]:
    cameras = tuple(options.cameras_to_use) or dataset.camera_names
    unknown = [name for name in cameras if name not in dataset.camera_names]
    if unknown or len({*cameras}) < len(cameras):
        raise ValueError(
            f"cameras_to_use {list(cameras)}: expected each at most once, of the cameras of {dataset.name}: "
            f"{', '.join(dataset.camera_names) or 'it has one without a name'}"
        )
    if cameras and options.use_two_frames:
        raise ValueError("use_two_frames: records with several cameras hold next frames only (use_next_frame).")
    return cameras
