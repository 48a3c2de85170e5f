"""Random scenes and videos against the official tools, on the files that these read; skipped where they are absent."""

import pytest

from tests.evaluation import live, official


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
@pytest.mark.parametrize("name", live.COMPARISONS)
def test_a_metric_equals_the_official_tool(name, seed, tmp_path):
    comparison = live.COMPARISONS[name]
    official.need(comparison.tool)
    for check in comparison.compare(seed, tmp_path / "files"):
        check.hold()
