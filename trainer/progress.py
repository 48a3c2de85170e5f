"""What a run says while it works: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import datetime
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from rich import console, progress

_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 30.0


class Reading(NamedTuple):
    """Where a run is."""

    step: int
    loss: float  # mean of the total loss over the present loop


class Progress:
    """Follows a run from a thread of its own, because the steps run in one compiled loop.

    Used as a context; `say` writes a line, above the bar if there is one.
    """

    def __init__(
        self, *, total: int, images_per_step: int, read: Callable[[], Reading], quiet: bool = False, follow: bool = True
    ):
        """`read` is called from the thread; `quiet` machines say nothing; `follow` False: no bar, only `say`."""
        self._total, self._images_per_step, self._read, self._quiet = total, images_per_step, read, quiet
        self._follows = follow
        self._console = console.Console(file=sys.stdout, highlight=False)
        self._bar: progress.Progress | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._start: tuple[float, int] | None = None
        self._first = 0
        self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        if self._quiet or not self._follows:
            return self
        if self._console.is_terminal:
            self._bar = progress.Progress(
                progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                progress.BarColumn(),
                progress.TimeRemainingColumn(elapsed_when_finished=True),
                progress.TextColumn("{task.fields[speed]:.1f} images/s  loss {task.fields[loss]:.4g}"),
                console=self._console,
                speed_estimate_period=300,
            )
            self._bar.start()
            step = self._read().step
            self._task = self._bar.add_task("train", total=self._total, completed=step, speed=0.0, loss=0.0)
        self.restart()
        self._thread.start()
        return self

    def __exit__(self, *unused) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Writes a line."""
        if self._quiet:
            return
        if self._console.is_terminal:
            self._console.print(text, markup=False)
        else:
            print(text, flush=True)

    def restart(self) -> None:
        """Starts the clock of the speed anew, at the next step that is seen: compiling and evaluating do not count."""
        self._start, self._first = None, self._read().step

    def show(self) -> None:
        """Brings the bar up to date, or writes a line."""
        reading, speed = self._read(), self._images_per_second()
        if self._bar is not None:
            self._bar.update(self._task, completed=reading.step, speed=speed, loss=reading.loss)
            return
        left = "?"
        if speed > 0:
            seconds = (self._total - reading.step) * self._images_per_step / speed
            left = str(datetime.timedelta(seconds=round(seconds)))
        self.say(f"step {reading.step}/{self._total} | loss {reading.loss:.4g} | {speed:.1f} images/s | {left} left")
        self._last_line = time.monotonic()

    def _follow(self) -> None:
        while not self._done.wait(_REFRESH_SECONDS):
            step = self._read().step
            if step == self._first:
                continue
            if self._start is None:
                self._start = (time.monotonic(), step)
            if self._bar is not None or time.monotonic() - self._last_line > _LINE_SECONDS:
                self.show()

    def _images_per_second(self) -> float:
        if self._start is None:
            return 0.0
        seconds = time.monotonic() - self._start[0]
        return (self._read().step - self._start[1]) * self._images_per_step / seconds if seconds > 0 else 0.0
