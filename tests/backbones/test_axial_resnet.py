import pytest
import tensorflow as tf

from deeplab2_kmax import architectures, backbones
from deeplab2_kmax.layers import axial_block
from tests.models import small


@pytest.mark.parametrize("name", ["axial_resnet_s", "axial_deeplab_s", "full_axial_resnet_s"])
def test_every_block_is_axial(name):
    backbone = backbones.BACKBONES[name]()
    stages = [backbone.stage2, backbone.stage3, backbone.stage4, backbone.stage5]
    assert [stage.num_blocks for stage in stages] == [3, 4, 6, 3]
    assert all(isinstance(stage.block1, axial_block.AxialBlock) for stage in stages)
    assert [backbone.stage3.block1.attention.stride, backbone.stage3.block2.attention.stride] == [2, 1]


def test_widths():
    sizes = ("s", "m", "l", "xl")
    assert [backbones.BACKBONES[f"axial_deeplab_{size}"]().channels[1] for size in sizes] == [128, 192, 256, 512]
    # A config's multiplier takes the place of the size's own.
    assert architectures.build_backbone("axial_deeplab_s", backbone_width_multiplier=0.25).channels[1] == 64


def test_without_a_stem_stage_1_strides():
    backbone = small.backbone("full_axial_resnet_s", num_heads=1, stem_width_multiplier=1.0)
    assert backbone.stem is None
    assert [getattr(backbone.stage1, f"block{number}").attention.stride for number in (1, 2, 3)] == [2, 1, 1]
    pyramid = backbone(tf.zeros([1, 33, 49, 3]))
    assert pyramid.stage1.shape == (1, 17, 25, 4)
