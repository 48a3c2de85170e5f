"""A changed base or layer shows in the committed tables of weights."""

import pytest

from tests.configs import weights


@pytest.mark.parametrize("name", weights.NAMES)
def test_table_is_the_committed_one(name):
    assert weights.table_of(name) == weights.golden_path(name).read_text(), (
        "weights, decay or learning rates changed; if that is meant: python -m tests.configs.weights"
    )
