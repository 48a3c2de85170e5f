"""The parity cases of DeepLabV3+ and Panoptic-DeepLab: how they are built, run and measured."""

from __future__ import annotations

import functools
import types

import numpy as np
import tensorflow as tf
from google.protobuf import text_format

import deeplab2_kmax as dk
from deeplab2_kmax import structures
from deeplab2_kmax.layers import resize
from deeplab2_kmax.losses import pixel_terms
from deeplab2_kmax.models import building, deeplab, deeplab_v3_plus, outputs, panoptic_deeplab, passes
from deeplab2_kmax.postprocess import center_grouping
from deeplab2_kmax.protos import evaluator_pb2, model_pb2, trainer_pb2
from tests import shared
from tests.parity import networks

CITYSCAPES_CLASSES = structures.MaskClasses(
    thing_ids=tuple(range(11, 19)), stuff_ids=tuple(range(11)), ignore_label=255, label_divisor=1000
)

PANOPTIC_OPTIONS = """
decoder { feature_key: "res5" atrous_rates: [3, 6, 9] aspp_pool_size: [3, 3] }
panoptic_deeplab {
  low_level { feature_key: "res3" channels_project: 64 }
  low_level { feature_key: "res2" channels_project: 32 }
  semantic_head { output_channels: 19 head_channels: 256 }
  instance {
    low_level_override { feature_key: "res3" channels_project: 32 }
    low_level_override { feature_key: "res2" channels_project: 16 }
    instance_decoder_override {
      feature_key: "res5" decoder_channels: 128 atrous_rates: [3, 6, 9] aspp_pool_size: [3, 3]
    }
    center_head { output_channels: 1 head_channels: 32 }
    regression_head { output_channels: 2 head_channels: 32 }
  }
}
"""

PLUS_OPTIONS = """
decoder { feature_key: "res5" atrous_rates: [6, 12, 18] aspp_pool_size: [5, 5] }
deeplab_v3_plus { low_level { feature_key: "res2" channels_project: 48 } num_classes: 19 }
"""

PASSES = passes.make([0.75, 1.0, 1.25], add_mirrored=True)


def _model(build, options: str, output_stride: int) -> deeplab.DeepLab:
    kit = building.Kit(dk.build_backbone("resnet50", output_stride=output_stride), CITYSCAPES_CLASSES, networks.NORM)
    model = build(text_format.Parse(options, model_pb2.ModelOptions()), kit, passes=[passes.Pass()])
    model.build_variables()
    return model


def _features(seed: int, **shapes: tuple[int, ...]) -> structures.Pyramid:
    """A pyramid of the generated features, in the order of their names here; other fields stay empty."""
    random = np.random.RandomState(seed)
    values = {name: tf.constant(random.standard_normal(shape), tf.float32) for name, shape in shapes.items()}
    return structures.Pyramid(**{**dict.fromkeys(structures.Pyramid._fields), **values})


def _backbone(model: deeplab.DeepLab, images: tf.Tensor) -> structures.Pyramid:
    return model.backbone(building.normalize(images), training=False)


def _panoptic(model: panoptic_deeplab.PanopticDeepLab, inputs: networks.Tensors) -> networks.Tensors:
    pyramid = _backbone(model, inputs["image"])
    larger = _backbone(model, inputs["image_97"])
    found = {
        "res5": pyramid.res5[..., ::32],
        "res3": pyramid.res3[..., ::32],
        "res2": pyramid.res2[..., ::16],
        "aspp97_semantic": model.semantic_decoder.aspp(larger.res5)[..., ::8],
    }
    generated = _features(11, res2=(1, 17, 17, 256), res3=(1, 9, 9, 512), res5=(1, 3, 3, 2048))
    given = {
        "raw": model.decode(pyramid, training=False),
        "raw97": model.decode(larger, training=False),
        "dec": model.decode(generated, training=False),
    }
    found.update({f"{prefix}_{name}": values for prefix, maps in given.items() for name, values in maps.items()})
    for branch, decoder, step in (
        ("semantic", model.semantic_decoder, 8),
        ("instance", model.instance_decoder, 8),
    ):
        found[f"dec_aspp_{branch}"] = decoder.aspp(generated.res5)
        found[f"dec_{branch}_features"] = decoder(generated)[..., ::step]
    wide = tf.constant(np.random.RandomState(12).standard_normal((1, 17, 17, 2048)), tf.float32)
    found["dec_aspp_semantic_17"] = model.semantic_decoder.aspp(wide)[..., ::8]
    output = deeplab.finish(given["raw"], (65, 65))
    found["resized_semantic_logits_s4"] = output.semantic_logits[:, ::4, ::4]
    found["resized_center_heatmap"] = output.center_heatmap
    found["resized_offset_map"] = output.offset_map
    return found


def _plus(model: deeplab_v3_plus.DeepLabV3Plus, inputs: networks.Tensors) -> networks.Tensors:
    pyramid = _backbone(model, inputs["image"])
    generated = _features(21, res2=(1, 17, 17, 256), res5=(1, 9, 9, 2048))
    raw = model.decode(pyramid, training=False)["semantic_logits"]
    found = {
        "res5": pyramid.res5[..., ::32],
        "res2": pyramid.res2[..., ::16],
        "raw_semantic_logits": raw,
        "resized_semantic_logits_s4": resize.bilinear(raw, (65, 65))[:, ::4, ::4],
        "dec_aspp": model.aspp(generated.res5)[..., ::4],
        "dec_semantic_logits": model.decode(generated, training=False)["semantic_logits"],
    }
    model.passes = PASSES
    output = model(inputs["image"], training=False)
    model.passes = (passes.Pass(),)
    found["multiscale_semantic_logits_s4"] = output.semantic_logits[:, ::4, ::4]
    found["multiscale_semantic_probs_s4"] = output.semantic_probs[:, ::4, ::4]
    return found


CASES = [
    networks.Case(
        "panoptic_deeplab_resnet50",
        functools.partial(_model, panoptic_deeplab.build, PANOPTIC_OPTIONS, 32),
        networks.load,
        _panoptic,
    ),
    networks.Case(
        "deeplabv3plus_resnet50",
        functools.partial(_model, deeplab_v3_plus.build, PLUS_OPTIONS, 16),
        networks.load,
        _plus,
    ),
]

# --- losses ---

# Name of an output: what it is made with, beside the options of the case.
LOSSES = {
    "": "",
    "semantic_loss_all_pixels": "semantic_loss { top_k_percent: 1 }",
    "regression_loss_top15": "regression_loss { top_k_percent: 0.15 }",
    "semantic_loss_stride4_logits": "",
}


def measure_loss(name: str, mode: str) -> list[networks.Row]:
    """One row per term; `name` is one of LOSSES, `mode` one of networks.MODES but bfloat16."""
    manifest, arrays = shared.case("panoptic_deeplab_loss")
    options = text_format.Parse(manifest["loss_options"], trainer_pb2.LossOptions())
    options.MergeFrom(text_format.Parse(LOSSES[name], trainer_pb2.LossOptions()))
    loss = pixel_terms.PixelLoss(options, ignore_label=255)
    tensors = {key: tf.constant(arrays[key]) for key in manifest["inputs"]}
    if name == "semantic_loss_stride4_logits":
        tensors["semantic_logits"] = tensors["semantic_logits"][:, ::4, ::4]
    output = types.SimpleNamespace(**tensors)

    def run() -> dict[str, tf.Tensor]:
        return loss(output, tensors)

    terms = (run if mode == "eager" else tf.function(run, jit_compile=mode == "xla"))()
    if name:
        terms = {name: terms["_".join(name.split("_")[:2])]}
    return [
        networks.compare(term, np.asarray(values), arrays[term], **manifest["outputs"][term]["tolerance"])
        for term, values in terms.items()
    ]


# --- post-processing ---

SETTINGS = ("a", "b", "c", "d")


def measure_postprocess(prefix: str, mode: str) -> list[networks.Row]:
    """One row per map; `prefix` is one of SETTINGS, `mode` "graph" or "eager"."""
    manifest, arrays = shared.case("panoptic_deeplab_postprocess")
    settings = {key: value for key, value in manifest["sub_cases"][prefix].items() if key != "note"}
    postprocess = center_grouping.build(evaluator_pb2.EvaluatorOptions(**settings), CITYSCAPES_CLASSES)
    given = {
        name: tf.constant(arrays[f"{prefix}_{theirs}"])
        for name, theirs in (
            ("semantic_logits", "semantic_scores"),
            ("center_heatmap", "center_heatmap"),
            ("offset_map", "offset_map"),
        )
    }

    def run() -> structures.CenterMaps:
        return postprocess(given, tuple(given["offset_map"].shape[1:3]))

    maps = (run if mode == "eager" else tf.function(run))()
    named = outputs.deeplab2_outputs(structures.DeepLabOutput(given["semantic_logits"], maps=maps))
    rows = []
    for name, spec in manifest["outputs"].items():
        if name.startswith(f"{prefix}_"):
            actual, expected = np.asarray(named[name.removeprefix(f"{prefix}_")]), arrays[name]
            if "exact_fraction" in spec["tolerance"]:
                rows.append(networks.Row(name, float(np.mean(actual != expected)), 0.0))
            else:
                rows.append(networks.compare(name, actual, expected, **spec["tolerance"]))
    return rows
