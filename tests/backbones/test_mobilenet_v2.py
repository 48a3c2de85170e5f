import functools

import pytest

from deeplab2_kmax.backbones import mobilenet_v2
from tests import backbone_checks

narrow = functools.partial(mobilenet_v2.MobileNetV2, backbone_width_multiplier=0.25)


def test_parameters_and_channels():
    backbone = mobilenet_v2.MobileNetV2()
    assert backbone_checks.count_parameters(backbone)[0] == 1811712
    assert backbone.channels == (32, 144, 192, 576, 320)


def test_width_multiplier_rounds_to_multiples_of_8():
    # 1.4 times 32, 24 * 6, 32 * 6, 96 * 6 and 320; the ratio applies to rounded widths 32, 48 and 136.
    assert mobilenet_v2.MobileNetV2(backbone_width_multiplier=1.4).channels == (48, 192, 288, 816, 448)


def test_sizes():
    backbone_checks.check_sizes(narrow(output_stride=16))


@pytest.mark.slow
def test_output_strides_agree():
    backbone_checks.check_atrous(lambda stride: narrow(output_stride=stride))


@pytest.mark.slow
def test_training():
    backbone_checks.check_training(narrow)


def test_options_that_it_does_not_have():
    with pytest.raises(ValueError, match="mobilenet_v2: use_squeeze_and_excite must be false"):
        narrow(use_squeeze_and_excite=True)
    with pytest.raises(ValueError, match="no option 'depth'"):
        narrow(depth=3)
