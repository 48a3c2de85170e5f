"""The dual-path networks: what stands where, in which order the decoder fuses, and what a classifier gives."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import architectures, backbones
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import max_deeplab, recipe, stacked_decoder
from deeplab2_kmax.layers import activations, axial_block, dual_path, norm, residual
from tests import backbone_checks

NARROW = {
    "stem_width_multiplier": 1 / 16,
    "backbone_width_multiplier": 1 / 16,
    "backbone_layer_multiplier": 0.34,
    "num_heads": 2,
    "num_mask_slots": 5,
    "memory_channels": 6,
    "transformer_filters": 4,
    "feed_forward_channels": 8,
}


def build(name, **options):
    return backbones.BACKBONES[name](norm=norm.batch_norm(), **{"output_stride": 16, **NARROW, **options})


def blocks(stage):
    return [getattr(stage, f"block{number}") for number in range(1, stage.num_blocks + 1)]


@pytest.mark.parametrize(
    "name, semantic", [("max_deeplab_s", (5, 9, 128)), ("max_deeplab_l", (17, 33, 16))], ids=["s", "l"]
)
def test_features(name, semantic):
    features = build(name)(tf.random.stateless_uniform([2, 65, 129, 3], seed=[1, 2]))
    sizes = [(33, 65, 8), (17, 33, 16), (9, 17, 32), (5, 9, 64), (5, 9, 128)]
    for level, size in enumerate(sizes, start=1):
        assert getattr(features, f"stage{level}").shape == (2, *size)
        np.testing.assert_array_equal(getattr(features, f"res{level}"), tf.nn.relu(getattr(features, f"stage{level}")))
    assert features.feature_panoptic.shape == (2, 17, 33, 16)
    assert features.feature_semantic.shape == (2, *semantic)
    assert features.class_features.shape == features.mask_features.shape == (2, 5, 6)
    np.testing.assert_array_equal(features.output, features.feature_panoptic)
    for name in ("feature_panoptic", "feature_semantic", "class_features", "mask_features"):
        assert tf.reduce_min(getattr(features, name)) >= 0.0


def test_semantic_feature_of_the_small_network_is_stage_5():
    features = build("max_deeplab_s")(tf.random.stateless_uniform([1, 33, 33, 3], seed=[1, 2]))
    np.testing.assert_array_equal(features.feature_semantic, features.res5)


@pytest.mark.parametrize("output_stride, side", [(8, 9), (16, 5), (32, 3)])
def test_output_strides(output_stride, side):
    backbone = build("max_deeplab_s", output_stride=output_stride)
    features = backbone(tf.zeros([1, 65, 65, 3]))
    assert features.stage5.shape == (1, side, side, 128)
    assert features.feature_panoptic.shape == (1, 17, 17, 16)


def test_any_size():
    backbone = build("max_deeplab_s")
    backbone(tf.zeros([1, 33, 33, 3]))
    backbone_checks.randomize(backbone)
    graph = tf.function(backbone, autograph=False, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for height, width in ((65, 33), (50, 64)):
        images = tf.random.stateless_normal([2, height, width, 3], seed=[5, 6])
        for left, right in zip(graph(images), backbone(images)):
            np.testing.assert_allclose(left, right, atol=1e-4 * np.std(right))


def test_where_dual_path_layers_stand():
    small, large = build("max_deeplab_s", backbone_layer_multiplier=1.0), build("max_deeplab_l")
    assert isinstance(small.stage4, residual.Stage) and isinstance(small.stage5, dual_path.DualPathStage)
    assert (small.stage5.num_blocks, small.stage5_extra.num_blocks) == (3, 1)
    assert [type(block) for block in blocks(small.decoder.extra1)] == [residual.Bottleneck]
    assert small.decoder.stage1 is None and small.stage5_extra.transformer1.key_channels == 4

    assert isinstance(large.stage4, dual_path.DualPathStage) and large.stage5_extra is None
    assert isinstance(large.stage4.block1, residual.Basic)  # it reads stride 8
    assert (large.stage4.transformer1.key_channels, large.stage5.transformer1.key_channels) == (4, 8)
    kinds = [type(getattr(large.decoder, f"stage{n}").block1) for n in range(1, 5)]
    assert kinds == [residual.Basic] * 3 + [axial_block.AxialBlock]
    extras = [getattr(large.decoder, f"extra{n}") for n in range(1, 11)]
    assert [0 if extra is None else extra.num_blocks for extra in extras] == [0] * 3 + [3] * 7
    assert [isinstance(extra, dual_path.DualPathStage) for extra in extras] == [n in (4, 8) for n in range(1, 11)]
    strided = [getattr(large.decoder, f"fuse{n}").is_strided for n in range(1, 11)]
    assert strided == [False, False, True, True, False, False, True, True, False, False]


@pytest.mark.parametrize(
    "steps, expected",
    [
        (max_deeplab.STEPS_S, [[5, 3], [11, 2]]),
        (
            max_deeplab.STEPS_L,
            [
                *([5, 3], [11, 2], [12, 3, 11], [13, 5]),
                *([14, 11, 13], [15, 2, 12], [16, 13, 15], [17, 5, 14], [18, 15, 17], [19, 12, 16]),
            ],
        ),
    ],
    ids=["s", "l"],
)
def test_order_of_fusion(steps, expected):
    """Stage n is the number n, what step n gives 10 + n; from the table of the paper's networks."""
    seen = []

    class Fuse(keras.layers.Layer):
        def call(self, features, training=False):
            seen.append([int(feature[0, 0, 0, 0]) for feature in features])
            return tf.fill([1, 1, 1, 1], 10.0 + len(seen))

    relu = activations.get("relu")
    blocks_of = recipe.Recipe(norm=norm.batch_norm(), activation=relu, output_stride=16, width_multiplier=1 / 16)
    decoder = stacked_decoder.StackedDecoder(blocks_of, steps)
    for number in range(1, len(steps) + 1):
        setattr(decoder, f"fuse{number}", Fuse())
        setattr(decoder, f"stage{number}", None)
        setattr(decoder, f"extra{number}", None)
    levels = [tf.fill([1, 1, 1, 1], float(level)) for level in range(1, 6)]
    features, memory = decoder(levels, levels[-1], tf.zeros([1, 2, 3]))
    assert seen == expected
    assert [int(feature[0, 0, 0, 0]) for feature in features] == [11 + step for step in range(len(steps))]
    assert memory.shape == (1, 2, 3)


def test_a_dual_path_layer_follows_every_block():
    """Blocks add 1 to the pixels; layers swap: pixels + memory, memory + 10 pixels."""

    class Block(keras.layers.Layer):
        def call(self, x, training=False):
            return x + 1.0

    class Layer(keras.layers.Layer):
        def call(self, x, memory, training=False):
            return x + memory, memory + 10.0 * x

    stage = dual_path.DualPathStage([Block(), Block()], [Layer(), Layer()])
    x, memory = stage(tf.constant(0.0), tf.constant(0.0))
    # x 0 -> 1; (1, 0) -> (1, 10); x 2; (2, 10) -> (12, 30).
    assert (float(x), float(memory)) == (12.0, 30.0)


@pytest.mark.parametrize(
    "name, stages, steps",
    [
        ("max_deeplab_s", [1, 1, 0.85, 0.8], [1, 1]),
        ("max_deeplab_l", [0.95, 0.9, 0.85, 0.8], [0.9, 0.95, 0.9, 0.8, 0.9, 0.95, 0.9, 0.8, 0.9, 0.95]),
    ],
)
def test_drop_path(name, stages, steps):
    """Of the last blocks of stages 2 to 5 and of the decoder's; a dual-path layer has that of its block."""
    backbone = build(name, backbone_layer_multiplier=1.0, drop_path_keep_prob=0.8, drop_path_schedule="linear")
    last = [blocks(getattr(backbone, f"stage{number}"))[-1] for number in range(2, 6)]
    np.testing.assert_allclose([1 - block.drop_path.rate for block in last], stages)
    decoder = backbone.decoder
    parts = [getattr(decoder, f"extra{n}") or getattr(decoder, f"stage{n}") for n in range(1, len(steps) + 1)]
    np.testing.assert_allclose([1 - part.block1.drop_path.rate for part in parts], steps)
    for number in range(1, backbone.stage5.num_blocks + 1):
        rate = getattr(backbone.stage5, f"block{number}").drop_path.rate
        layer = getattr(backbone.stage5, f"transformer{number}")
        assert rate == layer.pixel_drop_path.rate == layer.memory_drop_path.rate == layer.feed_forward_drop_path.rate
        assert rate == pytest.approx(0.15 if number == 1 else 0.2)


def gradients_of(backbone, images):
    @tf.function(autograph=False)
    def run():
        with tf.GradientTape() as tape:
            features = backbone(images, training=True)[11:]
            loss = tf.add_n([tf.reduce_sum(tf.square(tf.cast(feature, tf.float32))) for feature in features])
        return loss, tape.gradient(loss, backbone.trainable_variables)

    return run()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, policy",
    [
        ("max_deeplab_s", "float32"),
        pytest.param("max_deeplab_s", "mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("max_deeplab_l", "float32", marks=pytest.mark.slow),
    ],
)
def test_gradients_reach_every_variable_and_eager_equals_graph(name, policy):
    images = tf.random.stateless_normal([2, 33, 33, 3], seed=[3, 4])
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        backbone = build(name)
        backbone(images)
    finally:
        keras.mixed_precision.set_global_policy(before)
    backbone_checks.randomize(backbone)
    assert all(variable.dtype == tf.float32 for variable in backbone.variables)
    for left, right in zip(backbone(images), tf.function(backbone, autograph=False)(images)):
        assert left.dtype == (tf.float32 if policy == "float32" else tf.bfloat16)
        left, right = (tf.cast(value, tf.float32) for value in (left, right))
        difference = tf.sqrt(tf.reduce_mean(tf.square(left - right)))
        assert difference <= (1e-4 if policy == "float32" else 0.1) * tf.math.reduce_std(left)
    _, gradients = gradients_of(backbone, images)
    for variable, gradient in zip(backbone.trainable_variables, gradients):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all() and np.any(gradient), variable.name


@pytest.mark.slow
def test_recompute_changes_nothing():
    images = tf.random.stateless_normal([2, 33, 33, 3], seed=[3, 4])
    found, values = [], None
    for stages in ((), (2, 3, 4, 5)):
        backbone = build("max_deeplab_s", recompute_stages=stages)
        backbone(images)
        if values is None:
            backbone_checks.randomize(backbone)
            values = backbone.get_weights()
        backbone.set_weights(values)
        loss, gradients = gradients_of(backbone, images)
        found.append([loss, *gradients, *backbone.non_trainable_variables])
    assert backbone.stage5.recompute and backbone.stage5.block1.recompute and backbone.decoder.extra2.block1.recompute
    for plain, again in zip(*found):
        np.testing.assert_allclose(again, plain, rtol=1e-3, atol=1e-4 * float(tf.reduce_max(tf.abs(plain))))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("max_deeplab_l", {"output_stride": 32}, "output_stride 16, but got 32"),
        ("max_deeplab_s", {"output_stride": 12}, "output_stride is 4, 8, 16 or 32"),
        ("max_deeplab_s", {"num_heads": 3}, "heads"),
        ("max_deeplab_s", {"window_size": [7, 7]}, "window_size"),
        ("max_deeplab_s", {"backbone_layer_multiplier": 0.1}, "backbone_layer_multiplier"),
    ],
)
def test_options_that_it_does_not_have(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)


def test_by_name_without_kmax():
    assert architectures.build_backbone("MaX_DeepLab_L").strides[-1] == 16
    assert not [name for name in backbones.BACKBONES if name.startswith("kmax_max_deeplab") and "backbone" not in name]


@pytest.mark.slow
def test_the_pretrained_part_is_the_plain_backbone():
    for name in ("max_deeplab_s", "max_deeplab_l"):
        backbone = build(name)
        backbone(tf.zeros([1, 33, 33, 3]))
        plain = {option: NARROW[option] for option in NARROW if "multiplier" in option or option == "num_heads"}
        expected = backbones.BACKBONES[f"{name}_backbone"](output_stride=16, **plain)
        expected(tf.zeros([1, 33, 33, 3]))
        shapes = [
            sorted(tuple(v.shape) for v in part)
            for part in (backbone.pretrained_variables, expected.trainable_variables)
        ]
        assert shapes[0] == shapes[1]
