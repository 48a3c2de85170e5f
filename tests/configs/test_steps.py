"""Every shipped config is built, trains for a step and is evaluated for one."""

import math

import pytest

from tests.configs import resolved, steps

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in resolved.shipped() if not name.startswith("tiny/")]


@pytest.mark.parametrize("name", [name for name in resolved.shipped() if name.startswith("tiny/")] + SLOW)
def test_config_trains_and_is_evaluated(name):
    result = steps.step(name)

    assert all(math.isfinite(value) for value in result)
    assert result.gradient_norm > 0
    assert 0 <= result.panoptic_quality <= 1
