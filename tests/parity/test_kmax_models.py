"""The networks answer as DeepLab2's do, with its checkpoints rebuilt under its own names."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax import backbones, structures
from deeplab2_kmax.checkpoints import name_maps, restore
from deeplab2_kmax.checkpoints.name_maps import layers as layer_names
from deeplab2_kmax.layers import activations, dual_path, norm
from deeplab2_kmax.models import kmax_deeplab
from deeplab2_kmax.protos import model_pb2
from tests import shared

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


def coco_model():
    options = text_format.Parse(COCO_OPTIONS, model_pb2.ModelOptions())
    backbone = backbones.BACKBONES["kmax_resnet50"](norm=NORM)
    return kmax_deeplab.build(options, backbone, classes=COCO_CLASSES, norm=NORM)


def check_backbone(name, build_name, tmp_path, moving_means, **options):
    manifest, arrays = shared.case(name)
    backbone = backbones.BACKBONES[build_name](norm=NORM, **options)
    images = tf.constant(arrays["input"])
    inference = tf.function(lambda: backbone(images, training=False))

    def compare(actual, output_name):
        spec = manifest["outputs"][output_name]
        actual = np.asarray(actual)
        assert actual.size == np.prod(spec["shape"])
        actual = actual.reshape(-1)[:: spec.get("step", 1)]
        tolerance = spec["tolerance"]
        np.testing.assert_allclose(
            actual, arrays[output_name].reshape(-1), rtol=tolerance["rtol"], atol=tolerance["atol"], err_msg=output_name
        )

    def compare_all(pyramid, prefix):
        for field, value in pyramid._asdict().items():
            compare(value, prefix + ("backbone_output" if field == "output" else field))

    restore.load_deeplab2_checkpoint(backbone, shared.write_checkpoint(name, tmp_path / "live", live=True))
    compare_all(inference(), "live_")
    restore.load_deeplab2_checkpoint(backbone, shared.write_checkpoint(name, tmp_path / "plain"))
    compare_all(inference(), "")
    training = tf.function(lambda: backbone(images, training=True))
    compare(training().res5, "train_res5")
    variables = restore.variable_paths(backbone)
    for index, path in enumerate(moving_means):
        compare(variables[path], f"train_moving_mean_{index}")


def test_resnet50_beta(tmp_path):
    means = ["stage2/block1/conv1/norm", "stage4/block2/conv1/norm", "stem/conv3/norm"]
    means = [f"{path}/moving_mean" for path in means]
    check_backbone("resnet50_beta", "resnet50_beta", tmp_path, means, output_stride=16)


def test_axial_resnet50(tmp_path):
    means = [
        "stage2/block1/conv1/norm",
        "stage4/block4/attention/width_axis/retrieved_norm",
        "stem/conv3/norm",
    ]
    means = [f"{path}/moving_mean" for path in means]
    check_backbone("axial_resnet50", "kmax_axial_resnet50", tmp_path, means)


def compare_scaled(manifest, arrays, name, actual, picked=()):
    """Compares what `picked` leaves of `actual`, to a tolerance in units of the expected standard deviation."""
    spec = manifest["outputs"][name]
    actual = np.asarray(actual)[picked]
    assert list(actual.shape) == spec["shape"], name
    if name.startswith("assignment"):
        np.testing.assert_array_equal(actual, arrays[name], err_msg=name)
        return
    factor = spec.get("atol_times_std", manifest["tolerance"]["atol_times_std"])
    np.testing.assert_allclose(
        actual, arrays[name], rtol=manifest["tolerance"]["rtol"], atol=factor * spec["std"], err_msg=name
    )


def every(*steps):
    return tuple(slice(None, None, step) for step in steps)


@pytest.fixture(scope="module")
def model():
    return coco_model()


@pytest.mark.parametrize("case", ["kmax_resnet50", "kmax_resnet50_gain2"])
def test_kmax_resnet50(model, case, tmp_path):
    manifest, arrays = shared.case(case)
    restore.load_deeplab2_checkpoint(model, shared.write_checkpoint(case, tmp_path / "ckpt"))
    images = tf.constant(arrays["image"])

    @tf.function
    def run():
        pyramid = model.backbone(kmax_deeplab.normalize(images), training=False)
        features = model.pixel_decoder(pyramid, training=False)
        return pyramid, features, model.clusters(pyramid, predict=True), model(images, training=False)

    pyramid, features, clusters, output = run()
    compared = {"semantic_pred"}

    def compare(name, actual, picked=()):
        compare_scaled(manifest, arrays, name, actual, picked)
        compared.add(name)

    for level, step in ((2, 8), (3, 4), (4, 2), (5, 1)):
        compare(f"encoder_stage{level}", getattr(pyramid, f"stage{level}"), every(1, step, step, 16))
    for index, step in enumerate((1, 2, 4)):
        compare(f"pixel_decoder_stage{index + 1}", features[index], every(1, step, step, 8))
    compare("pixel_decoder_output", features[3], every(1, 8, 8, 8))
    for index, step in enumerate(clusters.steps):
        compare(f"cluster_centers_{index}", step.centers, every(1, 1, 16))
        compare(f"assignment_{index}", step.assignment)
    compare("aux_mask_logits_5", clusters.steps[5].prediction.mask_logits, every(1, 2, 2, 4))
    compare("aux_class_logits_0", clusters.steps[0].prediction.class_logits, every(1, 4, 4))
    compare("transformer_class_logits", output.prediction.class_logits)
    compare("pixel_space_mask_logits", output.prediction.mask_logits)
    compare("pixel_space_normalized_feature", output.prediction.pixel_features, every(1, 2, 2, 1))
    compare("semantic_logits", output.semantic_logits, every(1, 2, 2, 1))
    assert compared >= set(manifest["outputs"])

    # Without what only training needs, the masks and the clusters are the same.
    masks = tf.function(lambda: model.predict_masks(images))()
    for lean, full in zip(masks, output.prediction):
        np.testing.assert_allclose(lean, full, rtol=0, atol=2e-4 * np.std(full))
    for expected, actual in zip(clusters.steps, tf.function(lambda: model.cluster_maps(images))()):
        np.testing.assert_array_equal(actual, expected.assignment)


def test_kmax_transformer_decoder(model, tmp_path):
    manifest, arrays = shared.case("kmax_transformer_decoder")
    prefix = shared.write_checkpoint("kmax_transformer_decoder", tmp_path / "ckpt")
    others = ("encoder", "pixel_decoder", "semantic_decoder", "semantic_head_without_last_layer", "semantic_last_layer")
    restore.load_deeplab2_checkpoint(model, prefix, skip=others)
    features = [tf.constant(arrays[f"feature_{name}"]) for name in ("os32", "os16", "os8", "final")]

    @tf.function
    def run():
        clusters = model.transformer_decoder(features[:3], predict=True, training=False)
        return clusters, model.mask_predictor(features[3], clusters.class_features, clusters.mask_features)

    clusters, prediction = run()
    compared = set()

    def compare(name, actual, picked=()):
        compare_scaled(manifest, arrays, name, actual, picked)
        compared.add(name)

    for index, step in enumerate(clusters.steps):
        compare(f"cluster_centers_{index}", step.centers, every(1, 1, 8))
        compare(f"assignment_{index}", step.assignment)
        compare(f"aux_mask_logits_{index}", step.prediction.mask_logits, every(1, 1, 1, 8))
        compare(f"aux_class_logits_{index}", step.prediction.class_logits, every(1, 8, 2))
        compare(f"aux_feature_{index}", step.prediction.pixel_features, every(1, 1, 1, 4))
    compare("transformer_class_feature", clusters.class_features, every(1, 4, 4))
    compare("transformer_mask_feature", clusters.mask_features, every(1, 4, 4))
    compare("transformer_class_logits", prediction.class_logits)
    compare("pixel_space_mask_logits", prediction.mask_logits, every(1, 1, 1, 4))
    compare("pixel_space_normalized_feature", prediction.pixel_features, every(1, 1, 1, 4))
    assert compared == set(manifest["outputs"])
    lean = model.transformer_decoder(features[:3], training=False)
    for full, short in zip(clusters.steps, lean.steps):
        np.testing.assert_array_equal(short.assignment, full.assignment)


@pytest.mark.parametrize(
    "prefix, switches",
    [("full", {}), ("nop2m", {"memory_self_attention": False, "pixel_feedback": False})],
)
def test_dual_path_transformer(prefix, switches, tmp_path):
    manifest, arrays = shared.case("dual_path_transformer")
    reader = tf.train.load_checkpoint(shared.write_checkpoint("dual_path_transformer", tmp_path / "ckpt"))
    layer = dual_path.DualPathTransformer(192, 96, norm=NORM, activation=activations.relu, **switches)
    inputs = [tf.constant(arrays[f"{prefix}_{path}"]) for path in ("pixel", "memory")]
    layer(*inputs)
    names = name_maps.NameMap(layer_names.DUAL_PATH)
    used = set()
    for path, variable in restore.variable_paths(layer).items():
        key = f"{prefix}_layer/{names(path)}"
        variable.assign(reader.get_tensor(f"{key}/.ATTRIBUTES/VARIABLE_VALUE").reshape(variable.shape))
        used.add(key)
    assert used == {v["key"] for v in manifest["variables"] if v["key"].startswith(prefix)}
    pixels, memory = tf.function(layer)(*inputs)
    outputs = {f"{prefix}_pixel_out": np.asarray(pixels)[..., ::2], f"{prefix}_memory_out": np.asarray(memory)}
    for name, actual in outputs.items():
        expected = arrays[name]
        atol = manifest["tolerance"]["atol_times_std"] * manifest["outputs"][name]["std"]
        np.testing.assert_allclose(actual, expected, rtol=manifest["tolerance"]["rtol"], atol=atol, err_msg=name)
