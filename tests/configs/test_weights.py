"""A changed base or layer shows in the committed tables of weights."""

import pytest

from tests.configs import weights

NAMES = [
    pytest.param(name, marks=() if name.startswith("tiny/") else pytest.mark.slow, id=name) for name in weights.NAMES
]


@pytest.mark.parametrize("name", NAMES)
def test_table_is_the_committed_one(name):
    assert weights.table_of(name) == weights.golden_path(name).read_text(), (
        "weights, decay or learning rates changed; if that is meant: python -m tests.configs.weights"
    )
