import functools

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import architectures
from deeplab2_kmax import config as configs
from deeplab2_kmax.backbones import BACKBONES, convnext
from deeplab2_kmax.checkpoints import restore
from deeplab2_kmax.data import pipeline
from tests import backbone_checks, shared
from tests.trainer import tiny as experiments

tiny = functools.partial(convnext.ConvNeXt, depths=(1, 1, 2, 1), widths=(8, 12, 16, 24))


@pytest.mark.parametrize(
    ("name", "parameters", "widths"),
    [
        ("convnext_tiny", 27818592, (96, 192, 384, 768)),
        pytest.param("convnext_small", 49453152, (96, 192, 384, 768), marks=pytest.mark.slow),
        pytest.param("kmax_convnext_base", 87564416, (128, 256, 512, 1024), marks=pytest.mark.slow),
        pytest.param("kmax_convnext_large", 196227264, (192, 384, 768, 1536), marks=pytest.mark.slow),
        pytest.param("kmax_convnext_xlarge", 348143872, (256, 512, 1024, 2048), marks=pytest.mark.slow),
    ],
)
def test_parameters(name, parameters, widths):
    with tf.Graph().as_default():  # in which variables have shapes, but no values
        backbone = BACKBONES[name]()
        assert backbone_checks.count_parameters(backbone) == (parameters, 0)
    assert backbone.name == name
    assert backbone.channels == (widths[0], *widths)
    assert backbone.strides == (4, 4, 8, 16, 32)


def test_sizes():
    backbone_checks.check_sizes(tiny())


def test_sizes_without_padding():
    backbone = tiny(zero_padding=False)
    assert [feature.shape[1] for feature in backbone(tf.zeros([1, 224, 224, 3]))[:5]] == [56, 56, 28, 14, 7]


def test_training():
    backbone_checks.check_training(functools.partial(tiny, drop_path_keep_prob=1.0))


def test_padding_comes_before_the_norm():
    layer = convnext.Downsample(1, zero_padding=True)
    x = tf.random.stateless_normal([1, 3, 3, 4], [0, 0])
    layer(x)
    layer.conv.kernel.assign(tf.ones_like(layer.conv.kernel))
    layer.norm.gamma.assign(tf.zeros([4]))
    layer.norm.beta.assign(tf.ones([4]))
    # All 16 products are the beta, at the padded border too.
    np.testing.assert_allclose(layer(x), tf.fill([1, 2, 2, 1], 16.0))


def test_layer_scale_starts_small():
    block = convnext.Block(4)
    x = tf.random.stateless_normal([1, 5, 5, 4], [0, 1])
    np.testing.assert_allclose(block(x), x, atol=1e-5)
    block.layer_scale.assign(tf.ones([4]))
    assert np.abs(block(x) - x).max() > 1e-3


def test_drop_path_grows_to_the_last_block():
    backbone = tiny(drop_path_keep_prob=0.6)
    stages = (backbone.stage2, backbone.stage3, backbone.stage4, backbone.stage5)
    blocks = [getattr(stage, f"block{number + 1}") for stage in stages for number in range(stage.num_blocks)]
    np.testing.assert_allclose([block.drop_path.rate for block in blocks], [0, 0.1, 0.2, 0.3, 0.4])


def test_every_variable_matters():
    backbone = tiny()
    images = tf.random.stateless_normal([1, 65, 65, 3], [0, 2])
    backbone(images)
    backbone_checks.randomize(backbone)
    run = tf.function(lambda: backbone(images).res5)
    before = run()
    for path, variable in restore.variable_paths(backbone).items():
        value = variable.value()
        variable.assign(1.5 * value + 0.1)
        assert np.abs(run() - before).max() > 1e-5, path
        variable.assign(value)


def test_initial_kernels_differ():
    backbone = tiny()
    backbone(tf.zeros([1, 33, 33, 3]))
    block1, block2 = backbone.stage4.block1, backbone.stage4.block2
    assert np.abs(block1.pointwise1.kernel - block2.pointwise1.kernel).max() > 1e-3
    assert 0.015 < np.std(block1.pointwise1.kernel) < 0.025


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 16}, "output_stride must be 32, but got 16"),
        ({"use_squeeze_and_excite": True}, "use_squeeze_and_excite must be false, but got True"),
        ({"backbone_width_multiplier": 0.5}, "backbone_width_multiplier must be 1.0"),
        ({"drop_path_schedule": "constant"}, "drop_path_schedule must be 'linear'"),
        ({"drop_path_keep_prob": 0.0}, r"drop_path_keep_prob lies in \(0, 1\]"),
        ({"window_size": [7, 7]}, "window_size must be"),
    ],
)
def test_options_that_it_does_not_have(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.build_backbone("convnext_tiny", **options)


def test_with_kmax():
    backbone = architectures.build_backbone(
        "kmax_convnext_tiny", drop_path_keep_prob=0.7, drop_path_schedule="constant"
    )
    assert backbone.stage5.block3.drop_path.rate == pytest.approx(0.3)
    with pytest.raises(ValueError, match="output_stride must be 32"):
        architectures.build_backbone("kmax_convnext_tiny", output_stride=16)


@pytest.mark.slow
def test_one_step_of_kmax_deeplab(tmp_path):
    experiments.write_records(tmp_path / "data")
    config = experiments.load(tmp_path, 'model_options { backbone { name: "kmax_convnext_tiny" } }')
    dataset = architectures.dataset_of(config)
    batches = pipeline.build_dataset(
        config.train_dataset_options, dataset=dataset, training=True, targets=architectures.of(config).targets
    )
    batch = next(iter(batches))
    model, loss = architectures.build_model(config), architectures.build_loss(config)
    model.build_variables()

    @tf.function
    def step(seed):
        with tf.GradientTape() as tape:
            terms = loss(model(batch["image"], training=True, seed=seed), batch, seed=seed)
            total = tf.reduce_mean(terms["total_loss"])
        return total, tape.gradient(total, model.trainable_variables)

    total, gradients = step(tf.constant([1, 2]))
    assert np.isfinite(total)
    for variable, gradient in zip(model.trainable_variables, gradients):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name
    maps = model(batch["image"]).maps
    assert maps.panoptic.shape == batch["image"].shape[:3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("coco/kmax_deeplab/convnext_tiny", 67265502),
        ("coco/kmax_deeplab/convnext_small", 88900062),
        ("coco/kmax_deeplab/convnext_base", 129747390),
        ("coco/kmax_deeplab/convnext_large", 243882366),
        ("cityscapes/kmax_deeplab/convnext_tiny", 60981933),
        ("cityscapes/kmax_deeplab/convnext_small", 82616493),
        ("cityscapes/kmax_deeplab/convnext_base", 121631693),
        ("cityscapes/kmax_deeplab/convnext_large", 232102413),
        ("ade20k/kmax_deeplab/convnext_large", 243917318),
    ],
)
def test_parameters_of_kmax_deeplab(name, parameters):
    config = configs.load(shared.ROOT / f"configs/{name}.textproto")
    with tf.Graph().as_default():
        model = architectures.build_model(config, postprocess=False)
        model.build_variables()
        assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == parameters
