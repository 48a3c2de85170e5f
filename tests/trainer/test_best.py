"""The best checkpoint: which one stays, and what an interruption at any moment leaves."""

import json

import pytest
import tensorflow as tf

from trainer import best

PQ = "evaluation/pq/PQ"


def make(folder, *, metric=PQ, higher=True, **options):
    weight = tf.Variable(0.0)
    checkpoint = tf.train.Checkpoint(weight=weight)
    return best.Best(checkpoint, folder, metric=metric, higher_is_better=higher, **options), weight


def consider(keeper, weight, step, value, name=PQ):
    weight.assign(step)
    return keeper.consider(step, {name: value})


def kept(folder):
    """The step in best.json, the weight in the checkpoint it names, and all checkpoints that are there."""
    record = json.loads((folder / "best" / "best.json").read_text())
    restored = tf.Variable(-1.0)
    tf.train.Checkpoint(weight=restored).read(str(folder / "best" / record["checkpoint"])).assert_consumed()
    return record["step"], float(restored), sorted(path.name for path in (folder / "best").glob("*.index"))


def test_the_best_stays(tmp_path):
    keeper, weight = make(tmp_path)
    assert "step 5, evaluation/pq/PQ 0.5, kept in" in consider(keeper, weight, 5, 0.5)
    assert "step 5, evaluation/pq/PQ 0.5 (now 0.4)" in consider(keeper, weight, 10, 0.4)
    assert kept(tmp_path) == (5, 5.0, ["ckpt-5.index"])
    consider(keeper, weight, 15, 0.6)
    consider(keeper, weight, 20, 0.6)  # no better
    assert kept(tmp_path) == (15, 15.0, ["ckpt-15.index"])
    assert tf.train.latest_checkpoint(str(tmp_path / "best")) == str(tmp_path / "best" / "ckpt-15")


def test_errors_are_better_when_lower(tmp_path):
    keeper, weight = make(tmp_path, metric="losses/eval_total_loss", higher=False)
    for step, value in ((1, 3.0), (2, 2.0), (3, 2.5)):
        consider(keeper, weight, step, value, "losses/eval_total_loss")
    assert kept(tmp_path)[0] == 2


def test_resumption_goes_on_from_the_record(tmp_path):
    consider(*make(tmp_path), 5, 0.5)
    keeper, weight = make(tmp_path)
    consider(keeper, weight, 10, 0.4)
    assert kept(tmp_path)[0] == 5
    consider(keeper, weight, 5, 0.7)  # the same step, trained again with another outcome
    assert kept(tmp_path) == (5, 5.0, ["ckpt-5.index"])
    assert json.loads((tmp_path / "best/best.json").read_text())["value"] == 0.7


def test_another_metric_starts_anew(tmp_path):
    consider(*make(tmp_path), 5, 0.5)
    keeper, weight = make(tmp_path, metric="evaluation/iou/IoU")
    consider(keeper, weight, 10, 0.1, "evaluation/iou/IoU")
    assert kept(tmp_path) == (10, 10.0, ["ckpt-10.index"])


def test_killed_before_the_record_is_written(tmp_path, monkeypatch):
    keeper, weight = make(tmp_path)
    consider(keeper, weight, 5, 0.5)

    def die(*unused):
        raise KeyboardInterrupt

    monkeypatch.setattr(keeper, "_clean", die)
    with pytest.raises(KeyboardInterrupt):
        consider(keeper, weight, 10, 0.9)
    assert kept(tmp_path)[:2] == (5, 5.0)
    keeper, weight = make(tmp_path)
    consider(keeper, weight, 15, 0.6)  # left-overs go
    assert kept(tmp_path) == (15, 15.0, ["ckpt-15.index"])


def test_record_without_its_checkpoint(tmp_path):
    consider(*make(tmp_path), 5, 0.5)
    for path in (tmp_path / "best").glob("ckpt-5*"):
        path.unlink()
    keeper, weight = make(tmp_path)
    consider(keeper, weight, 10, 0.1)
    assert kept(tmp_path)[0] == 10
    (tmp_path / "best/best.json").write_text('{"step": 3')
    with pytest.raises(ValueError, match="best.json is damaged .*delete it"):
        make(tmp_path)


@pytest.mark.parametrize("values", [{}, {PQ: float("nan")}])
def test_no_value(tmp_path, values):
    keeper, _ = make(tmp_path)
    assert "has no value at step 7" in keeper.consider(7, values)
    assert not (tmp_path / "best").exists()


def test_machines_that_only_take_part(tmp_path):
    keeper, weight = make(tmp_path / "run", write_folder=tmp_path / "other")
    consider(keeper, weight, 5, 0.5)
    assert not (tmp_path / "run").exists() and (tmp_path / "other" / "ckpt-5.index").exists()


def test_unknown_name():
    best.check_metric(PQ, {PQ})
    with pytest.raises(ValueError, match="best_checkpoint_metric: expected .* got 'evaluation/pq/pq'; nearest: .*PQ"):
        best.check_metric("evaluation/pq/pq", {PQ, "evaluation/iou/IoU"})
