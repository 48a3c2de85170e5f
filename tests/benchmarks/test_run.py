"""The runner of the benchmarks; the figures themselves are nothing to test."""

import json
import statistics

import numpy as np
import pytest

from benchmarks import metrics, run, timing


def test_missing_and_failing_benchmarks_stand_in_the_result(monkeypatch):
    monkeypatch.setattr(run, "_in_child", fake := Child())
    found = run.collect(["metrics", "matching"], repeats=2, timeout=5)
    assert fake.names == ["machine", "metrics", "matching"]
    assert set(found["benchmarks"]) == {"metrics", "matching"} and found["machine"]["status"] == "ok"
    monkeypatch.undo()
    assert run._in_child("no_such_benchmark", 1, 5)["status"] == "missing"


class Child:
    def __init__(self):
        self.names = []

    def __call__(self, name, repeats, timeout):
        self.names.append(name)
        return {"status": "ok"}


def test_a_failure_is_kept_with_its_reason(monkeypatch):
    monkeypatch.setattr(run.sys, "executable", "false")
    outcome = run._in_child("metrics", 1, 5)
    assert outcome["status"] == "failed" and "error" in outcome
    assert json.dumps(outcome)


def test_scene_has_the_promised_size():
    y_true, y_pred = metrics.maps()
    assert y_true.shape == y_pred.shape == (1025, 2049)
    assert len(np.unique(y_pred)) == 60 and y_pred.max() < 19 * 1000


def test_median(monkeypatch):
    clock = iter([0.0, 0.001, 1.0, 1.003, 2.0, 2.002])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.median_ms(lambda: None, 3) == pytest.approx(1000 * statistics.median([0.001, 0.003, 0.002]))
