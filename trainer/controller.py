"""Orbit's outer loop with our log lines, files and ways to end."""

from __future__ import annotations

import math
import time

import orbit
import tensorflow as tf

from trainer import best as best_lib
from trainer import interrupts, progress, summaries


class Controller(orbit.Controller):
    """Trains, evaluates and saves at the steps that the options say; see `orbit.Controller`."""

    def __init__(
        self,
        *,
        show: progress.Progress,
        metrics_file: summaries.MetricsFile | None,
        stops: interrupts.Interrupts,
        steps_per_loop: int | None = None,
        pictures: summaries.SamplePictures | None = None,
        pictures_interval: int = 0,
        best: best_lib.Best | None = None,
        **kwargs,
    ):
        """Takes the parts of a run over; its state must be restored already.

        Args:
            show: where log lines go.
            metrics_file: None on machines that write nothing.
            stops: the signals.
            steps_per_loop: steps per compiled loop.
            pictures: of a training sample, every `pictures_interval` steps.
            pictures_interval: see there.
            best: keeps the best of the checkpoints that are evaluated.
            **kwargs: Orbit's.
        """
        self._pictures, self._pictures_interval = pictures, pictures_interval
        self._show, self._metrics_file, self._stops, self._best = show, metrics_file, stops, best
        # Loops end at multiples of steps_per_loop also after a resumption.
        loop = None if steps_per_loop is None else (lambda step: steps_per_loop - int(step) % steps_per_loop)
        super().__init__(steps_per_loop=loop, **kwargs)

    def restore_checkpoint(self, checkpoint_path=None):
        """The experiment restores, strictly; Orbit's constructor must not do so again."""

    def train_and_evaluate(self, train_steps, eval_steps=-1, eval_interval=None):
        """Evaluates at every multiple of `eval_interval` and at the end."""
        output = None
        while (step := int(self.global_step.numpy())) < train_steps:
            target = min(train_steps, (step // eval_interval + 1) * eval_interval)
            self.train(target, checkpoint_at_completion=target == train_steps)
            output = self.evaluate(eval_steps)
            self._show.restart()
        return output

    def evaluate(self, steps=-1):
        """Evaluates and logs the results."""
        start, step = time.monotonic(), int(self.global_step.numpy())
        self._show.say(f"evaluating step {step} ...")
        with self.eval_summary_manager.summary_writer().as_default():
            values = self.evaluator.evaluate(tf.constant(steps))
            table = self.evaluator.table()
            if table:
                tf.summary.text("evaluation", _preformatted(table), step=step)
        self.eval_summary_manager.write_summaries(values)
        self.eval_summary_manager.flush()
        if self._metrics_file is not None:
            self._metrics_file.append(step, "eval", values)
        for line in (table or _line(values)).splitlines():
            self._show.say(line)
        self._show.say(f"evaluated step {step} in {time.monotonic() - start:.1f} s")
        if self._best is not None:
            self._show.say(self._best.consider(step, values))
        return values

    def _train_n_steps(self, num_steps):
        before, start = int(self.global_step.numpy()), time.monotonic()
        with self.summary_manager.summary_writer().as_default():
            values = dict(self.trainer.train(tf.constant(num_steps, tf.int32)))
        step = int(self.global_step.numpy())
        values = {name: float(value) for name, value in values.items()}
        values["steps_per_second"] = (step - before) / (time.monotonic() - start)
        if step > before:
            self.summary_manager.write_summaries(values)
            self.summary_manager.flush()
            if self._metrics_file is not None:
                self._metrics_file.append(step, "train", values)
            self._show.show()
        if self._pictures is not None and step % self._pictures_interval == 0:
            with self.summary_manager.summary_writer().as_default():
                self._pictures.write(step)
            self._show.restart()
        if self.trainer.is_stopped:
            self.save_checkpoint()
            raise interrupts.Stopped(self._stops.signum)


def _preformatted(text: str) -> str:
    """Text as Markdown that keeps its columns."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _line(values) -> str:
    shown = {name: value for name, value in values.items() if math.isfinite(value)}
    return ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
