"""Every shipped config is built, trains for a step and is evaluated for one."""

import math

import pytest

from tests.configs import steps

# Training the others has tests of its own.
FAST = ("tiny/panoptic_deeplab_synthetic",)
SLOW = [name for name in steps.groups() if name not in FAST]


def check(result):
    assert all(math.isfinite(value) for value in result)
    assert result.gradient_norm > 0
    assert 0 <= result.quality <= 1


@pytest.mark.parametrize("name", FAST)
def test_config_trains_and_is_evaluated(name):
    check(steps.step(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_shipped_config_trains_and_is_evaluated(name):
    check(steps.step_apart(name))  # the networks of all together would take some 20 GB
