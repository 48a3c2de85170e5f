import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import backbones
from deeplab2_kmax.backbones import stacked_decoder
from deeplab2_kmax.layers import axial_block, residual
from tests.models import small


def test_steps():
    decoder = backbones.BACKBONES["max_deeplab_l_backbone"](
        drop_path_keep_prob=0.8, drop_path_schedule="linear"
    ).decoder
    found = []
    for number in range(1, len(stacked_decoder.STEPS) + 1):
        block = getattr(decoder, f"stage{number}").block1
        found.append((type(block), block.channels, getattr(decoder, f"fuse{number}").is_strided))
    assert found == [
        (residual.Basic, 512, False),
        (residual.Basic, 256, False),
        (residual.Basic, 512, True),
        (axial_block.AxialBlock, 2048, True),
    ]
    keeps = [1 - getattr(decoder, f"stage{number}").block1.drop_path.rate for number in (1, 2, 3, 4)]
    np.testing.assert_allclose(keeps, [0.9, 0.95, 0.9, 0.8])


@pytest.mark.parametrize("size", [(65, 97), (64, 50)])
def test_the_output_is_the_decoders(size):
    backbone = small.backbone("max_deeplab_l_backbone", num_heads=2, output_stride=16)
    pyramid = backbone(tf.random.stateless_normal([1, *size, 3], [1, 2]))
    assert pyramid.output.shape == pyramid.res5.shape == (1, -(-size[0] // 16), -(-size[1] // 16), 64)
    assert np.abs(pyramid.output - pyramid.res5).max() > 0
    assert np.min(pyramid.output) >= 0


def test_the_plain_pyramid_is_axial_swidernets():
    images = tf.random.stateless_normal([1, 65, 65, 3], [1, 2])
    stacked = small.backbone("max_deeplab_l_backbone", num_heads=2, output_stride=16)
    plain = small.backbone("axial_swidernet", num_heads=2, output_stride=16)
    plain(images), stacked(images)
    decoder = {id(variable) for variable in stacked.decoder.variables}
    plain.set_weights([variable.numpy() for variable in stacked.variables if id(variable) not in decoder])
    for level in range(1, 6):
        np.testing.assert_array_equal(plain(images)[level + 4], stacked(images)[level + 4])
