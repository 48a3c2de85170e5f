"""Tracking of Motion-DeepLab against DeepLab2."""

import pytest

from tests.parity import motion_deeplab


@pytest.mark.parametrize("prefix, outputs", [("short", 5), ("long", 4)])
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_tracks_are_those_of_deeplab2(prefix, outputs, mode):
    rows = motion_deeplab.measure(prefix, mode)
    assert len(rows) == outputs
    assert [row for row in rows if not row.share <= 1] == []
