"""What a format gives: the images of one side, ground truth or prediction, and how each is read."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from deeplab2_kmax import labels
from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.targets import keys

PANOPTIC, SEMANTIC, DEPTH = "panoptic", "semantic", "depth"  # kinds of maps
TRUE_KEYS = {PANOPTIC: keys.PANOPTIC_RAW, SEMANTIC: keys.SEMANTIC_RAW, DEPTH: keys.DEPTH_RAW}
PRED_KEYS = {PANOPTIC: "panoptic_pred", SEMANTIC: "semantic_pred", DEPTH: "depth_pred"}

Maps = Mapping[str, np.ndarray]  # kind of map: [H, W]; labels int32, depth float32 in metres


class Source(NamedTuple):
    """One image of one side."""

    content: Any  # what the reader needs: a path, or more
    sequence: str = ""  # of a video
    frame: int = 0  # its place there, ascending
    picture: str = ""  # what the picture is called, without an ending; "": as the image


class Side(NamedTuple):
    """All images of one side. `read` and the sources can be sent to other processes."""

    where: str
    sources: Mapping[str, Source]  # name of an image: where it is
    read: Callable[[Source], Maps]
    max_segments: int = 0  # the most that an image has; 0: not known before reading


class Context(NamedTuple):
    """What readers of both sides are told."""

    dataset: datasets.Dataset
    is_truth: bool
    kinds: frozenset[str]  # maps that the task needs
    hidden_class: int | None = None  # of crowds that excuse nothing, see coco_panoptic
    evaluation_ids: bool = False  # files hold the data set's evaluation ids
    depth_folder: pathlib.Path | None = None
    depth_scale: float = 256.0  # stored depth of a metre


class Pair(NamedTuple):
    """One image: the same frame on both sides."""

    name: str
    truth: Source
    prediction: Source


def match(truth: Side, prediction: Side, *, in_order: bool) -> list[list[Pair]]:
    """The images of the ground truth: each alone or, with `in_order`, sequence by sequence with its frames in order.

    Images that only the prediction has are ignored.

    Raises:
        ValueError: no images, or predictions that are missing.
    """
    if not truth.sources:
        raise ValueError(f"{truth.where}: there are no images.")
    missing = [name for name in truth.sources if name not in prediction.sources]
    if missing:
        raise ValueError(f"{prediction.where}: no prediction for {len(missing)} image(s), for example {missing[0]}.")
    groups: dict[str, list[Pair]] = {}
    for name, source in truth.sources.items():
        pair = Pair(name, source, prediction.sources[name])
        groups.setdefault(source.sequence if in_order else name, []).append(pair)
    return [sorted(group, key=lambda pair: pair.truth.frame) for group in groups.values()]


class Reader(NamedTuple):
    """Reads both sides of an image and brings them under the names that metrics know."""

    truth: Callable[[Source], Maps]
    prediction: Callable[[Source], Maps]
    truth_where: str
    prediction_where: str
    dataset: datasets.Dataset
    kinds: frozenset[str]

    def read(self, pair: Pair) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Ground truth and prediction of an image, [H, W] each.

        Raises:
            ValueError: a map that cannot be read or is not there, or two sizes.
        """
        true = self._complete(self.truth(pair.truth), self.truth_where, pair.name)
        pred = self._complete(self.prediction(pair.prediction), self.prediction_where, pair.name)
        shape = true[min(self.kinds)].shape
        for where, maps in ((self.truth_where, true), (self.prediction_where, pred)):
            for values in maps.values():
                if values.shape != shape:
                    raise ValueError(
                        f"{where}, image {pair.name}: expected a PNG of {shape[1]}x{shape[0]} as the ground truth, got "
                        f"{values.shape[1]}x{values.shape[0]}."
                    )
        return {TRUE_KEYS[kind]: true[kind] for kind in self.kinds}, {
            PRED_KEYS[kind]: pred[kind] for kind in self.kinds
        }

    def _complete(self, maps: Maps, where: str, name: str) -> Maps:
        """The maps that are needed; classes follow from panoptic labels."""
        found = dict(maps)
        if SEMANTIC not in found and SEMANTIC in self.kinds and PANOPTIC in found:
            found[SEMANTIC] = labels.class_of(found[PANOPTIC], self.dataset.label_divisor)
        for kind in self.kinds - found.keys():
            raise ValueError(f"{where}, image {name}: the files hold no {kind} map.")
        return {kind: found[kind] for kind in self.kinds}


def class_table(context: Context) -> np.ndarray:
    """A table from the classes in files, 0 to 65535, to those of the data set; -1 for what is none."""
    dataset = context.dataset
    table = np.full(65536, -1, np.int32)
    if dataset.ignore_label < len(table):
        table[dataset.ignore_label] = dataset.ignore_label
    if context.evaluation_ids:
        # Evaluation ids of no class, such as "caravan", are not scored.
        table[:256] = dataset.ignore_label
        table[list(dataset.eval_ids)] = range(dataset.num_classes)
    else:
        table[: dataset.num_classes] = range(dataset.num_classes)
    return table


def classes_of(values: np.ndarray, context: Context, table: np.ndarray, where: object) -> np.ndarray:
    """Classes of the data set for those in a file; raises ValueError for one that is none."""
    if values.size and (values.min() < 0 or values.max() >= len(table)):
        raise ValueError(f"{where}: expected classes from 0, found {values.min()} to {values.max()}.")
    found = table[values]
    if found.size and found.min() < 0:
        kind = "evaluation ids" if context.evaluation_ids else "classes"
        raise ValueError(
            f"{where}: expected {kind} of {context.dataset.name} (0 to {context.dataset.num_classes - 1}, void "
            f"{context.dataset.ignore_label}), found {values[found < 0][0]}."
        )
    return found


def pack(classes: np.ndarray, instances: np.ndarray, dataset: datasets.Dataset, where: object) -> np.ndarray:
    """Panoptic labels [H, W] int32; raises ValueError for instances that would change the class."""
    if instances.size and (instances.min() < 0 or instances.max() >= dataset.label_divisor):
        raise ValueError(
            f"{where}: expected instances from 0 to {dataset.label_divisor - 1}, found {instances.min()} to "
            f"{instances.max()}."
        )
    return (classes.astype(np.int32) * dataset.label_divisor + instances).astype(np.int32)


def read_picture(path: pathlib.Path, modes: Sequence[str], expected: str) -> np.ndarray:
    """The pixels of a PNG as they are stored; raises ValueError for one that cannot be read or is of another kind."""
    try:
        with Image.open(path) as image:
            if not any(image.mode.startswith(mode) for mode in modes):
                raise ValueError(f"{path}: expected {expected}, found a picture of mode {image.mode}.")
            return np.asarray(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be read as an image ({error.__class__.__name__}).") from error


def read_numbers(path: pathlib.Path) -> np.ndarray:
    """A PNG of one channel, 8 or 16 bits: [H, W] int32."""
    return read_picture(path, ("L", "P", "I"), "a PNG of one channel").astype(np.int32)


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file; raises ValueError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}).") from error


def tree(folder: pathlib.Path, endings: Iterable[str]) -> list[pathlib.Path]:
    """The files below a folder with one of the endings, as relative paths, sorted.

    Raises:
        ValueError: no folder, or no files.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder.")
    endings = tuple(endings)
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.name.endswith(endings))
    if not found:
        raise ValueError(f"{folder}: expected files that end in {' or '.join(endings)}, found none.")
    return found
