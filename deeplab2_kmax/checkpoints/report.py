"""What became of every variable when a checkpoint was loaded, as a table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

import tensorflow as tf

from deeplab2_kmax import registry
from deeplab2_kmax.checkpoints import first_layer
from deeplab2_kmax.checkpoints.name_maps import backbones

_SHOWN = 8
# What one side may lack, by our paths and by their names.
_OPTIONAL = re.compile("|".join(backbones.OPTIONAL))
_COLUMNS = ("loaded", "reshaped", "missing", "mismatched", "skipped", "unused")


Shape = tuple[int, ...]


@dataclasses.dataclass
class Report:
    """What became of every variable. Ours are paths in the model, `unused` are names in the checkpoint."""

    source: str
    loaded: list[str] = dataclasses.field(default_factory=list)
    # Of the loaded ones: those that had another shape there, path -> "(1, 8, 9) as (8, 9)". The numbers and their
    # order are the same.
    reshaped: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)
    mismatched: dict[str, str] = dataclasses.field(default_factory=dict)  # path -> "expected ..., got ..."
    skipped: list[str] = dataclasses.field(default_factory=list)
    unused: list[str] = dataclasses.field(default_factory=list)

    def table(self) -> str:
        """One line per part of the model, with the counts of its variables; then what did not fit, and what changed."""
        counts: dict[str, dict[str, int]] = {}
        for column in _COLUMNS:
            for path in getattr(self, column):
                row = counts.setdefault(path.split("/")[0], dict.fromkeys(_COLUMNS, 0))
                row[column] += 1
        width = max([len(item) for item in counts] + [4])
        lines = [f"{'item':{width}} " + " ".join(f"{column:>10}" for column in _COLUMNS)]
        for item in sorted(counts):
            lines.append(f"{item:{width}} " + " ".join(f"{counts[item][column]:>10}" for column in _COLUMNS))
        lines += [f"shape of {path}: {why}; it stays at its start" for path, why in self.mismatched.items()]
        lines += [f"left at its start: {', '.join(_shortened(self.skipped))}"] if self.skipped else []
        lines += [f"not in the checkpoint: {', '.join(_shortened(self.missing))}"] if self.missing else []
        kinds = sorted(set(self.reshaped.values()))
        lines += [f"reshaped: {'; '.join(_shortened(kinds))}"] if kinds else []
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"Variables taken from {self.source}:\n{self.table()}"


def match(
    ours: Mapping[str, tf.Variable],
    names: Mapping[str, str | None],
    stored: Mapping[str, Shape],
    skip: Sequence[str],
    source: str,
) -> Report:
    """Brings together our variables and the stored shapes by their names; `skip` are parts to leave, on either side."""
    report = Report(source)
    unused = {name for name in stored if not _is_skipped(name, skip)}
    for path, variable in ours.items():
        name = names[path]
        if _is_skipped(path, skip) or (name is not None and _is_skipped(name, skip)):
            report.skipped.append(path)
        elif name is None or name not in stored:
            (report.skipped if _OPTIONAL.fullmatch(path) else report.missing).append(path)
        elif essence(variable.shape) != essence(stored[name]):
            report.mismatched[path] = f"expected {tuple(variable.shape)}, but {name} has {stored[name]}"
        elif name not in unused:
            raise AssertionError(f"Two variables map to {name}.")
        else:
            report.loaded.append(path)
            if tuple(variable.shape) != stored[name]:
                report.reshaped[path] = f"{stored[name]} as {tuple(variable.shape)}"
        unused.discard(name or "")
    report.unused = sorted(unused)
    return report


def take_wider(
    report: Report, ours: Mapping[str, tf.Variable], names: Mapping[str, str | None], stored: Mapping[str, Shape]
) -> None:
    """Counts the first layer of a model of images as loaded where ours has more input channels: zeros, then."""
    for path in list(report.mismatched):
        shape, there = tuple(ours[path].shape), stored[names[path] or ""]
        if first_layer.is_wider(shape, there):
            del report.mismatched[path]
            report.loaded.append(path)
            report.reshaped[path] = f"{there} as {shape}, zeros for the channels beyond the colours"


def check_complete(report: Report, names: Mapping[str, str | None], stored: Mapping[str, Shape]) -> None:
    """Raises a ValueError that lists what has no counterpart on the other side."""
    unused = [name for name in report.unused if not _OPTIONAL.fullmatch(name)]
    if report.missing or report.mismatched or unused:
        raise ValueError(_explain(dataclasses.replace(report, unused=unused), names, stored))


def check_skip(
    skip: Sequence[str], ours: Iterable[str], names: Mapping[str, str | None], stored: Iterable[str]
) -> None:
    """Raises a ValueError for a part to skip that neither side has: it would be a typing error."""
    known = {*ours, *stored, *(name for name in names.values() if name is not None)}
    for item in skip:
        if not any(_is_skipped(name, [item]) for name in known):
            parts = {part.lstrip("_") for name in known for part in name.split("/")}
            raise ValueError(
                f"There is no part {item!r} to skip; nearest: {', '.join(registry.nearest(item, parts)[:3])}."
            )


def essence(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape without its axes of size 1: those differ between a dense kernel and a convolution's, not the order."""
    return tuple(size for size in shape if size != 1)


def _is_skipped(name: str, skip: Sequence[str]) -> bool:
    parts = {part.lstrip("_") for part in name.split("/")}
    return any(item in parts or name.startswith(item.rstrip("/") + "/") for item in skip)


def _explain(report: Report, names: Mapping[str, str | None], stored: Iterable[str]) -> str:
    """Why a checkpoint does not fit: what has no counterpart on the other side, with the nearest names."""
    lines = [
        f"{report.source} does not fit this model: {len(report.missing)} variables of the model are not in it, "
        f"{len(report.mismatched)} have another shape, and {len(report.unused)} of its variables belong nowhere."
    ]
    for path in report.missing[:_SHOWN]:
        name = names[path]
        close = registry.nearest(name or path, report.unused or stored)[:1]
        lines.append(f"  not in the checkpoint: {path} ({name or 'without a known name'}; nearest: {', '.join(close)})")
    lines += [f"  other shape: {path}: {why}" for path, why in list(report.mismatched.items())[:_SHOWN]]
    ours = [name or path for path, name in names.items()]
    for name in report.unused[:_SHOWN]:
        lines.append(f"  not in the model: {name} (nearest: {registry.nearest(name, ours)[0]})")
    lines.append("Parts can be left out by name with skip=(...).")
    return "\n".join(lines)


def _shortened(items: list[str]) -> list[str]:
    more = [f"and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return items[:_SHOWN] + more
