import pytest

from deeplab2_kmax.backbones import strides


@pytest.mark.parametrize(
    ("output_stride", "plan"),
    [
        (32, [(2, 1), (2, 1), (1, 1), (2, 1), (2, 1), (1, 1), (2, 1), (1, 1)]),
        (16, [(2, 1), (2, 1), (1, 1), (2, 1), (2, 1), (1, 1), (1, 1), (1, 2)]),
        (8, [(2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 2), (1, 2), (1, 4)]),
        (4, [(2, 1), (2, 1), (1, 1), (1, 1), (1, 2), (1, 4), (1, 4), (1, 8)]),
    ],
)
def test_strides_become_dilation(output_stride, plan):
    assert strides.dilate([2, 2, 1, 2, 2, 1, 2, 1], output_stride, "net") == plan


def test_unknown_output_stride():
    with pytest.raises(ValueError, match="net: output_stride is one of .*, but got 64"):
        strides.dilate([2], 64, "net")


def test_strides_of_levels():
    assert strides.of_levels(8) == (2, 4, 8, 8, 8)
