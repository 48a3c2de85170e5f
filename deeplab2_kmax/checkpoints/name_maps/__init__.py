"""Tables of variable names: ours -> DeepLab2's, one module per family.

A table maps patterns of paths, in which `{}` stands for a number that both sides share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


class NameMap:
    """Turns our variable paths into another library's by a table of patterns."""

    def __init__(self, table: Mapping[str, str]):
        self._rules = [(_pattern(ours), theirs) for ours, theirs in table.items()]

    def __call__(self, path: str) -> str | None:
        """The other library's name of `path`, None where no pattern fits."""
        for pattern, theirs in self._rules:
            match = pattern.fullmatch(path)
            if match:
                return theirs.format(*match.groups())
        return None

    def names(self, paths: Iterable[str]) -> dict[str, str | None]:
        """The other library's name of every path."""
        return {path: self(path) for path in paths}


def under(ours: str, theirs: str, table: Mapping[str, str]) -> dict[str, str]:
    """The table of an object that lies at `ours` here and at `theirs` there."""
    return {f"{ours}/{left}": f"{theirs}/{right}" for left, right in table.items()}


def _pattern(ours: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(re.escape(part) for part in ours.split("{}")))
