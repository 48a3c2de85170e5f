"""MaX-DeepLab as a whole at a tiny size: outputs, training, rates, checkpoints, export; counts at full size."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

import deeplab2_kmax as dk
from deeplab2_kmax import architectures, backbones
from deeplab2_kmax import config as configs
from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import restore
from deeplab2_kmax.models import max_deeplab, outputs
from deeplab2_kmax.protos import model_pb2
from deeplab2_kmax.serving import export, network
from tests import backbone_checks, shared
from tests.models import small
from tests.trainer import tiny
from trainer import experiment, state

OPTIONS = """
decoder { feature_key: "feature_semantic" atrous_rates: [1, 2, 3] decoder_channels: 8 aspp_channels: 8 }
max_deeplab {
  pixel_space_head { output_channels: 4 head_channels: 8 }
  auxiliary_low_level { feature_key: "res3" channels_project: 4 }
  auxiliary_low_level { feature_key: "res2" channels_project: 4 }
  auxiliary_semantic_head { output_channels: 5 head_channels: 8 }
  memory { num_mask_slots: 6 channels: 8 transformer_filters: 4 feed_forward_channels: 8 num_heads: 2 }
}
"""
NARROW = {
    "output_stride": 16,
    "stem_width_multiplier": 1 / 16,
    "backbone_width_multiplier": 1 / 16,
    "backbone_layer_multiplier": 0.34,
}
CONFIG = shared.ROOT / "configs/tiny/max_deeplab_synthetic.textproto"


def build(name="max_deeplab_s", changes=""):
    options = text_format.Parse(OPTIONS, model_pb2.ModelOptions())
    options.MergeFrom(text_format.Parse(changes, model_pb2.ModelOptions()))
    backbone = backbones.BACKBONES[name](norm=small.NORM, **NARROW, **max_deeplab.memory_sizes(options))
    model = max_deeplab.build(options, small.kit(backbone))
    model.build_variables()
    return model


def images(height=33, width=65, batch=2):
    return tf.constant(np.random.RandomState(0).uniform(0, 255, [batch, height, width, 3]), tf.float32)


@pytest.fixture(scope="module")
def model():
    built = build()
    backbone_checks.randomize(built)
    return built


def test_training_outputs(model):
    output = tf.function(lambda x: model(x, training=True, seed=tf.constant([1, 2])), autograph=False)(images())
    assert output.prediction.class_logits.shape == (2, 6, 5)
    assert output.prediction.mask_logits.shape == (2, 9, 17, 6)
    assert output.prediction.pixel_features.shape == (2, 9, 17, 4)
    assert output.semantic_logits.shape == (2, 9, 17, 5)
    assert output.auxiliary == ()
    assert output.maps is None and output.semantic_probabilities is None


def test_inference_outputs(model):
    output = model(images(), training=False)
    named = outputs.deeplab2_outputs(output)
    assert set(named) == {
        "transformer_class_logits",
        "pixel_space_mask_logits",
        "pixel_space_normalized_feature",
        "semantic_logits",
        "semantic_probs",
    }
    np.testing.assert_allclose(tf.reduce_sum(named["semantic_probs"], axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(tf.norm(output.prediction.pixel_features, axis=-1), 1.0, rtol=1e-5)
    for left, right in zip(model.predict_masks(images()), output.prediction):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-4 * np.std(right))
    (clusters,) = model.cluster_maps(images())
    np.testing.assert_array_equal(clusters, tf.argmax(output.prediction.mask_logits, axis=-1))


def test_masks_are_products_of_memory_and_pixels(model):
    """The prediction again from the backbone's features, by the formulas."""
    features = model.backbone(images() / 127.5 - 1.0)
    predictor = model.mask_predictor
    pixels = predictor.feature_norm(predictor.pixel_head(features.feature_panoptic))
    pixels = tf.math.l2_normalize(pixels, axis=-1, epsilon=1e-12)
    kernels = predictor.mask_head(features.mask_features)
    logits = predictor.mask_norm(tf.einsum("bhwd,bnd->bhwn", pixels, kernels)[..., tf.newaxis])[..., 0]
    expected = model(images()).prediction
    np.testing.assert_allclose(logits, expected.mask_logits, rtol=0, atol=1e-4 * np.std(logits))
    classes = predictor.class_head(features.class_features) + [0.0, 0.0, 0.0, 0.0, np.log(4 * 0.9 / 0.1)]
    np.testing.assert_allclose(classes, expected.class_logits, rtol=0, atol=1e-4 * np.std(classes))


@pytest.mark.slow
def test_the_large_model_has_no_semantic_decoder():
    model = build("max_deeplab_l")
    assert model.semantic_decoder is None
    features = model.backbone(images(batch=1) / 127.5 - 1.0)
    output = model(images(batch=1))
    assert output.semantic_logits.shape == (1, 9, 17, 5)
    expected = model.semantic_head(features.feature_semantic)
    np.testing.assert_allclose(output.semantic_logits, expected, atol=1e-5)


def test_the_window_of_image_pooling_is_an_option():
    assert build().semantic_decoder.aspp.pool_size is None
    assert build(changes="decoder { aspp_pool_size: [3, 5] }").semantic_decoder.aspp.pool_size == (3, 5)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [pytest.param("float32", marks=pytest.mark.slow), "mixed_bfloat16"])
def test_training_steps_lower_a_loss(policy):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build()
    finally:
        keras.mixed_precision.set_global_policy(before)
    batch = images()

    @tf.function(autograph=False)
    def step(seed):
        with tf.GradientTape() as tape:
            output = model(batch, training=True, seed=seed)
            tensors = [x for x in tf.nest.flatten(output) if x is not None]
            loss = sum(tf.reduce_mean(tf.square(x - 0.5)) for x in tensors)
        gradients = tape.gradient(loss, model.trainable_variables)
        for variable, gradient in zip(model.trainable_variables, gradients):
            variable.assign_sub(0.01 * gradient)
        return loss, gradients, tensors

    losses = []
    for number in range(3):
        loss, gradients, tensors = step(tf.constant([0, number]))
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert all(x.dtype == tf.float32 for x in tensors)
    for variable, gradient in zip(model.trainable_variables, gradients):
        assert gradient is not None and np.isfinite(gradient).all(), variable.name


@pytest.mark.parametrize(
    "options, message",
    [
        ('backbone { name: "resnet50" } max_deeplab {}', "takes the backbones max_deeplab_s, max_deeplab_l and those"),
        ('backbone { name: "max_deeplab_s_backbone" } max_deeplab {}', "but got 'max_deeplab_s_backbone'"),
    ],
)
def test_backbones_without_a_memory(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.name_of(text_format.Parse(options, model_pb2.ModelOptions()))


@pytest.mark.parametrize(
    "override, message",
    [
        ("model_options { max_deeplab { kmax { num_heads: 8 } } }", "max_deeplab.kmax: expected a backbone whose name"),
        ('model_options { backbone { name: "kmax_resnet50" } }', "memory: expected the backbone max_deeplab_s or max_"),
        (
            "model_options { max_deeplab { memory { num_heads: 3 } } }",
            "transformer_filters: expected a multiple of num_h",
        ),
        ("model_options { max_deeplab { memory { num_mask_slots: 1000 } } }", "fewer than the label divisor"),
        ("model_options { max_deeplab { memory { channels: 0 } } }", "channels: expected a number > 0"),
        ("model_options { decoder { aspp_pool_size: 3 } }", r"aspp_pool_size: expected \[height, width\]"),
        ('model_options { backbone { name: "max_deeplab_l" output_stride: 32 } }', "output_stride: expected 16"),
        ('model_options { backbone { pretrained_weights: "w" } }', "use initial_checkpoint"),
        (
            "model_options { max_deeplab { pixel_space_head { output_channels: 0 } } }",
            "pixel_space_head.output_channels",
        ),
    ],
)
def test_configs_that_make_no_sense(override, message):
    with pytest.raises(configs.ConfigError, match=message):
        configs.load(CONFIG, [override])


def test_settings_that_it_does_not_use():
    config = configs.load(CONFIG, ["evaluator_options { nms_kernel: 7 }"])
    assert configs.check(config) == ["evaluator_options.nms_kernel is not used by MaX-DeepLab (max_deeplab_s)"]


def test_learning_rates():
    config = configs.load(CONFIG)
    model = architectures.build_model(config)
    model.build_variables()
    factors = {row.name: row.learning_rate_factor for row in state.variable_table(config, model)}
    new = ("transformer", "extra", "memory", "fuse", "projection")
    for name, factor in factors.items():
        slow = name.startswith("backbone/") and not any(word in name for word in new)
        assert factor == (0.5 if slow else 1.0), name
    assert {0.5, 1.0} == set(factors.values())


def write_checkpoint(path, values):
    """An object graph like DeepLab2's: nested objects, whose attributes are the parts of the names."""
    top = tf.Module()
    for name, value in values.items():
        node, (*parents, leaf) = top, name.split("/")
        for part in parents:
            if not hasattr(node, part):
                setattr(node, part, tf.Module())
            node = getattr(node, part)
        setattr(node, leaf, tf.Variable(value))
    roots = {name.split("/")[0] for name in values}
    return tf.train.Checkpoint(**{root: getattr(top, root) for root in roots}).write(str(path))


def renamed(name):
    """Another spelling of what the tables are not sure of."""
    name = name.replace("_memory_feature", "_feature_of_the_memory")
    name = re.sub(r"_(class|mask)_embedding_projection", r"_transformer_\1_feature", name)
    name = re.sub(r"_stage5_extra/", "_extra_stage5/blocks/", name)
    return re.sub(r"_decoder_stage(\d+)_extra/", r"_extra_decoders/\1/", name)


@pytest.mark.parametrize("backbone", ["max_deeplab_s", pytest.param("max_deeplab_l", marks=pytest.mark.slow)])
def test_checkpoints_of_deeplab2(backbone, tmp_path):
    model = build(backbone)
    ours = restore.variable_paths(model)
    names = restore._model_names(ours)
    assert None not in names.values() and len(set(names.values())) == len(ours)
    some = {
        "backbone/stage5/transformer1/pixel_attention/retrieved_norm/gamma",
        "backbone/decoder/fuse1/resized/conv/kernel",
        "mask_predictor/pixel_head/last/kernel",
    }
    assert {names[path] for path in some} == {
        "encoder/_stage5/_block1_transformer/_pixel_attention/_batch_norm_retrieved_value/gamma",
        "encoder/_decoder_stage1_resized_fuse/_resized_conv_bn1/_conv/kernel",
        "pixel_space_head/final_conv/kernel",
    }
    random = np.random.default_rng(0)
    values = {path: random.normal(size=variable.shape).astype(np.float32) for path, variable in ours.items()}
    for number, spell in enumerate((str, renamed)):
        prefix = write_checkpoint(tmp_path / f"ckpt-{number}", {spell(names[path]): values[path] for path in ours})
        for variable in ours.values():
            variable.assign(tf.zeros_like(variable))
        report = dk.load_deeplab2_checkpoint(model, prefix)
        assert len(report.loaded) == len(ours)
        for path, variable in ours.items():
            np.testing.assert_array_equal(variable, values[path], err_msg=path)


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    model = build()
    ours = restore.variable_paths(model)
    names = restore._model_names(ours)
    values = {renamed(names[path]): variable.numpy() for path, variable in ours.items()}
    values["encoder/_transformer_class_feature_too/_conv/kernel"] = values.pop(
        "encoder/_transformer_mask_feature/_conv/kernel"
    )
    with pytest.raises(ValueError, match="not in the checkpoint: backbone/mask_projection/conv/kernel"):
        dk.load_deeplab2_checkpoint(model, write_checkpoint(tmp_path / "ckpt", values))


def test_a_classifier_fills_the_plain_backbone(tmp_path):
    plain = backbones.BACKBONES["max_deeplab_s_backbone"](norm=small.NORM, num_heads=2, **NARROW)
    plain(tf.zeros([1, 33, 33, 3]))
    backbone_checks.randomize(plain)
    paths = restore.variable_paths(plain)
    names = restore._BACKBONE_NAMES.names(paths)
    prefix = write_checkpoint(tmp_path / "c", {f"encoder/{names[path]}": paths[path].numpy() for path in paths})
    model = build()
    report = restore.load_initial(model, prefix)
    assert len(report.loaded) == len(paths)
    np.testing.assert_array_equal(model.backbone.stage5.block1.conv3.norm.gamma, plain.stage5.block1.conv3.norm.gamma)
    assert any(path.startswith("backbone/stage5_extra") for path in report.missing)


@pytest.mark.slow
def test_training_and_evaluation(tmp_path):
    tiny.write_records(tmp_path / "data")
    override = """
    trainer_options {
      save_checkpoints_steps: 2 steps_per_loop: 1 save_summaries_steps: 2
      solver_options { training_number_of_steps: 2 warmup_steps: 0 }
    }
    """
    config = configs.load(CONFIG, [override], variables={"DATA": str(tmp_path / "data")})
    values = experiment.run(config, "train_and_eval", tmp_path / "runs")
    assert np.isfinite(values["losses/eval_total_loss"])
    assert 0.0 <= values["evaluation/pq/PQ"] <= 1.0
    lines = [json.loads(line) for line in (tmp_path / "runs/tiny_max_deeplab/metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["mode"] == "train"]
    assert len(train) == 2 and all(np.isfinite(line["losses/train_total_loss"]) for line in train)
    assert not [name for name in train[0] if "aux" in name]


@pytest.mark.slow
def test_export(tmp_path):
    override = """
    trainer_options { solver_options { batchnorm_momentum: 0.01 } }
    eval_dataset_options { crop_size: [65, 65] min_resize_value: [65, 65] max_resize_value: [65, 65] }
    evaluator_options { transformer_class_confidence_threshold: 0 pixel_confidence_threshold: 0 }
    """
    config = configs.load(CONFIG, [override])
    model = network.load_model(config, None)
    backbone_checks.randomize(model)
    picture = export._picture(65, 65)[np.newaxis]
    model(tf.constant(picture, tf.float32), training=True)  # statistics that fit
    prefix = tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"))
    exported = export.export(config, prefix, tmp_path / "model")
    got = tf.saved_model.load(str(exported.path)).signatures["serving_default"](input_tensor=tf.constant(picture[0]))
    expected = outputs.deeplab2_outputs(model(tf.constant(picture, tf.float32)))
    for name in ("panoptic_pred", "semantic_pred"):
        assert np.mean(got[name] == expected[name]) > 0.99, name
    assert len(np.unique(got["panoptic_pred"])) > 1
    norms = [
        node.name
        for function in tf.saved_model.load(str(exported.path)).signatures.values()
        for node in function.graph.as_graph_def().node
        if node.op == "FusedBatchNormV3"
    ]
    assert norms == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, total, semantic, network_with_memory, plain, tensors",
    [
        ("max_deeplab_s", 77_756_942, 15_856_742, 61_726_624, 41_343_424, 301),
        pytest.param("max_deeplab_l", 450_871_278, 107_398, 450_523_232, 175_115_392, 282, marks=pytest.mark.slow),
    ],
)
def test_parameters(name, total, semantic, network_with_memory, plain, tensors):
    """DeepLab2's counts for COCO. In a graph nothing is allocated."""
    config = configs.load(shared.ROOT / f"configs/coco/max_deeplab/{name}_1025_100k.textproto")

    def count(variables):
        return sum(int(np.prod(variable.shape)) for variable in variables)

    with tf.Graph().as_default():
        model = architectures.build_model(config, postprocess=False)
        model.build_variables()
        parts = [part for part in (model.semantic_decoder, model.semantic_head) if part is not None]
        assert sum(count(part.trainable_variables) for part in parts) == semantic
        assert count(model.backbone.trainable_variables) == network_with_memory
        assert count(model.trainable_variables) == total
        slow = state.backbone_variables(model)
        assert (len(slow), count(slow)) == (tensors, plain)
