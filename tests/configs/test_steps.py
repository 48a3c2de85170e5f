"""Every shipped config is built, trains for a step and is evaluated for one."""

import math

import pytest

from tests.configs import steps

# Training the others has tests of its own.
FAST = ("tiny/panoptic_deeplab_synthetic",)
NAMES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow, id=name) for name in steps.groups()]


@pytest.mark.parametrize("name", NAMES)
def test_config_trains_and_is_evaluated(name):
    result = steps.step(name)

    assert all(math.isfinite(value) for value in result)
    assert result.gradient_norm > 0
    assert 0 <= result.quality <= 1
