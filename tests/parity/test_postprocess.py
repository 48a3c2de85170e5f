"""Post-processing of mask transformers against DeepLab2."""

import pytest

from tests.parity import postprocess


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("prefix", postprocess.SETTINGS)
@pytest.mark.parametrize("name", postprocess.CASES)
def test_maps_are_those_of_deeplab2(name, prefix, mode):
    assert [row for row in postprocess.measure(name, prefix, mode) if not row.share <= 1] == []
