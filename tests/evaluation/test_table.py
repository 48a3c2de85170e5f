"""The page of differences and times, where tools or saved cases are absent; its figures are nothing to test."""

import pytest

from benchmarks import metrics
from tests import shared
from tests.evaluation import live, official, table
from tests.parity import checks


def test_every_case_has_a_time_to_measure():
    assert set(table.SPEEDS) == set(table.CASES) | (set(live.COMPARISONS) - set(table.CASES))
    assert {name for speed in table.SPEEDS.values() for name in speed.ours} <= set(metrics.CASES)


def test_what_is_absent_is_named(monkeypatch):
    def absent(name):
        pytest.skip("not here")

    monkeypatch.setattr(shared, "case", absent)
    monkeypatch.setattr(official, "version", lambda tool: "")
    rows = list(table.rows({}, dict.fromkeys(metrics.CASES, 1.0)))
    assert len(rows) == len(table.CASES) + len(live.COMPARISONS)
    found = {row.tool for row in rows}
    assert "panopticapi-lite is not installed" in found and "the saved cases are not here" in found
    assert all(row.theirs is None and row.count == "none" for row in rows)


def test_differences_in_words():
    equal = checks.Check("tp", [1, 2], [1, 2])
    close = checks.Check("iou", [0.5, float("nan")], [0.5 + 1e-13, float("nan")], rtol=1e-12)
    assert table.difference([equal, close]) == "counts equal, 1e-13"
    assert table.difference([close]) == "1e-13"
    with pytest.raises(AssertionError, match="tp"):
        table.difference([checks.Check("tp", [1], [2])])


def test_the_version_of_a_tool(monkeypatch):
    missing = official.Package("no-such-distribution", "no_such_module")
    monkeypatch.setitem(official.PACKAGES, "missing", missing)
    assert official.version("missing") == "" and official.version("pycocotools").startswith("pycocotools 2")
    with pytest.raises(pytest.skip.Exception, match="pip install no-such-distribution"):
        official.need("missing")
