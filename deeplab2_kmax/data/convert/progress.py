"""One line that says how far a conversion is: rewritten in place on a terminal, now and then elsewhere."""

from __future__ import annotations

import sys
import time

_TERMINAL_SECONDS = 0.3
_LINE_SECONDS = 15.0


class Progress:
    """Reports on the records of one split, on standard error."""

    def __init__(self, split: str, total: int, *, done: int = 0, quiet: bool = False):
        self._split, self._total, self._first, self._quiet = split, total, done, quiet
        self._terminal = sys.stderr.isatty()
        self._start = self._last = time.monotonic()

    def show(self, done: int, *, end: bool = False) -> None:
        """`done` records of the split exist."""
        now = time.monotonic()
        wait = _TERMINAL_SECONDS if self._terminal else _LINE_SECONDS
        if self._quiet or (not end and now - self._last < wait):
            return
        self._last = now
        speed = (done - self._first) / max(now - self._start, 1e-6)
        text = f"{self._split}: {done}/{self._total} records"
        if done > self._first:
            text += f", {speed:.1f}/s"
            if not end:
                text += f", {_clock((self._total - done) / speed)} left"
        if self._terminal:
            width = 24
            filled = width * done // max(self._total, 1)
            text = f"\r\033[K[{'#' * filled}{' ' * (width - filled)}] {text}"
        print(text, end="\n" if end or not self._terminal else "", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
