"""What backbones of all families do: sizes, names, options, and that no variable is idle."""

import functools
import re

import pytest
import tensorflow as tf

from deeplab2_kmax import architectures, backbones, config_values
from deeplab2_kmax.backbones import convnext, efficientnet_lite, max_deeplab, moat, mobilenet_v2, mobilenet_v3, xception
from deeplab2_kmax.layers import drop_path, norm
from tests import backbone_checks
from tests.backbones import table
from tests.models import small

NORM = norm.batch_norm(momentum=0.0)

# One block a stage and few channels; of rows of modules that are fixed, the narrowest form.
TINY = {
    **{
        name: functools.partial(small.backbone, name, use_squeeze_and_excite=True, **options)
        for name, options in {
            "resnet50": {"use_sac_beyond_stride": 16},
            "resnet50_beta": {},
            "wide_resnet41": {},
            "swidernet": {"use_sac_beyond_stride": 8},
            "axial_swidernet": {"num_heads": 2},
            "axial_resnet_s": {"num_heads": 2},
            "axial_deeplab_s": {"num_heads": 2},
            "full_axial_resnet_s": {"num_heads": 1, "stem_width_multiplier": 1.0},
            "max_deeplab_s_backbone": {"num_heads": 2, "backbone_layer_multiplier": 0.5},
        }.items()
    },
    "max_deeplab_l_backbone": functools.partial(
        small.backbone, "max_deeplab_l_backbone", num_heads=2, output_stride=16
    ),
    "convnext": functools.partial(convnext.ConvNeXt, depths=(1, 1, 2, 1), widths=(8, 12, 16, 24)),
    "moat": functools.partial(moat.Moat, stem=(8, 8), depths=(1, 1, 2, 1), widths=(8, 8, 32, 32), window_size=(2, 0)),
    "mobilenet_v2": functools.partial(mobilenet_v2.MobileNetV2, backbone_width_multiplier=0.25),
    "mobilenet_v3": functools.partial(mobilenet_v3.MobileNetV3, backbone_width_multiplier=0.25),
    "xception": functools.partial(xception.Xception, num_middle=1),
    "efficientnet_lite": functools.partial(efficientnet_lite.EfficientNetLite),
}
RESNETS = [name for name in TINY if name in backbones.BACKBONES and name != "max_deeplab_l_backbone"]
STRIDED = [*RESNETS, "mobilenet_v2", "mobilenet_v3", "xception"]


def some_slow(names, fast):
    """The names as parameters, those that are not in `fast` marked slow."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some_slow(TINY, ["resnet50", "swidernet"]))
def test_sizes(name):
    backbone_checks.check_sizes(TINY[name]())


@pytest.mark.parametrize("output_stride", [4, 8, 16])
@pytest.mark.parametrize("name", some_slow(STRIDED, ["wide_resnet41"]))
def test_sizes_at_other_output_strides(name, output_stride):
    backbone = TINY[name](output_stride=output_stride)
    assert backbone.strides == tuple(min(2**level, output_stride) for level in range(1, 6))
    backbone_checks.check_sizes(backbone)


@pytest.mark.parametrize("name", some_slow([*RESNETS, "max_deeplab_l_backbone"], []))
def test_training(name):
    # Random attention with heads of one channel is sensitive.
    backbone_checks.check_training(functools.partial(TINY[name], norm=NORM), rounding=1.0)


@pytest.mark.parametrize("name", some_slow(TINY, ["swidernet", "max_deeplab_l_backbone"]))
def test_every_variable_counts(name):
    backbone_checks.check_every_variable_counts(TINY[name](norm=NORM))


@pytest.mark.parametrize("name", some_slow(["resnet50", "resnet50_beta", "wide_resnet41", "swidernet"], ["swidernet"]))
def test_atrous_consistency(name):
    layers = 0.67 if name == "swidernet" else 0.34
    backbone_checks.check_atrous(
        lambda stride: small.backbone(name, output_stride=stride, backbone_layer_multiplier=layers)
    )


def test_every_backbone_with_output_stride_32_goes_with_kmax_deeplab():
    for name, options in backbones.FIXED_OPTIONS.items():
        if name.startswith("kmax_"):
            assert options["output_stride"] == (32,)
        elif 32 in options.get("output_stride", (32,)) and name not in max_deeplab.VARIANTS:
            assert f"kmax_{name}" in backbones.BACKBONES
    assert {"kmax_axial_swidernet", "kmax_xception_65", "kmax_resnet101_beta"} <= set(backbones.BACKBONES)
    assert "kmax_max_deeplab_l_backbone" not in backbones.BACKBONES


def test_kmax_deeplab_wants_output_stride_32_and_linear_drop_path():
    options = {"backbone_width_multiplier": 1 / 32, "drop_path_keep_prob": 0.8, "drop_path_schedule": "constant"}
    backbone = architectures.build_backbone("kmax_wide_resnet41", **options)
    assert backbone.name == "kmax_wide_resnet41"
    assert backbone.stage2.block2.drop_path.rate == pytest.approx(0.05)
    for name in backbones.BACKBONES:
        if name.startswith("kmax_"):
            with pytest.raises(ValueError, match=f"{name}: output_stride must be 32, but got 16"):
                backbones.BACKBONES[name](output_stride=16)


def test_every_name_of_deeplab2_is_there():
    assert set(config_values.DEEPLAB2_BACKBONES) <= set(backbones.BACKBONES)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("swidenet", {}, "Unknown backbone 'swidenet'. Did you mean: swidernet"),
        ("swidernet", {"output_strides": 16}, "Unknown backbone option 'output_strides'"),
        ("swidernet", {"output_stride": 12}, "output_stride is 4, 8, 16 or 32, but got 12"),
        ("xception_65", {"output_stride": 64}, "output_stride is one of"),
        ("max_deeplab_l_backbone", {"output_stride": 32}, "output_stride must be 16, but got 32"),
        (
            "axial_resnet_s",
            {"use_sac_beyond_stride": 8},
            "axial_resnet_s has no 3x3 convolutions in stages of stride 8",
        ),
        ("swidernet", {"backbone_layer_multiplier": 0.1}, "leaves a stage without blocks"),
        ("axial_swidernet", {"backbone_width_multiplier": 1 / 128}, "do not split into 8 heads evenly"),
        ("full_axial_resnet_l", {"stem_width_multiplier": 2.0}, "has no stem"),
        ("mobilenet_v2", {"recompute_stages": [2]}, "recompute_stages must be"),
    ],
)
def test_wrong_settings_fail_while_building(name, options, message):
    with pytest.raises(ValueError, match=message):
        architectures.build_backbone(name, **options)


@pytest.mark.parametrize(
    "build",
    [
        functools.partial(small.backbone, "swidernet", use_sac_beyond_stride=16),
        functools.partial(small.backbone, "resnet50", drop_path_keep_prob=0.5, drop_path_beyond_stride=4),
        functools.partial(TINY["convnext"], drop_path_keep_prob=0.5),
        functools.partial(TINY["moat"], drop_path_keep_prob=0.5),
    ],
    ids=["swidernet", "resnet50", "convnext", "moat"],
)
def test_recompute_gives_the_same_gradients(build):
    images = tf.random.stateless_normal([2, 33, 33, 3], seed=[3, 4])
    results = []
    for stages in ((), (1, 2, 3, 4, 5)):
        backbone = build(recompute_stages=stages)
        backbone(images)
        backbone_checks.randomize(backbone)
        with tf.GradientTape() as tape, drop_path.seeded(tf.constant([5, 6])):
            loss = tf.reduce_sum(tf.square(backbone(images, training=True).res5))
        gradients = tape.gradient(loss, backbone.trainable_variables)
        results.append([loss, *gradients, *backbone.non_trainable_variables])
    scale = max(float(tf.norm(gradient)) for gradient in results[0])
    for plain, recomputed in zip(*results):
        tf.debugging.assert_near(plain, recomputed, rtol=1e-4, atol=1e-5 * scale)


def test_the_page_of_backbones_is_up_to_date():
    page = table.PAGE.read_text()
    for row in table.names():
        start, end = table.line(row).split("{}")
        found = re.search(re.escape(start) + r"[0-9,]+" + re.escape(end), page)
        assert found, f"{row}: run python -m tests.backbones.table"
    assert page.count("\n| `") == len(table.names())
