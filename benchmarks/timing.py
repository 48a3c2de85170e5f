"""Medians of repeated measurements."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def median_ms(function: Callable[[], object], repeats: int, *, warm_up: int = 2) -> float:
    """Milliseconds of one call, the median of `repeats`; the calls before that (tracing, caches) do not count."""
    for _ in range(warm_up):
        function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return round(1000.0 * statistics.median(times), 3)
