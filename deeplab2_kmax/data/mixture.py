"""Several data sets in one training stream: which of them a sample comes from, and its labels in the classes of one.

Like everything here this is a function of the position in the stream. Every 1000 positions form a block; in each block
a data set has its share of the positions, to the sample, in an order new for every block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from deeplab2_kmax import registry
from deeplab2_kmax.data import datasets, record_index
from deeplab2_kmax.data.datasets import Dataset
from deeplab2_kmax.data.targets import segments
from deeplab2_kmax.protos import dataset_pb2

BLOCK = 1000
VOID = "void"
OTHERS = "*"


class Source(NamedTuple):
    """One data set of a mixture."""

    dataset: Dataset
    files: tuple[str, ...]
    weight: float
    classes: dict[int, int]  # its class ids, void included -> those of the mixture


def sources(options: dataset_pb2.DatasetOptions, target: Dataset) -> list[Source]:
    """The data sets a stream is made of: one where there is no mixture.

    Args:
        target: the data set whose classes the labels get.

    Raises:
        ValueError: bad weights, unknown names, files that are missing.
    """
    if not options.mixture:
        files = record_index.find_files(options.file_pattern)
        return [Source(target, tuple(files), 1.0, {})]
    found = []
    for number, part in enumerate(options.mixture):
        path = f"mixture[{number}]"
        if not 0 < part.weight < float("inf"):
            raise ValueError(f"{path}.weight: expected a positive number, found {part.weight:g}")
        dataset = datasets.lookup(part.dataset, f"data set ({path}.dataset)")
        if dataset.camera_names or target.camera_names:
            raise ValueError(f"{path}.dataset: {dataset.name} has several cameras, which mixtures do not support.")
        classes = class_map(part.class_map, dataset, target, path)
        found.append(Source(dataset, tuple(record_index.find_files(part.file_pattern)), part.weight, classes))
    return found


def class_map(
    pairs: Sequence[dataset_pb2.DatasetOptions.ClassMapOptions], source: Dataset, target: Dataset, path: str
) -> dict[int, int]:
    """Where every class of `source` goes: as listed, else to the class of the same name, else to void.

    Raises:
        ValueError: a class that is not there, or one listed twice.
    """
    listed: dict[int, int] = {}
    others = None
    for pair in pairs:
        to = target.ignore_label if pair.target_class == VOID else _class_id(pair.target_class, target, path)
        if pair.source_class == OTHERS:
            others = to
            continue
        from_id = _class_id(pair.source_class, source, path)
        if from_id in listed:
            raise ValueError(f"{path}.class_map: {pair.source_class!r} of {source.name} is listed twice")
        listed[from_id] = to
    same = {name.lower(): id_ for id_, name in enumerate(target.class_names)}
    result, lost = {source.ignore_label: target.ignore_label}, []
    for id_, name in enumerate(source.class_names):
        if id_ == source.ignore_label:
            continue
        if id_ in listed:
            result[id_] = listed[id_]
        elif name.lower() in same:
            result[id_] = same[name.lower()]
        else:
            result[id_] = target.ignore_label if others is None else others
            lost += [name] if others is None else []
    if lost:
        logging.warning("%s: classes of %s that become void in %s: %s", path, source.name, target.name, ", ".join(lost))
    return result


def _class_id(text: str, dataset: Dataset, path: str) -> int:
    names = {name.lower(): id_ for id_, name in enumerate(dataset.class_names)}
    if text.isdigit() and int(text) < dataset.num_classes:
        return int(text)
    return registry.lookup(names, text.lower(), f"class of {dataset.name} ({path}.class_map)")


class Schedule:
    """Which data set the sample at a position comes from, and the how-maniest of that data set it is."""

    def __init__(self, weights: Sequence[float]):
        self.counts = shares(weights)
        self._ends = tf.constant(np.cumsum(self.counts), tf.int64)
        self._counts = tf.constant(self.counts, tf.int64)

    def at(self, position: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(number of the data set, number of the sample among those of that data set), int64 scalars."""
        block, slot = position // BLOCK, position % BLOCK
        order = tf.random.experimental.stateless_fold_in(seed, block)
        last = tf.constant(BLOCK - 1, tf.int64)
        shuffled = tf.random.experimental.index_shuffle(tf.range(BLOCK, dtype=tf.int64), order, last)
        owners = tf.searchsorted(self._ends, shuffled, side="right", out_type=tf.int64)
        source = owners[slot]
        earlier = tf.reduce_sum(tf.cast(owners[:slot] == source, tf.int64))
        return source, block * self._counts[source] + earlier


def shares(weights: Sequence[float]) -> list[int]:
    """How many of BLOCK samples each data set gives: proportional to its weight, at least one."""
    if len(weights) > BLOCK:
        raise ValueError(f"mixture: {len(weights)} data sets, but at most {BLOCK} are supported")
    exact = np.asarray(weights, np.float64) / np.sum(weights) * BLOCK
    counts = np.maximum(np.floor(exact).astype(int), 1)
    while counts.sum() < BLOCK:
        counts[np.argmax(exact - counts)] += 1
    while counts.sum() > BLOCK:  # several tiny weights were rounded up to one
        counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
    return counts.tolist()


class Classes:
    """Rewrites labels of the data sets of a mixture to the classes of one."""

    def __init__(self, parts: Sequence[Source], target: Dataset):
        size = max(max(part.classes) for part in parts) + 1
        table = np.full([len(parts), size], -1, np.int32)
        for number, part in enumerate(parts):
            for id_, to in part.classes.items():
                table[number, id_] = to
        self._table = tf.constant(table)
        self._divisors = tf.constant([part.dataset.label_divisor for part in parts], tf.int32)
        self._target = target

    def divisor(self, source: tf.Tensor) -> tf.Tensor:
        """The label divisor of a data set of the mixture."""
        return self._divisors[source]

    def rewrite(self, label: tf.Tensor, source: tf.Tensor, name: tf.Tensor | str = "") -> tf.Tensor:
        """A label [H, W, frames] of data set number `source` -> the same in the classes of the mixture.

        Instances are numbered anew, 1, 2, ... in every class, the same in all frames: two classes that become one
        may have used the same numbers.

        Raises:
            InvalidArgumentError: a class the data set does not have; `name` says where.
        """
        target, divisor = self._target, self._divisors[source]
        ids, index = tf.unique(tf.reshape(label, [-1]))
        old = ids // divisor
        row = self._table[source]
        classes = tf.gather(row, tf.clip_by_value(old, 0, tf.size(row) - 1))
        known = (old >= 0) & (old < tf.size(row)) & (classes >= 0)
        check = tf.debugging.Assert(
            tf.reduce_all(known),
            [name, "the label has classes that its data set does not:", tf.boolean_mask(old, ~known)],
        )
        with tf.control_dependencies([check] if check is not None else []):
            is_instance = segments.are_things(classes, target) & (ids % divisor != 0)
        # Of every instance, how many of its class came before it.
        mine = (classes[:, tf.newaxis] == tf.range(target.num_classes)) & is_instance[:, tf.newaxis]
        number = tf.cumsum(tf.cast(mine, tf.int32), axis=0)
        number = tf.reduce_sum(tf.where(mine, number, 0), axis=1)
        crowded = tf.debugging.Assert(
            tf.reduce_max(number) < target.label_divisor,
            [name, f"has more instances of a class than the label divisor of {target.name} leaves room for"],
        )
        with tf.control_dependencies([crowded] if crowded is not None else []):
            new = classes * target.label_divisor + number
        return tf.reshape(segments.paint(new, index), tf.shape(label))
