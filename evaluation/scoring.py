"""Scores images in parts, by one process or several: the parts, and so the results, are the same for any number."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import progress as progresses
from deeplab2_kmax.data.targets import keys
from evaluation import error_analysis, mask_matching, metric_set
from evaluation.saved import sides

PART = 64  # images, at least: more where a sequence goes on
_QUIET = 500  # images that are done before anybody asks
_DTYPES = {sides.PANOPTIC: tf.int32, sides.SEMANTIC: tf.int32, sides.DEPTH: tf.float32}

Item = TypeVar("Item")


class MapJob(NamedTuple):
    """How maps are scored."""

    task: str
    dataset: datasets.Dataset
    reader: sides.Reader
    options: Mapping[str, Any]  # of the MetricSet
    pictures: Mapping[str, str] | None  # for the report: name of a picture -> file; None: no report

    def metrics(self) -> metric_set.MetricSet:
        """Empty metrics."""
        return metric_set.MetricSet([self.task], self.dataset, **self.options)

    def analysis(self) -> error_analysis.Analysis | None:
        """An empty one; None where there is no report, or none on label maps."""
        if self.pictures is None or self.reader.kinds == {sides.DEPTH}:
            return None
        if sides.PANOPTIC in self.reader.kinds:
            return error_analysis.Analysis(self.dataset)
        return error_analysis.Analysis(dataclasses.replace(self.dataset, label_divisor=1))

    def start(self) -> MapScorer:
        """What scores the parts, one in every process."""
        return MapScorer(self)


class MapPart(NamedTuple):
    """What some images add."""

    state: dict[str, list[np.ndarray]]
    analysis: error_analysis.Analysis | None


class MapScorer:
    """Scores pairs of maps, sequence by sequence."""

    def __init__(self, job: MapJob):
        self._job = job
        self._metrics = job.metrics()
        kinds = sorted(job.reader.kinds)
        self._in_order = self._metrics.follows_sequences
        if metric_set.TASKS[job.task].knows_size:
            self._update = self._metrics.update_state  # a graph would be made for every size
        else:
            true = {sides.TRUE_KEYS[kind]: tf.TensorSpec([1, None, None], _DTYPES[kind]) for kind in kinds}
            pred = {sides.PRED_KEYS[kind]: tf.TensorSpec([1, None, None], _DTYPES[kind]) for kind in kinds}
            if self._in_order:
                true[keys.SEQUENCE_ID] = tf.TensorSpec([1], tf.string)
            self._update = tf.function(
                lambda true, pred: self._metrics.update_state(true, pred), input_signature=(true, pred)
            )

    def __call__(self, groups: Sequence[Sequence[sides.Pair]]) -> MapPart:
        """The sums of whole sequences."""
        self._metrics.reset_state()
        analysis = self._job.analysis()
        for group in groups:
            for pair in group:
                true, pred = self._job.reader.read(pair)
                batch: dict[str, Any] = {key: values[np.newaxis] for key, values in true.items()}
                if self._in_order:
                    batch[keys.SEQUENCE_ID] = np.array([pair.truth.sequence])
                self._update(
                    {key: tf.constant(value) for key, value in batch.items()},
                    {key: tf.constant(values[np.newaxis]) for key, values in pred.items()},
                )
                if analysis is not None:
                    self._analyse(analysis, pair, true, pred)
        self._metrics.flush()
        return MapPart(self._metrics.state(), analysis)

    def _analyse(self, analysis: error_analysis.Analysis, pair: sides.Pair, true: Mapping, pred: Mapping) -> None:
        kind = sides.SEMANTIC if analysis.only_classes else sides.PANOPTIC
        name = pair.truth.picture or pair.name
        file = (self._job.pictures or {}).get(name) or (self._job.pictures or {}).get(name.rpartition("/")[2])
        analysis.add(
            pair.name,
            true[sides.TRUE_KEYS[kind]],
            pred[sides.PRED_KEYS[kind]],
            functools.partial(_picture, file) if file else None,
            pair.truth.sequence if self._in_order else "",
            pair.truth.frame,
        )


class MaskJob(NamedTuple):
    """How masks that may overlap are matched."""

    match: Callable[[Any], mask_matching.Matched]

    def start(self) -> Callable[[Sequence[Sequence[Any]]], mask_matching.Matched]:
        """What scores the parts."""
        return lambda groups: mask_matching.join(self.match(item) for group in groups for item in group)


def parts(groups: Sequence[Sequence[Item]]) -> list[list[Sequence[Item]]]:
    """Groups of images in parts of at least PART images; the same for any number of processes."""
    found: list[list[Sequence[Item]]] = [[]]
    size = 0
    for group in groups:
        if size >= PART:
            found.append([])
            size = 0
        found[-1].append(group)
        size += len(group)
    return found


def run(job: MapJob | MaskJob, groups: Sequence[Sequence[Any]], num_workers: int) -> Iterator[Any]:
    """The outcomes of all parts, in order.

    Args:
        job: what to do with a part.
        groups: images that belong together.
        num_workers: processes, no more than there are parts; 0: one per processor core.
    """
    pieces = parts(groups)
    total = sum(len(group) for group in groups)
    progress = progresses.Progress("scored", total, quiet=total < _QUIET)
    done = 0
    for outcome, piece in zip(_outcomes(job, pieces, num_workers), pieces):
        done += sum(len(group) for group in piece)
        progress.show(done, end=done == total)
        yield outcome


def _outcomes(job: MapJob | MaskJob, pieces: Sequence[Any], num_workers: int) -> Iterator[Any]:
    count = min(num_workers or os.cpu_count() or 1, len(pieces))
    if count < 2:
        yield from map(job.start(), pieces)
        return
    # Fresh processes: TensorFlow does not outlive a fork.
    with concurrent.futures.ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(job,)
    ) as executor:
        yield from executor.map(_score, pieces)  # which cancels what is left where a part fails


_scorer: Callable[[Any], Any] | None = None  # of this process


def _start(job: MapJob | MaskJob) -> None:
    global _scorer
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")
    _scorer = job.start()


def _score(piece: Any) -> Any:
    assert _scorer is not None
    return _scorer(piece)


def picture_files(folder: pathlib.Path) -> dict[str, str]:
    """Pictures of a folder and those below it, by their relative names and by their names, without endings.

    Raises:
        ValueError: no folder, or no pictures.
    """
    found: dict[str, str] = {}
    for path in sides.tree(folder, (".jpg", ".jpeg", ".png")):
        name = path.with_suffix("").as_posix().removesuffix("_leftImg8bit")
        found.setdefault(name.rpartition("/")[2], str(folder / path))
        found[name] = str(folder / path)
    return found


def _picture(file: str) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: cannot be read as an image ({error.__class__.__name__}).") from error
