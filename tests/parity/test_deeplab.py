"""Losses and post-processing of models of pixels against DeepLab2; their networks are in test_networks.py."""

import pytest

from tests.parity import deeplab


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("name", deeplab.LOSSES)
def test_losses_are_those_of_deeplab2(name, mode):
    assert [row for row in deeplab.measure_loss(name, mode) if not row.share <= 1] == []


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("prefix", deeplab.SETTINGS)
def test_maps_are_those_of_deeplab2(prefix, mode):
    rows = deeplab.measure_postprocess(prefix, mode)
    assert len(rows) == 5
    assert [row for row in rows if not row.share <= 1] == []
