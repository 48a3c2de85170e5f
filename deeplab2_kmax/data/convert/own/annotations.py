"""What a format's reader is told, and what it gives back."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from deeplab2_kmax.data.convert.own import classes, labels, sources


class Options(NamedTuple):
    """Flags that formats heed."""

    given: tuple[classes.Class, ...] = ()  # --classes
    suffix: str = ""  # of annotation files, after the image's name
    void: tuple[int, ...] | None = None  # values of maps that mean nothing; None: the format's own
    none: int | str | None = 0  # as of labels.MapRule
    instance_divisor: int = 0


class Annotations(NamedTuple):
    """The labels of one source."""

    items: list[labels.Item]
    classes: list[classes.Class]  # what the annotations know of them; empty: the values found are the classes
    problems: list[sources.Problem]
    by_name: bool = False  # the annotations name their classes
    things: bool = True  # what a class is of which nothing else is known
    sparse: bool = True  # pixels that nothing covers were not looked at, or are background
    splits: dict[str, tuple[str, ...]] | None = None  # names of the images, where the annotations tell


def annotated(
    source: sources.Source, suffix: str, ending: str, problems: list[sources.Problem]
) -> list[tuple[str, pathlib.Path, pathlib.Path]]:
    """(name, image, file of its annotation) of the images that have one; the others are problems, and so are
    annotations without an image."""
    pictures = sources.images(source.images)
    notes = {
        path.relative_to(source.annotations).as_posix(): path for path in sources.walk(source.annotations, (ending,))
    }
    found = []
    for name, image in pictures.items():
        path = notes.pop(f"{name}{suffix}{ending}", None)
        if path is None:
            problems.append(sources.Problem(name, f"no annotation {source.annotations / name}{suffix}{ending}"))
        else:
            found.append((name, image, path))
    problems += [
        sources.Problem(name, f"{path}: there is no image {source.images / name.removesuffix(suffix + ending)}.*")
        for name, path in notes.items()
        if name.endswith(suffix + ending)
    ]
    return found


def in_order(names: Sequence[str | int]) -> list[str | int]:
    """Categories sorted, numbers by their value."""
    return sorted(set(names), key=lambda one: (isinstance(one, str), one))
