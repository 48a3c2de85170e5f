"""SIGINT and SIGTERM while TensorFlow computes: noticed at once, acted on after the present step."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):  # noqa: N818  (no error: the user asked for it)
    """The run was asked to end and has saved its state; `signum` is the signal, 0 where another machine got it."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}" if signum else "stopped by another machine")
        self.signum = signum


class Interrupts:
    """A context in which the first signal calls `on_signal` and the second ends the process.

    Python's own handlers wait until the compiled loop returns. The interpreter writes each signal to a socket right
    away, though, and a thread reads it there. Outside of the main thread signals stay as they are.
    """

    def __init__(self, on_signal: Callable[[], None]):
        self.signum = 0
        self._on_signal = on_signal
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._previous = {number: signal.signal(number, lambda *unused: None) for number in _SIGNALS}
        self._old_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *unused) -> None:
        if not self._previous:
            return
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._write.close()  # ends the thread
        self._thread.join()
        self._read.close()

    def check(self) -> None:
        """Raises `Stopped` if there was a signal."""
        if self.signum:
            raise Stopped(self.signum)

    def _watch(self) -> None:
        while data := self._read.recv(1):
            if data[0] not in _SIGNALS:
                continue
            if self.signum:
                os._exit(128 + data[0])
            self.signum = data[0]
            self._on_signal()
