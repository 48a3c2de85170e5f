"""The same work on many items, by several processes, with progress."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from deeplab2_kmax.data.convert import progress as progresses

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(
    work: Callable[[Item], Result], items: Sequence[Item], name: str, num_processes: int, *, few: int = 100
) -> list[Result]:
    """`[work(item) for item in items]`, in order; every `few` items are worth one more process, up to `num_processes`
    (0: one per processor core)."""
    progress = progresses.Progress(name, len(items), quiet=len(items) < few)
    count = min(num_processes or os.cpu_count() or 1, len(items) // few)
    if count < 2:
        return _collect(map(work, items), progress, len(items))
    # Fresh processes, as the writer's.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(count, mp_context=context) as executor:
        return _collect(executor.map(work, items, chunksize=max(1, few // 12)), progress, len(items))


def _collect(results: Iterable[Result], progress: progresses.Progress, total: int) -> list[Result]:
    found = []
    for result in results:
        found.append(result)
        progress.show(len(found))
    progress.show(total, end=True)
    return found
