"""The parity cases of post-processing: how they are run and measured."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.postprocess import mask_merging
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction
from tests import shared
from tests.parity import networks

CASES = ("kmax_postprocess_maskwise", "kmax_postprocess_pixelwise")
SETTINGS = ("coco_", "city_")


def measure(name: str, prefix: str, mode: str) -> list[networks.Row]:
    """One row per map; `mode` is one of networks.MODES but bfloat16."""
    manifest, arrays = shared.case(name)
    settings = manifest["settings"][prefix]
    things, void = settings["thing_class_ids"], settings["void_label"]
    first = 1 if void == 0 else 0
    every_class = range(first, first + settings["num_thing_stuff_classes"])
    stuff = tuple(i for i in every_class if i not in things)
    classes = MaskClasses(tuple(things), stuff, void, settings["label_divisor"])
    prediction = MaskPrediction(
        class_logits=tf.constant(arrays[prefix + "transformer_class_logits"]),
        mask_logits=tf.constant(arrays[prefix + "pixel_space_mask_logits"]),
        pixel_features=tf.zeros([1]),
    )
    postprocess = mask_merging.build(text_format.Parse(settings["options"], evaluator_pb2.EvaluatorOptions()), classes)
    size = tuple(settings["image_size"])

    def run() -> dict[str, tf.Tensor]:
        return postprocess(prediction, size)._asdict()

    maps = (run if mode == "eager" else tf.function(run, jit_compile=mode == "xla"))()
    rows = []
    for field in ("panoptic", "instance", "semantic"):
        unequal = float(np.mean(np.asarray(maps[field]) != arrays[f"{prefix}{field}_pred"]))
        rows.append(networks.Row(f"{prefix}{field}_pred", unequal, 0.0))
    for field in ("instance_scores", "semantic_scores"):
        expected = arrays[prefix + field]
        rows.append(networks.compare(prefix + field, np.asarray(maps[field]), expected, rtol=1e-4, atol=1e-5))
    return rows
