"""Tables of variable names: ours -> DeepLab2's, one module per family.

A table maps patterns of paths, in which `{}` stands for a number that both sides share, in order. `{-1}` on their side
is that number less 1, for what they count from 0, and `{+1}` one more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_HOLE = re.compile(r"\{([-+]\d+)?\}")


class NameMap:
    """Turns our variable paths into another library's by a table of patterns."""

    def __init__(self, table: Mapping[str, str]):
        self._rules = [(*_ends(ours), _pattern(ours), theirs) for ours, theirs in table.items()]

    def __call__(self, path: str) -> str | None:
        """The other library's name of `path`, None where no pattern fits."""
        for start, end, pattern, theirs in self._rules:
            # The ends rule most patterns out, long before a regular expression would.
            if path.startswith(start) and path.endswith(end):
                match = pattern.fullmatch(path)
                if match:
                    return _fill(theirs, match.groups())
        return None

    def names(self, paths: Iterable[str]) -> dict[str, str | None]:
        """The other library's name of every path."""
        return {path: self(path) for path in paths}


def under(ours: str, theirs: str, table: Mapping[str, str]) -> dict[str, str]:
    """The table of an object that lies at `ours` here and at `theirs` there."""
    return {f"{ours}/{left}": f"{theirs}/{right}" for left, right in table.items()}


def _ends(ours: str) -> tuple[str, str]:
    """What comes before the first number and after the last."""
    parts = ours.split("{}")
    return parts[0], parts[-1]


def _pattern(ours: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(re.escape(part) for part in ours.split("{}")))


def _fill(theirs: str, numbers: Iterable[str]) -> str:
    given = iter(numbers)
    return _HOLE.sub(lambda hole: str(int(next(given)) + int(hole[1] or 0)), theirs)
