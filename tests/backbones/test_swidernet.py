import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import backbones
from deeplab2_kmax.backbones import recipe
from deeplab2_kmax.checkpoints import name_maps, restore
from deeplab2_kmax.checkpoints.name_maps import backbones as table
from deeplab2_kmax.layers import axial_block, residual
from tests import backbone_checks
from tests.models import small


def stages(backbone):
    return [backbone.stage1, backbone.stage2, backbone.stage3, backbone.stage4, backbone.stage5]


def blocks(stage):
    return [getattr(stage, f"block{number}") for number in range(1, stage.num_blocks + 1)]


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [
        (32, [(2, 1, 1)] * 3),
        (16, [(2, 1, 1)] * 3),
        (8, [(2, 1, 1)] * 2 + [(1, 1, 2)]),
        (4, [(2, 1, 1), (1, 1, 2), (1, 2, 4)]),
    ],
)
def test_the_second_convolution_works_behind_the_stride(output_stride, expected):
    """Stride and rate of the first convolution of stages 2 to 4, then the rate of the second."""
    backbone = backbones.BACKBONES["swidernet"](output_stride=output_stride)
    for stage, (stride, first_rate, second_rate) in zip(stages(backbone)[1:], expected):
        first, *others = blocks(stage)
        assert (first.conv1.conv.stride, first.conv1.conv.dilation) == (stride, first_rate)
        assert first.last.conv.dilation == second_rate
        assert {(block.conv1.conv.dilation, block.last.conv.dilation) for block in others} == {(second_rate,) * 2}


def test_blocks():
    backbone = backbones.BACKBONES["swidernet"]()
    assert [stage.num_blocks for stage in stages(backbone)] == [3, 3, 6, 3, 3]
    assert {type(block) for stage in stages(backbone)[:4] for block in blocks(stage)} == {residual.Basic}
    wide = backbone.stage5.block1
    assert isinstance(wide, residual.Bottleneck)
    assert [layer.conv.filters for layer in (wide.conv1, wide.conv2, wide.conv3)] == [512, 1024, 2048]
    assert backbone.channels == (128, 256, 512, 1024, 2048)
    axial = backbones.BACKBONES["axial_swidernet"]()
    kinds = [[isinstance(block, axial_block.AxialBlock) for block in blocks(stage)] for stage in stages(axial)]
    assert kinds == [[False] * 3, [False] * 3, [False] * 6, [False, True, True], [True] * 3]
    attention = axial.stage5.block1.attention.height_axis
    assert (attention.key_channels, attention.value_channels) == (1024, 2048)


def test_multipliers():
    options = {
        "stem_width_multiplier": 0.5,
        "backbone_width_multiplier": 0.37,
        "backbone_layer_multiplier": 4.5,
    }
    backbone = backbones.BACKBONES["swidernet"](**options)
    assert [stage.num_blocks for stage in stages(backbone)] == [3, 13, 27, 13, 13]
    # The stem's multiplier is that of stage 1 too: 4 round(32 x 0.5), then 4 round(64 x 0.37) and so on.
    assert backbone.channels == (64, 96, 188, 380, 756)


def test_drop_path_starts_at_stride_4():
    backbone = backbones.BACKBONES["swidernet"](drop_path_keep_prob=0.8, drop_path_schedule="linear")
    keeps = [[1 - block.drop_path.rate for block in blocks(stage)[:2]] for stage in stages(backbone)]
    np.testing.assert_allclose(keeps, [[1, 1], [1, 0.95], [0.95, 0.9], [0.9, 0.85], [0.85, 0.8]])


def test_switchable_atrous_convolution_starts_with_a_stage():
    backbone = backbones.BACKBONES["swidernet"](use_sac_beyond_stride=16, output_stride=16)
    assert [recipe.is_switchable(block) for stage in stages(backbone) for block in blocks(stage)[:1]] == [
        *(False, False, False),
        *(True, True),
    ]
    resnet = backbones.BACKBONES["resnet50"](use_sac_beyond_stride=8)
    assert [recipe.is_switchable(stage.block2) for stage in stages(resnet)[1:]] == [False, True, True, True]


def write_as_deeplab2(backbone, folder):
    """The backbone's variables under DeepLab2's names."""
    names = name_maps.NameMap(table.TABLE).names(restore.variable_paths(backbone))
    root = tf.train.Checkpoint()
    for path, variable in restore.variable_paths(backbone).items():
        node = root
        *parents, leaf = ["encoder", *names[path].split("/")]
        for name in parents:
            if not hasattr(node, name):
                setattr(node, name, tf.train.Checkpoint())
            node = getattr(node, name)
        setattr(node, leaf, tf.Variable(variable))
    return root.write(str(folder / "weights"))


def test_weights_of_another_output_stride(tmp_path):
    """A convolution that strides at one output stride only has a switch at the other: it stays at its start."""
    images = tf.random.stateless_normal([1, 65, 65, 3], [1, 2])
    options = {"use_sac_beyond_stride": 16, "backbone_layer_multiplier": 0.67}
    coarse, fine = (small.backbone("swidernet", output_stride=stride, **options) for stride in (32, 16))
    for backbone in (coarse, fine):
        backbone(images)
    backbone_checks.randomize(coarse)
    report = restore.load_deeplab2_checkpoint(fine, write_as_deeplab2(coarse, tmp_path))
    switches = {"stage5/block1/conv2/conv/switch/kernel", "stage5/block1/conv2/conv/switch/bias"}
    ours, theirs = restore.variable_paths(fine), restore.variable_paths(coarse)
    assert ours.keys() - theirs.keys() == switches
    assert set(report.loaded) == set(theirs)
    assert not any(ours[path].numpy().any() for path in switches)
    np.testing.assert_array_equal(fine(images).stage4, coarse(images).stage4)
    # Back again: the coarse network has no use for the switches of its strided convolutions.
    backbone_checks.randomize(fine)
    restore.load_deeplab2_checkpoint(coarse, write_as_deeplab2(fine, tmp_path))
    np.testing.assert_array_equal(theirs["stage5/block1/conv2/conv/kernel"], ours["stage5/block1/conv2/conv/kernel"])
