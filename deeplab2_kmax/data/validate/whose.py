"""Whose labels these are: records checked as another data set than the one they were made for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.validate.problems import Problem

# (label divisor, class, whether some of its pixels have an instance): what labels tell of the data set they are of.
Trait = tuple[int, int, bool]

_DIVISORS = tuple(sorted({dataset.label_divisor for dataset in datasets.DATASETS.values()}))
_NAMED = 3  # data sets in a message


def traits(ids: np.ndarray) -> set[Trait]:
    """What panoptic ids [N] say, read with the divisor of every known data set."""
    return {
        (divisor, number // divisor, number % divisor != 0)
        for divisor in _DIVISORS
        for number in map(int, ids.tolist())
    }


def check(
    found: Collection[Trait],
    dataset: datasets.Dataset,
    *,
    where: str,
    num_bad: int,
    num_records: int,
    sources: Iterable[Mapping[str, Any]] = (),
) -> list[Problem]:
    """One problem where the records are of another data set: their manifest says so, or their labels do.

    Labels do where more than half of the records do not fit: single mistakes are no wrong data set. (Labels of one data
    set may well fit another by chance, read with its divisor.)

    Args:
        found: of all records.
        dataset: what they are checked as.
        where: to name in the problem.
        num_bad, num_records: how many have labels that `dataset` does not, and how many there are.
        sources: `source` of their manifests, where the converter is named.
    """
    others = [one for one in datasets.DATASETS.values() if not _alike(one, dataset)]
    unfit = 2 * num_bad > num_records
    told = f"{num_bad} of {num_records} records have labels that {dataset.name} does not"
    # A class file of one's own may describe the records of any converter.
    if (unfit or dataset.name in datasets.DATASETS) and (made := _made_for(sources, others)):
        told = f"their manifest names {_listed(made)}" + (f"; {told}" if num_bad else "")
    elif unfit and (fitting := _fitting(found, others)):
        told = f"{told}; they would fit {_listed(fitting)}"
    else:
        return []
    return [Problem("wrong_dataset", where, "", f"{told}: is --dataset (or `dataset` of the config) right?")]


def _made_for(sources: Iterable[Mapping[str, Any]], others: Sequence[datasets.Dataset]) -> list[str]:
    """The data sets that the converters named in manifests write records for."""
    words = {str(source.get(key)) for source in sources for key in ("dataset", "converter") if source.get(key)}
    # A converter is called as its data set, or with a word less: coco, coco_panoptic.
    exact = [one.name for one in others if one.name in words]
    return exact or [one.name for one in others if one.name.removesuffix("_panoptic") in words]


def _fitting(found: Collection[Trait], others: Sequence[datasets.Dataset]) -> list[str]:
    """The data sets that labels fit: those in which they have the most classes, so that a large divisor, by which most
    ids are of the first class, explains nothing away."""
    counts = {one.name: _classes(found, one) for one in others}
    most = max(counts.values(), default=0)
    return [name for name, count in counts.items() if count == most > 0]


def _classes(found: Collection[Trait], dataset: datasets.Dataset) -> int:
    """How many classes labels have; 0 if one is unknown, stuff has instances, or a thing nowhere has any."""
    own = {(number, numbered) for divisor, number, numbered in found if divisor == dataset.label_divisor}
    own = {(number, numbered) for number, numbered in own if number != dataset.ignore_label}
    classes = {number for number, _ in own}
    things = classes.intersection(dataset.thing_ids)
    fits = all(0 <= number < dataset.num_classes for number in classes)
    return len(classes) if fits and things == {number for number, numbered in own if numbered} else 0


def _alike(one: datasets.Dataset, other: datasets.Dataset) -> bool:
    """Whether labels of one mean the same in the other."""
    fields = ("num_classes", "ignore_label", "label_divisor", "thing_ids", "class_names")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
