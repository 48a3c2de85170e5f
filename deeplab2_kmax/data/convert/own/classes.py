"""The classes of a data set of one's own: from the annotations, a list in the command line, or a file."""

from __future__ import annotations

import colorsys
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Union

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert.own import labels
from deeplab2_kmax.data.convert.segments import Category

Id = Union[str, int]
BACKGROUND = "background"
IGNORE_LABELS = (255, 65535)


class Class(NamedTuple):
    """A class as the annotations know it."""

    category: Id  # what stands in the annotations
    name: str
    thing: bool | None = None  # None: as the format has it
    color: tuple[int, int, int] | None = None


def parse(text: str) -> list[Class]:
    """`--classes`: names with commas between, or a file: a name per line, a JSON list, or the data.yaml of YOLO.

    The category of a class is its place in the list, where the file says nothing else.
    """
    path = pathlib.Path(text)
    if not path.suffix or "," in text:
        return _numbered(text.split(","))
    if not path.is_file():
        raise ValueError(f"--classes: there is no file {text}")
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return _from_json(content, text)
    if path.suffix in (".yaml", ".yml"):
        return from_yaml(content, text)
    return _numbered(line for line in content.splitlines() if line.strip())


def _numbered(names: Iterable[str]) -> list[Class]:
    found = [Class(k, name.strip()) for k, name in enumerate(names)]
    if not found or not all(one.name for one in found):
        raise ValueError("--classes: expected names with commas between, or a file")
    return found


def _from_json(content: str, where: str) -> list[Class]:
    try:
        rows = json.loads(content)
        if isinstance(rows, dict):
            rows = rows["classes"] if "classes" in rows else rows["categories"]
        if all(isinstance(row, str) for row in rows):
            return _numbered(rows)
        found = []
        for row in rows:
            kind = row.get("thing", row.get("isthing"))
            color = rgb(row.get("color"))
            found.append(
                Class(row.get("eval_id", row["id"]), str(row["name"]), None if kind is None else bool(kind), color)
            )
        return found
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected a list of names, or of id, name, thing and color ({error!r})") from None


def rgb(values: Sequence[int] | None) -> tuple[int, int, int] | None:
    """Three numbers, or none."""
    if not values:
        return None
    red, green, blue = (int(value) for value in values)
    return (red, green, blue)


def from_yaml(content: str, where: str) -> list[Class]:
    """The `names` of YOLO's data.yaml: `names: [a, b]`, or lines of `- a` or `0: a`."""
    found: dict[int, str] = {}
    lines = iter(re.sub(r"\s#.*$|^#.*$", "", content, flags=re.MULTILINE).splitlines())
    for line in lines:
        match = re.match(r"names\s*:\s*(.*)$", line)
        if not match:
            continue
        if rest := match[1].strip():
            text = rest
            while text.count("[") > text.count("]") or text.count("{") > text.count("}"):
                text += next(lines, "]}")
            entries = [entry for entry in text.strip("[]{} ").split(",") if entry.strip()]
        else:
            entries = []
            for entry in lines:
                if entry.strip() and not re.match(r"\s*-|\s+\S", entry):
                    break
                entries += [entry.strip()] if entry.strip() else []
        for k, entry in enumerate(entries):
            pair = re.fullmatch(r"(?:-\s*)?(?:(\d+)\s*:\s*)?(.+)", entry.strip())
            assert pair is not None
            found[int(pair[1]) if pair[1] else k] = pair[2].strip().strip("'\"")
        break
    if not found:
        raise ValueError(f"{where}: no names of classes; set --classes=a,b,c")
    return [Class(k, name) for k, name in sorted(found.items())]


def choose(known: Sequence[Class], given: Sequence[Class], *, by_name: bool) -> list[Class]:
    """The classes of the annotations with what --classes says: names and kinds, or which of them and in which order.

    Args:
        known: from the annotations; may be empty.
        given: from the command line; may be empty.
        by_name: the annotations name their classes, so the list chooses; otherwise it names the numbers.
    """
    if not given or not by_name:
        return list(given or known)
    table = {one.name: one for one in known}
    found = []
    for one in given:
        here = table.get(one.name, Class(one.name, one.name))
        found.append(here._replace(thing=here.thing if one.thing is None else one.thing, color=one.color or here.color))
    return found


def mark(known: Sequence[Class], text: str, flag: str, thing: bool) -> list[Class]:
    """Applies --things or --stuff: names, categories or ranges of them (`0-90`) with commas between; or `all`."""
    if not text:
        return list(known)
    chosen: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        span = re.fullmatch(r"(\d+)-(\d+)", part)
        meant = set()
        for k, one in enumerate(known):
            in_span = span and isinstance(one.category, int) and int(span[1]) <= one.category <= int(span[2])
            if part == "all" or in_span or part in (one.name, str(one.category)):
                meant.add(k)
        chosen |= meant
        if not meant:
            names = ", ".join(one.name for one in known[:8])
            raise ValueError(f"--{flag}: {part!r} is no class; the classes are {names}{' ...' if known[8:] else ''}")
    return [one._replace(thing=thing) if k in chosen else one for k, one in enumerate(known)]


def table(
    known: Sequence[Class], *, name: str, label_divisor: int, background: bool
) -> tuple[datasets.Dataset, labels.Table]:
    """The data set, and what its categories become.

    Args:
        known: every class, its kind decided.
        name: of the data set.
        label_divisor: of the panoptic ids.
        background: pixels that nothing covers are a class of their own, 0.
    """
    rows = list(known)
    if background:
        rows.insert(0, Class("", _free_name(BACKGROUND, rows), False, (0, 0, 0)))
    if not rows:
        raise ValueError("no classes: name them by --classes")
    names = [row.name for row in rows]
    if twice := [one for one in names if names.count(one) > 1]:
        raise ValueError(f"two classes are named {twice[0]!r}")
    fitting = [label for label in IGNORE_LABELS if label >= len(rows)]
    if not fitting or (fitting[0] + 1) * label_divisor > 2**31:
        raise ValueError(f"{len(rows)} classes with the label divisor {label_divisor} make no ids of 32 bits")
    colors = palette(len(rows))
    dataset = datasets.Dataset(
        name=name,
        num_classes=len(rows),
        ignore_label=fitting[0],
        label_divisor=label_divisor,
        thing_ids=tuple(k for k, row in enumerate(rows) if row.thing),
        class_names=tuple(names),
        colors=tuple(row.color or colors[k] for k, row in enumerate(rows)),
        eval_ids=tuple(row.category if isinstance(row.category, int) else k for k, row in enumerate(rows)),
    )
    first = int(background)
    categories = {row.category: Category(k, bool(row.thing)) for k, row in enumerate(rows) if k >= first}
    return dataset, labels.Table(categories, fitting[0], label_divisor, 0 if background else None)


def _free_name(name: str, rows: Iterable[Class]) -> str:
    taken = {row.name for row in rows}
    while name in taken:
        name += "_"
    return name


def palette(number: int) -> list[tuple[int, int, int]]:
    """Colours that are easy to tell from each other: hues by the golden angle, in three lightnesses."""
    found = []
    for k in range(number):
        red, green, blue = colorsys.hsv_to_rgb(k * 0.618034 % 1, (0.75, 0.55, 0.9)[k % 3], (0.9, 0.75, 0.6)[k // 3 % 3])
        found.append((round(red * 255), round(green * 255), round(blue * 255)))
    return found
