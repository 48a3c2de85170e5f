"""The outer loop over a tiny trainer and an evaluator that counts."""

import json
import signal

import orbit
import pytest
import tensorflow as tf

from tests.trainer import fakes
from trainer import best, checkpointing, controller, interrupts, progress, summaries


class Evaluator(orbit.AbstractEvaluator):
    def __init__(self):
        self.calls = 0

    def evaluate(self, num_steps):
        self.calls += 1
        return {"evaluation/pq/PQ": 0.5 * self.calls}

    def table(self):
        return "a table"


class Stops:
    """In place of `interrupts.Interrupts`: no signals."""

    signum = signal.SIGTERM


def make(folder, *, save_steps=4, steps_per_loop=4, spoil=None, best_metric=""):
    dataset = fakes.batches(2, spoil=spoil)
    trainer, model, _ = fakes.make(tf.distribute.OneDeviceStrategy("CPU:0"), dataset)
    checkpoint = tf.train.Checkpoint(model=model, global_step=trainer.global_step)
    evaluator = Evaluator()
    manager = checkpointing.Manager(
        checkpoint,
        str(folder),
        max_to_keep=9,
        step_counter=trainer.global_step,
        checkpoint_interval=save_steps,
    )
    loop = controller.Controller(
        show=progress.Progress(
            total=10, images_per_step=2, read=lambda: progress.Reading(int(trainer.global_step.numpy()), 0.0)
        ),
        metrics_file=summaries.MetricsFile(folder / "metrics.jsonl"),
        stops=Stops(),
        steps_per_loop=steps_per_loop,
        trainer=trainer,
        evaluator=evaluator,
        global_step=trainer.global_step,
        checkpoint_manager=manager,
        summary_dir=str(folder / "train"),
        eval_summary_dir=str(folder / "eval"),
        strategy=tf.distribute.OneDeviceStrategy("CPU:0"),
        best=best.Best(checkpoint, folder, metric=best_metric, higher_is_better=False) if best_metric else None,
    )
    return loop, trainer, evaluator


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def saved(folder):
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("ckpt-*.index"))


def test_training_ends_with_a_checkpoint(tmp_path):
    loop, _, _ = make(tmp_path)
    loop.save_checkpoint()
    loop.train(10)
    assert saved(tmp_path) == [0, 4, 8, 10]
    assert [(line["step"], line["mode"]) for line in lines(tmp_path)] == [(4, "train"), (8, "train"), (10, "train")]
    assert {"losses/train_total_loss", "learning_rate", "steps_per_second", "gradient_norm"} <= set(lines(tmp_path)[0])


def test_loops_and_evaluations_stay_at_their_multiples(tmp_path, capsys):
    loop, trainer, evaluator = make(tmp_path, steps_per_loop=2)
    trainer.global_step.assign(3)  # as after a resumption
    assert loop.train_and_evaluate(10, -1, 4) == {"evaluation/pq/PQ": 1.5}
    assert evaluator.calls == 3
    assert [(line["step"], line["mode"]) for line in lines(tmp_path)] == [
        *((4, "train"), (4, "eval"), (6, "train"), (8, "train"), (8, "eval")),
        *((10, "train"), (10, "eval")),
    ]
    assert saved(tmp_path)[-1] == 10
    assert "a table" in capsys.readouterr().out


def test_stopping_saves_first(tmp_path):
    loop, trainer, _ = make(tmp_path, save_steps=100, steps_per_loop=50)
    loop.save_checkpoint()
    trainer.train(tf.constant(2))
    trainer.stop()
    with pytest.raises(interrupts.Stopped, match="SIGTERM"):
        loop.train(10)
    assert saved(tmp_path) == [0, 3]
    assert lines(tmp_path)[-1]["step"] == 3


def test_nan_is_not_saved(tmp_path):
    loop, _, _ = make(tmp_path, save_steps=1, spoil=7)
    loop.save_checkpoint()
    with pytest.raises(RuntimeError, match="Step 3 is not finite"):
        loop.train(10)
    assert saved(tmp_path) == [0]
    assert not (tmp_path / "metrics.jsonl").exists()


def test_best_checkpoint_and_table(tmp_path, capsys):
    loop, _, _ = make(tmp_path, best_metric="evaluation/pq/PQ")
    loop.train_and_evaluate(10, -1, 4)
    # The evaluator's values rise, and lower is better here.
    assert json.loads((tmp_path / "best" / "best.json").read_text())["step"] == 4
    assert "best checkpoint: step 4, evaluation/pq/PQ 0.5 (now 1.5)" in capsys.readouterr().out
    assert saved(tmp_path / "best") == [4]
    (path,) = (tmp_path / "eval").glob("events*")
    texts = [
        value.tensor.string_val[0].decode()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "evaluation"
    ]
    assert texts == ["    a table"] * 3
