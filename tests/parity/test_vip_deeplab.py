"""Post-processing of ViP-DeepLab against DeepLab2."""

import pytest

from tests.parity import vip_deeplab


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_two_frames_are_those_of_deeplab2(mode):
    rows = vip_deeplab.measure_two_frames(mode)
    assert len(rows) == 7
    assert [row for row in rows if not row.share <= 1] == []


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_stitched_ids_are_those_of_deeplab2(mode):
    rows = vip_deeplab.measure_stitching(mode)
    assert len(rows) == 8
    assert [row for row in rows if not row.share <= 1] == []
