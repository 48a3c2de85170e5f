"""The parity cases of networks: how each is built, given the reference's weights, run and measured."""

from __future__ import annotations

import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import text_format

import deeplab2_kmax as dk
from deeplab2_kmax import architectures, backbones, structures
from deeplab2_kmax.checkpoints import name_maps, restore
from deeplab2_kmax.checkpoints.name_maps import layers as layer_names
from deeplab2_kmax.layers import activations, dual_path, norm
from deeplab2_kmax.models import building, kmax_deeplab
from deeplab2_kmax.postprocess import mask_merging
from deeplab2_kmax.protos import evaluator_pb2, model_pb2, trainer_pb2
from tests import shared

MODES = ("graph", "eager", "xla", "bfloat16")
Tensors = dict[str, tf.Tensor]


class Case(NamedTuple):
    """A folder of parity cases and what to do with it. Outputs are named as in its manifest, without `live_`."""

    name: str
    build: Callable[[], Any]
    load: Callable[[Any, str], None]  # network, checkpoint prefix
    run: Callable[[Any, dict[str, tf.Tensor]], Tensors]  # network, inputs
    # In training: (network, inputs) -> outputs named train_*; None where the case has none.
    train: Callable[[Any, dict[str, tf.Tensor]], Tensors] | None = None
    # (outputs, inputs) -> outputs made from them, always eagerly.
    after: Callable[[Tensors, Tensors], Tensors] | None = None


class Row(NamedTuple):
    """How far one output is from the reference."""

    output: str
    error: float  # |difference| where it is largest in units of what is allowed; of integers the share that differs
    allowed: float  # there
    rms: float = 0.0  # root mean square of the difference, in standard deviations of the expected values

    @property
    def share(self) -> float:
        """The error in units of what is allowed: beyond 1 the case fails."""
        return self.error / self.allowed if self.allowed else np.inf if self.error else 0.0


def measure(case: Case, mode: str, *, training: bool = False) -> list[Row]:
    """Runs a case in one of MODES, with both fillings where the case has two; one row per output.

    With `training` the outputs of a training call are among them.
    """
    manifest, arrays = shared.case(case.name)
    inputs = {name: tf.constant(arrays[name]) for name in manifest["inputs"]}
    with architectures.precision(PRECISIONS[mode]), tempfile.TemporaryDirectory() as folder:
        network = case.build()
        run = functools.partial(case.run, network, inputs)
        call = run if mode == "eager" else tf.function(run, jit_compile=mode == "xla")
        rows = []
        for live in (True, False) if "variable_scale" in manifest else (False,):
            case.load(network, shared.write_checkpoint(case.name, pathlib.Path(folder, f"live_{live}"), live=live))
            prefix = "live_" if live else ""
            found = {prefix + name: value for name, value in call().items()}
            if case.after is not None:
                found.update(case.after(found, inputs))
            rows += [_row(manifest, arrays, name, value) for name, value in found.items() if name in arrays]
        if training and case.train is not None:
            trained = tf.function(functools.partial(case.train, network, inputs))()
            rows += [_row(manifest, arrays, name, value) for name, value in trained.items()]
        return rows


PRECISIONS = dict.fromkeys(MODES, trainer_pb2.TrainerOptions.FLOAT32)
PRECISIONS["bfloat16"] = trainer_pb2.TrainerOptions.BFLOAT16


def _row(manifest: dict[str, Any], arrays: dict[str, np.ndarray], name: str, value: tf.Tensor) -> Row:
    spec, expected = manifest["outputs"][name], arrays[name]
    if list(value.shape) != spec["shape"] and np.prod(value.shape) != np.prod(spec["shape"]):
        raise AssertionError(f"{name}: expected the shape {spec['shape']}, but got {value.shape}.")
    actual = np.asarray(tf.cast(value, tf.float32) if value.dtype.is_floating else value)
    if "step" in spec:
        actual = actual.reshape(-1)[:: spec["step"]]
    actual = actual.reshape(expected.shape)
    if not np.issubdtype(expected.dtype, np.floating):
        # As the manifests say: labels of pixels may differ in 0.5 %, everything else in nothing.
        return Row(name, float(np.mean(actual != expected)), 0.005 if name == "semantic_pred" else 0.0)
    tolerance = spec.get("tolerance", manifest["tolerance"])
    factor = spec.get("atol_times_std", tolerance.get("atol_times_std", 0.0))
    std = spec.get("std", float(np.std(expected)))
    absolute = tolerance.get("atol", 0.0) + factor * std
    row = compare(name, actual, expected, rtol=tolerance["rtol"], atol=absolute)
    difference = actual.astype(np.float64) - expected
    return row._replace(rms=float(np.sqrt(np.mean(np.square(difference))) / std))


def compare(name: str, actual: np.ndarray, expected: np.ndarray, *, rtol: float, atol: float) -> Row:
    """The row of one output of floats."""
    difference = np.abs(np.asarray(actual, np.float64) - expected)
    allowed = atol + rtol * np.abs(np.asarray(expected, np.float64))
    worst = np.unravel_index(np.argmax(difference / allowed), allowed.shape)
    return Row(name, float(difference[worst]), float(allowed[worst]))


# --- backbones ---


def _pyramid(backbone: Any, inputs: Tensors, only: tuple[str, ...] = ()) -> Tensors:
    features = backbone(inputs["input"], training=False)._asdict()
    features["backbone_output"] = features.pop("output")
    return {name: value for name, value in features.items() if not only or name in only}


def _trained(moving_means: tuple[str, ...], backbone: Any, inputs: Tensors) -> Tensors:
    outputs = {"train_res5": backbone(inputs["input"], training=True).res5}
    variables = restore.variable_paths(backbone)
    with tf.control_dependencies(list(outputs.values())):
        for index, path in enumerate(moving_means):
            outputs[f"train_moving_mean_{index}"] = tf.identity(variables[f"{path}/moving_mean"])
    return outputs


def load(network: Any, prefix: str) -> None:
    dk.load_deeplab2_checkpoint(network, prefix)


def backbone(
    name: str,
    build: str,
    *,
    moving_means: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    batchnorm_epsilon: float = 1e-3,
    **options: Any,
) -> Case:
    """A case of the backbone `build`, by name; `only` names the endpoints that the reference has."""
    return Case(
        name,
        lambda: dk.build_backbone(build, batchnorm_epsilon=batchnorm_epsilon, **options),
        load,
        functools.partial(_pyramid, only=only),
        functools.partial(_trained, moving_means) if moving_means else None,
    )


LEVELS = tuple(f"{kind}{level}" for kind in ("stage", "res") for level in range(1, 6))

# --- kMaX-DeepLab ---

NORM = norm.batch_norm(momentum=0.99, epsilon=1e-3)

COCO_CLASSES = structures.MaskClasses(
    thing_ids=tuple(range(1, 81)), stuff_ids=tuple(range(81, 134)), ignore_label=0, label_divisor=256
)

COCO_OPTIONS = """
decoder { feature_key: "feature_semantic" decoder_channels: 256 aspp_channels: 256 atrous_rates: [6, 12, 18] }
max_deeplab {
  pixel_space_head { output_channels: 128 head_channels: 256 }
  auxiliary_low_level { feature_key: "res3" channels_project: 64 }
  auxiliary_low_level { feature_key: "res2" channels_project: 32 }
  auxiliary_semantic_head { output_channels: 134 head_channels: 256 }
}
"""


def coco_model() -> kmax_deeplab.KMaXDeepLab:
    """kMaX-DeepLab with ResNet-50 and COCO's classes, its variables made."""
    options = text_format.Parse(COCO_OPTIONS, model_pb2.ModelOptions())
    model = kmax_deeplab.build(
        options, building.Kit(backbones.BACKBONES["kmax_resnet50"](norm=NORM), COCO_CLASSES, NORM)
    )
    model.build_variables()
    return model


def _every(value: tf.Tensor, *steps: int) -> tf.Tensor:
    return value[tuple(slice(None, None, step) for step in steps)]


def _kmax(model: kmax_deeplab.KMaXDeepLab, inputs: Tensors) -> Tensors:
    pyramid = model.backbone(building.normalize(inputs["image"]), training=False)
    features = model.pixel_decoder(pyramid, training=False)
    steps = model.clusters(pyramid, predict=True).steps
    output = model(inputs["image"], training=False)
    found = {
        f"encoder_stage{level}": _every(getattr(pyramid, f"stage{level}"), 1, step, step, 16)
        for level, step in ((2, 8), (3, 4), (4, 2), (5, 1))
    }
    for index, step in enumerate((1, 2, 4)):
        found[f"pixel_decoder_stage{index + 1}"] = _every(features[index], 1, step, step, 8)
    found["pixel_decoder_output"] = _every(features[3], 1, 8, 8, 8)
    for index, block in enumerate(steps):
        found[f"cluster_centers_{index}"] = _every(block.centers, 1, 1, 16)
        found[f"assignment_{index}"] = block.assignment
    found["aux_mask_logits_5"] = _every(steps[5].prediction.mask_logits, 1, 2, 2, 4)
    found["aux_class_logits_0"] = _every(steps[0].prediction.class_logits, 1, 4, 4)
    found["transformer_class_logits"] = output.prediction.class_logits
    found["pixel_space_mask_logits"] = output.prediction.mask_logits
    found["pixel_space_normalized_feature"] = _every(output.prediction.pixel_features, 1, 2, 2, 1)
    found["semantic_logits"] = _every(output.semantic_logits, 1, 2, 2, 1)
    return found


def _labels(found: Tensors, inputs: Tensors) -> Tensors:
    """The most likely class of every pixel, which depends on no threshold. Its loop over images is none of XLA's."""
    logits = (found["transformer_class_logits"], found["pixel_space_mask_logits"])
    prediction = structures.MaskPrediction(*logits, pixel_features=tf.zeros([1]))
    postprocess = mask_merging.build(evaluator_pb2.EvaluatorOptions(), COCO_CLASSES)
    return {"semantic_pred": postprocess(prediction, tuple(inputs["image"].shape[1:3])).semantic}


def _transformer_decoder(model: kmax_deeplab.KMaXDeepLab, inputs: Tensors) -> Tensors:
    features = [inputs[f"feature_{name}"] for name in ("os32", "os16", "os8", "final")]
    clusters = model.transformer_decoder(features[:3], predict=True, training=False)
    prediction = model.mask_predictor(features[3], clusters.class_features, clusters.mask_features)
    found = {}
    for index, step in enumerate(clusters.steps):
        found[f"cluster_centers_{index}"] = _every(step.centers, 1, 1, 8)
        found[f"assignment_{index}"] = step.assignment
        found[f"aux_mask_logits_{index}"] = _every(step.prediction.mask_logits, 1, 1, 1, 8)
        found[f"aux_class_logits_{index}"] = _every(step.prediction.class_logits, 1, 8, 2)
        found[f"aux_feature_{index}"] = _every(step.prediction.pixel_features, 1, 1, 1, 4)
    found["transformer_class_feature"] = _every(clusters.class_features, 1, 4, 4)
    found["transformer_mask_feature"] = _every(clusters.mask_features, 1, 4, 4)
    found["transformer_class_logits"] = prediction.class_logits
    found["pixel_space_mask_logits"] = _every(prediction.mask_logits, 1, 1, 1, 4)
    found["pixel_space_normalized_feature"] = _every(prediction.pixel_features, 1, 1, 1, 4)
    return found


def _load_transformer_decoder(model: kmax_deeplab.KMaXDeepLab, prefix: str) -> None:
    others = ("encoder", "pixel_decoder", "semantic_decoder", "semantic_head_without_last_layer", "semantic_last_layer")
    restore.load_deeplab2_checkpoint(model, prefix, skip=others)


# --- the dual-path layer ---

_DUAL_PATHS = {"full": {}, "nop2m": {"memory_self_attention": False, "pixel_feedback": False}}


def _dual_paths() -> dict[str, dual_path.DualPathTransformer]:
    layers = {
        prefix: dual_path.DualPathTransformer(192, 96, norm=NORM, activation=activations.relu, **switches)
        for prefix, switches in _DUAL_PATHS.items()
    }
    for layer in layers.values():
        layer(tf.zeros([1, 2, 2, 192]), tf.zeros([1, 2, 96]))
    return layers


def _load_dual_paths(layers: dict[str, dual_path.DualPathTransformer], prefix: str) -> None:
    reader = tf.train.load_checkpoint(prefix)
    names = name_maps.NameMap(layer_names.DUAL_PATH)
    unused = {key for key in reader.get_variable_to_shape_map() if key.endswith("/.ATTRIBUTES/VARIABLE_VALUE")}
    for variant, layer in layers.items():
        for path, variable in restore.variable_paths(layer).items():
            key = f"{variant}_layer/{names(path)}/.ATTRIBUTES/VARIABLE_VALUE"
            variable.assign(reader.get_tensor(key).reshape(variable.shape))
            unused.discard(key)
    if any(key.startswith(("full_layer", "nop2m_layer")) for key in unused):
        raise AssertionError(f"Not used: {sorted(unused)[:5]}")


def _run_dual_paths(layers: dict[str, dual_path.DualPathTransformer], inputs: Tensors) -> Tensors:
    found = {}
    for variant, layer in layers.items():
        pixels, memory = layer(inputs[f"{variant}_pixel"], inputs[f"{variant}_memory"])
        found[f"{variant}_pixel_out"] = pixels[..., ::2]
        found[f"{variant}_memory_out"] = memory
    return found


CASES = [
    backbone(
        "resnet50_beta",
        "resnet50_beta",
        output_stride=16,
        moving_means=("stage2/block1/conv1/norm", "stage4/block2/conv1/norm", "stem/conv3/norm"),
    ),
    backbone(
        "axial_resnet50",
        "kmax_axial_resnet50",
        moving_means=(
            "stage2/block1/conv1/norm",
            "stage4/block4/attention/width_axis/retrieved_norm",
            "stem/conv3/norm",
        ),
    ),
    backbone(
        "swidernet_sac",
        "swidernet",
        output_stride=16,
        stem_width_multiplier=0.5,
        backbone_width_multiplier=0.25,
        backbone_layer_multiplier=0.75,
        use_squeeze_and_excite=True,
        use_sac_beyond_stride=16,
        moving_means=("stage1/block1/conv1/norm", "stage3/block3/conv1/norm", "stem/norm"),
    ),
    backbone(
        "max_deeplab_l_backbone",
        "max_deeplab_l_backbone",
        output_stride=16,
        stem_width_multiplier=0.5,
        backbone_width_multiplier=0.125,
    ),
    backbone("convnext_tiny", "kmax_convnext_tiny", only=LEVELS),
    backbone("moat0", "moat0_pretrain_224_1k", only=LEVELS),
    backbone(
        "mobilenet_v3_small",
        "mobilenet_v3_small",
        only=LEVELS[5:],
        batchnorm_epsilon=1e-5,
        moving_means=("blocks/0/norm", "blocks/4/depthwise/norm", "blocks/9/project/norm"),
    ),
    Case("kmax_resnet50", coco_model, load, _kmax, after=_labels),
    Case("kmax_resnet50_gain2", coco_model, load, _kmax, after=_labels),
    Case("kmax_transformer_decoder", coco_model, _load_transformer_decoder, _transformer_decoder),
    Case("dual_path_transformer", _dual_paths, _load_dual_paths, _run_dual_paths),
]
