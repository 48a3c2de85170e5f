"""A whole experiment in seconds: a few drawn records, a backbone of five convolutions, a small kMaX-DeepLab."""

from __future__ import annotations

import io
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab2_kmax import architectures, backbones, structures
from deeplab2_kmax import config as configs
from deeplab2_kmax._keras import keras
from deeplab2_kmax.data import datasets, records
from deeplab2_kmax.layers import drop_path
from deeplab2_kmax.layers import norm as norms

DATASET = "synthetic_panoptic"
CROP = 65

TEXT = """
experiment_name: "tiny"
model_options {
  backbone { name: "kmax_tiny" }
  decoder { feature_key: "feature_semantic" decoder_channels: 8 aspp_channels: 8 atrous_rates: [1, 2, 3] }
  max_deeplab {
    pixel_space_head { output_channels: 8 head_channels: 8 }
    auxiliary_semantic_head { output_channels: %(num_classes)d head_channels: 8 }
    instance_discrimination_sample_k: 32
    transformer_decoder_drop_path_keep_prob: 0.8
    kmax {
      num_mask_slots: 8
      highest_stride: 4
      auxiliary_semantic_decoder: false
      pixel_decoder_blocks: [1, 1, 1, 1]
      pixel_decoder_width_multiplier: 0.03125
      pixel_decoder_axial_beyond_stride: 0
      transformer_decoder_blocks: [1, 1, 1]
      cluster_channels: 8
      transformer_decoder_filters: 8
      transformer_decoder_feed_forward_channels: 16
      num_heads: 2
    }
  }
}
trainer_options {
  num_checkpoints_to_keep: 3
  save_checkpoints_steps: 5
  save_summaries_steps: 5
  steps_per_loop: 5
  deterministic: %(deterministic)s
  loss_options {
    semantic_loss { name: "softmax_cross_entropy" weight: 1 }
    pq_style_loss { weight: 3 }
    mask_id_cross_entropy_loss { weight: 0.3 }
    instance_discrimination_loss { weight: 1 }
  }
  solver_options {
    optimizer: "adamw"
    adamw_weight_decay: 0.05
    base_learning_rate: 0.005
    training_number_of_steps: 20
    warmup_steps: 2
    ema_decay: 0.9
  }
}
train_dataset_options {
  dataset: "%(dataset)s"
  file_pattern: "%(data)s/train-*.tfrecord"
  batch_size: 2
  crop_size: [%(crop)d, %(crop)d]
  thing_id_mask_annotations: true
  augmentations { min_scale_factor: 0.8 max_scale_factor: 1.2 scale_factor_step_size: 0.1 }
}
eval_dataset_options {
  dataset: "%(dataset)s"
  file_pattern: "%(data)s/val-*.tfrecord"
  batch_size: 1
  crop_size: [%(crop)d, %(crop)d]
  min_resize_value: [%(crop)d]
  max_resize_value: [%(crop)d]
  thing_id_mask_annotations: true
}
evaluator_options { eval_interval: 10 save_predictions: true num_vis_samples: 1 }
"""


class Backbone(keras.Model):
    """Five convolutions of stride 2: image -> Pyramid."""

    channels = (8, 8, 8, 8, 8)
    strides = (2, 4, 8, 16, 32)

    def __init__(self, *, norm: norms.Norm | None = None, output_stride: int = 32):
        if output_stride != 32:  # as every backbone of the table says that goes with kMaX-DeepLab
            raise ValueError(f"kmax_tiny: output_stride must be 32, but got {output_stride}")
        super().__init__(name="tiny")
        self.convs = [keras.layers.Conv2D(8, 3, 2, padding="same", use_bias=False) for _ in range(5)]
        self.norms = [(norm or norms.batch_norm())() for _ in range(5)]

    def call(self, x, training=False):
        stages, activated = [], []
        for conv, norm in zip(self.convs, self.norms):
            stages.append(norm(conv(x), training=training))
            x = tf.nn.relu(stages[-1])
            activated.append(x)
        return structures.Pyramid(*stages, *activated, x)


class Convolutions(keras.Model):
    """A quick stand-in for the whole network: class logits at stride 4, with dropout in training."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.backbone = Backbone(norm=norms.batch_norm())
        self.drop = drop_path.Dropout(0.5)
        self.head = keras.layers.Conv2D(num_classes, 1)

    def build_variables(self) -> None:
        self(tf.zeros([1, CROP, CROP, 3]))

    def call(self, images, training=False, seed=None):
        features = self.backbone(images / 127.5 - 1.0, training=training).res2
        with drop_path.seeded(seed):
            return self.head(self.drop(features, training=training))


def semantic_loss(logits, targets, *, seed=None):
    """The cross-entropy of `Convolutions`."""
    del seed
    truth = tf.clip_by_value(targets["semantic_gt"][:, ::4, ::4], 0, logits.shape[-1] - 1)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=truth, logits=logits)
    return {"total_loss": tf.reduce_mean(losses, axis=(1, 2))}


def install_convolutions() -> None:
    """Puts `Convolutions` in the place of kMaX-DeepLab."""
    row = architectures.ARCHITECTURES["kmax_deeplab"]
    architectures.ARCHITECTURES["kmax_deeplab"] = row._replace(
        model=lambda config, dataset, *, postprocess: Convolutions(dataset.num_classes),
        loss=lambda config, dataset: semantic_loss,
    )


def install() -> None:
    """Makes the backbone known as kmax_tiny."""
    backbones.BACKBONES["kmax_tiny"] = Backbone


def write_records(folder: pathlib.Path, *, train: int = 6, val: int = 3) -> None:
    """Scenes of sky-like and road-like stuff and a few square things."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        with tf.io.TFRecordWriter(str(folder / f"{split}-00000-of-00001.tfrecord")) as writer:
            for index in range(count):
                image, label = _scene(random, height=60 + 5 * index, width=65)
                encoded = io.BytesIO()
                Image.fromarray(image).save(encoded, format="PNG")
                writer.write(records.encode_example(encoded.getvalue(), label, filename=f"{split}{index}.png"))


def load(folder: pathlib.Path, *overrides: str, deterministic: bool = False):
    """The resolved config over records in `folder`/data."""
    install()
    path = folder / "tiny.textproto"
    values = {
        "data": folder / "data",
        "dataset": DATASET,
        "crop": CROP,
        "num_classes": datasets.lookup(DATASET).num_classes,
        "deterministic": str(deterministic).lower(),
    }
    path.write_text(TEXT % values, encoding="utf-8")
    return configs.load(path, overrides)


def _scene(random: np.random.Generator, *, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    dataset = datasets.lookup(DATASET)
    divisor = dataset.label_divisor
    stuff = [i for i in range(dataset.num_classes) if i not in dataset.thing_ids and i != dataset.ignore_label]
    label = np.full([height, width], stuff[0] * divisor, np.int32)
    label[height // 2 :] = stuff[1] * divisor
    for instance in range(2):
        top, left = random.integers(0, height - 25), random.integers(0, width - 25)
        label[top : top + 24, left : left + 24] = dataset.thing_ids[instance] * divisor + instance + 1
    colors = np.random.default_rng(1).integers(0, 255, [256, 3])
    image = colors[label // divisor] + random.integers(-10, 10, [height, width, 3])
    return np.clip(image, 0, 255).astype(np.uint8), label
