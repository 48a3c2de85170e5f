"""The parts of the recursive feature pyramid against the authors' code."""

import pytest

from tests.parity import recursive, test_networks


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_outputs_are_the_authors(mode):
    rows = recursive.measure(mode)
    assert [row.output for row in rows] == ["feedback", "block_output", "fused"]
    assert [row for row in rows if not row.share <= 1] == []


def test_bfloat16_stays_near():
    assert all(0 < row.rms < test_networks.BFLOAT16_RMS for row in recursive.measure("bfloat16"))
