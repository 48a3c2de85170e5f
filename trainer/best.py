"""The best checkpoint of a run by one logged value: `best/ckpt-<step>` and `best/best.json`."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax import registry
from trainer import checkpointing

FOLDER = "best"
FILE = "best.json"


class Record(NamedTuple):
    """What `best.json` says."""

    metric: str
    higher_is_better: bool
    value: float
    step: int
    checkpoint: str  # name of the files in the folder, without their endings


class Best:
    """Keeps the checkpoint of the best evaluation so far, over interruptions too.

    The files of a new one are complete before `best.json` names them, and those of the old one go last: whenever a run
    is killed, what `best.json` names is there and whole.
    """

    def __init__(
        self,
        checkpoint: tf.train.Checkpoint,
        run_folder: pathlib.Path,
        *,
        metric: str,
        higher_is_better: bool,
        write_folder: pathlib.Path | None = None,
    ):
        """Reads what an earlier run left.

        Args:
            checkpoint: what to save.
            run_folder: of the run.
            metric: name of a logged value.
            higher_is_better: which of two values is the better one.
            write_folder: where a machine saves that must take part in saving, but not write to the run's folder.
        """
        self._checkpoint, self._metric, self._higher = checkpoint, metric, higher_is_better
        self._writes = write_folder is None
        self._folder = write_folder or run_folder / FOLDER
        self.record = _read(run_folder / FOLDER / FILE)
        if self.record is not None and (self.record.metric, self.record.higher_is_better) != (metric, higher_is_better):
            self.record = None

    def consider(self, step: int, values: Mapping[str, float]) -> str:
        """Saves the present weights if their evaluation is the best so far; says what became of it.

        Equal values do not replace each other, so that an evaluation repeated after an interruption changes nothing.
        """
        value = values.get(self._metric)
        if value is None or not math.isfinite(value):
            return f"best checkpoint: {self._metric} has no value at step {step}"
        best = self.record
        if best is not None and not (value > best.value if self._higher else value < best.value):
            return f"best checkpoint: step {best.step}, {self._metric} {best.value:.4g} (now {value:.4g})"
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"ckpt-{step}"
        if best is not None and best.checkpoint == name and self._writes:
            (self._folder / FILE).unlink()  # of the files that are about to be replaced
        self._checkpoint.write(str(self._folder / name))
        self.record = Record(self._metric, self._higher, value, step, name)
        self._clean()
        return f"best checkpoint: step {step}, {self._metric} {value:.4g}, kept in {self._folder}"

    def _clean(self) -> None:
        """Writes the record, then removes the files of other checkpoints."""
        assert self.record is not None
        if self._writes:
            unfinished = self._folder / f".{FILE}"
            unfinished.write_text(json.dumps(self.record._asdict(), indent=1) + "\n", encoding="utf-8")
            unfinished.replace(self._folder / FILE)
        checkpointing.write_state(self._folder, [self.record.checkpoint])
        for path in self._folder.glob("ckpt-*"):
            if path.is_file() and path.name.split(".")[0] != self.record.checkpoint:
                path.unlink()


def check_metric(metric: str, known: set[str]) -> None:
    """Raises ValueError where no evaluation of a run will log that value."""
    if metric in known:
        return
    near = registry.nearest(metric, known)[:5]
    raise ValueError(
        f"evaluator_options.best_checkpoint_metric: expected the name of a value that evaluation logs, got {metric!r}; "
        f"nearest: {', '.join(near)}"
    )


def _read(path: pathlib.Path) -> Record | None:
    """The record of an earlier run whose checkpoint is there."""
    if not path.is_file():
        return None
    try:
        record = Record(**json.loads(path.read_text(encoding="utf-8")))
        value = float(record.value)
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and the best checkpoint is chosen anew.") from None
    return record._replace(value=value) if (path.parent / f"{record.checkpoint}.index").is_file() else None
