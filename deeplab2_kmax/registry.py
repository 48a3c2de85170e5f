"""Looking a name up in a table, or an error that helps."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The entries of `names` that look most like `name`; all of them, sorted, when none does."""
    names = sorted(names)
    contained = [other for other in names if name and name.lower() in other.lower()]
    return difflib.get_close_matches(name, names) or contained or names


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Returns `table[name]`.

    Raises:
        ValueError: there is no such name; the message gives the nearest ones. `kind` says what the table holds.
    """
    if name in table:
        return table[name]
    raise ValueError(f"Unknown {kind} {name!r}. Did you mean: {', '.join(nearest(name, table))}?")
