"""Reads saved label maps, ground truth beside prediction: COCO panoptic JSON + PNG, and folders of class PNGs.

What the official COCO tool refuses is refused here: segments that stand in the PNG or in the JSON alone, unknown
categories, missing images. Images that only the prediction has are ignored.
"""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from absl import logging
from PIL import Image

from deeplab2_kmax import labels
from deeplab2_kmax.data import datasets


class MapPair(NamedTuple):
    """One image: panoptic labels and classes, [H, W] int32 each. Panoptic is None where only classes are saved."""

    name: str
    panoptic_true: np.ndarray | None
    panoptic_pred: np.ndarray | None
    semantic_true: np.ndarray
    semantic_pred: np.ndarray


class CocoPanoptic:
    """Two sets of maps in the COCO panoptic format. `dataset` describes the labels that iterating gives.

    Classes are numbered from 1 in the order of the categories, void is 0. In the official tool only the last crowd of a
    category (in JSON order) excuses false positives. So the others become crowds of a class of their own at the end,
    `hidden_class`: they can neither be matched nor missed, and excuse nothing.
    """

    def __init__(self, groundtruth: pathlib.Path, prediction: pathlib.Path, *, categories: pathlib.Path | None = None):
        """Reads the JSON files; each path is a JSON file, or a folder that holds one.

        The PNGs lie in the folder of the JSON's name without `.json`, or beside the JSON.

        Args:
            groundtruth: the annotations.
            prediction: the predictions; without `categories` of their own.
            categories: JSON list of the categories, where the ground truth does not have them.

        Raises:
            ValueError: files that are missing or not in the format, or a missing image.
        """
        self._true = _CocoFile(groundtruth)
        self._pred = _CocoFile(prediction)
        table = _json(categories) if categories else self._true.content.get("categories")
        if not isinstance(table, list) or not table:
            raise ValueError(
                f"{self._true.path} has no list 'categories', so give a JSON file of them (id, name, isthing)."
            )
        table = [{"name": str(c.get("id")), "isthing": 1, "color": [128, 128, 128], **c} for c in table]
        self._classes = {int(category["id"]): index + 1 for index, category in enumerate(table)}
        if len(self._classes) != len(table):
            raise ValueError(f"{categories or self._true.path}: category ids occur twice.")
        self.hidden_class = len(table) + 1
        missing = [str(i) for i in self._true.annotations if i not in self._pred.annotations]
        if missing:
            raise ValueError(f"{self._pred.path}: no prediction for {len(missing)} image(s), for example {missing[0]}.")
        self.max_segments = max(self._true.max_segments, self._pred.max_segments, 1)
        self.dataset = datasets.Dataset(
            name=self._true.path.stem,
            num_classes=len(table) + 2,
            ignore_label=0,
            label_divisor=self.max_segments + 1,
            thing_ids=(*(i + 1 for i, c in enumerate(table) if c["isthing"]), self.hidden_class),
            class_names=("void", *(str(c["name"]) for c in table), "further crowds"),
            colors=((0, 0, 0), *(tuple(c["color"]) for c in table), (0, 0, 0)),
            eval_ids=(0, *self._classes, 0),
        )

    def __len__(self) -> int:
        return len(self._true.annotations)

    def __iter__(self) -> Iterator[MapPair]:
        wrong_areas = 0
        for image_id, annotation in self._true.annotations.items():
            true_ids = self._true.read(annotation)
            pred_annotation = self._pred.annotations[image_id]
            pred_ids = self._pred.read(pred_annotation)
            if true_ids.shape != pred_ids.shape:
                raise ValueError(
                    f"{self._pred.path}, image {image_id}: expected a PNG of {true_ids.shape[1]}x{true_ids.shape[0]} "
                    f"as the ground truth, got {pred_ids.shape[1]}x{pred_ids.shape[0]}."
                )
            wrong_areas += _wrong_areas(true_ids, annotation)
            panoptic_true, semantic_true = self._maps(self._true, annotation, true_ids, crowds=True)
            panoptic_pred, semantic_pred = self._maps(self._pred, pred_annotation, pred_ids, crowds=False)
            yield MapPair(str(image_id), panoptic_true, panoptic_pred, semantic_true, semantic_pred)
        if wrong_areas:
            logging.warning(
                "%s: the area of %d segments is not their number of pixels; the pixels were counted.",
                self._true.path,
                wrong_areas,
            )

    def _maps(
        self, file: _CocoFile, annotation: dict, ids: np.ndarray, *, crowds: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Panoptic labels and classes for the ids of a PNG."""
        where = f"{file.path}, image {annotation['image_id']}"
        panoptic, classes = {0: 0}, {0: 0}
        last_crowd: dict[int, int] = {}
        count: dict[int, int] = collections.Counter()
        for segment in annotation["segments_info"]:
            segment_id, category = int(segment["id"]), int(segment["category_id"])
            if category not in self._classes:
                raise ValueError(f"{where}: segment {segment_id} has the unknown category {category}.")
            index = self._classes[category]
            classes[segment_id] = index
            if crowds and segment.get("iscrowd", 0):
                if index not in self.dataset.thing_ids:
                    raise ValueError(f"{where}: segment {segment_id} is a crowd of stuff (category {category}).")
                if index in last_crowd:
                    panoptic[last_crowd[index]] = labels.pack(self.hidden_class, 0, self.dataset.label_divisor)
                last_crowd[index] = segment_id
                panoptic[segment_id] = labels.pack(index, 0, self.dataset.label_divisor)
            else:
                count[index] += 1
                panoptic[segment_id] = labels.pack(index, count[index], self.dataset.label_divisor)
        present, inverse = np.unique(ids, return_inverse=True)
        unknown = sorted(set(present.tolist()) - set(panoptic))
        if unknown:
            raise ValueError(f"{where}: the PNG has segment {unknown[0]}, which is not in the JSON file.")
        absent = sorted(set(panoptic) - set(present.tolist()) - {0})
        if absent:
            raise ValueError(f"{where}: the JSON file has segment {absent[0]}, which is not in the PNG.")
        inverse = inverse.reshape(ids.shape)
        tables = [np.array([table[i] for i in present.tolist()], np.int32) for table in (panoptic, classes)]
        return tables[0][inverse], tables[1][inverse]


class ClassFolders:
    """Two folders of single-channel PNGs, class per pixel, with the same file names (subfolders included)."""

    def __init__(self, groundtruth: pathlib.Path, prediction: pathlib.Path, *, dataset: datasets.Dataset):
        """Lists the ground truth.

        Raises:
            ValueError: no PNG, or a prediction that is missing.
        """
        self.dataset = dataset
        self.max_segments = 1
        self._folders = groundtruth, prediction
        self._names = sorted(path.relative_to(groundtruth) for path in groundtruth.rglob("*.png"))
        if not self._names:
            raise ValueError(f"{groundtruth}: expected a folder of PNG files, found none.")
        missing = [name for name in self._names if not (prediction / name).is_file()]
        if missing:
            raise ValueError(f"{prediction}: no prediction for {len(missing)} image(s), for example {missing[0]}.")

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[MapPair]:
        for name in self._names:
            true, pred = (_class_map(folder / name) for folder in self._folders)
            if true.shape != pred.shape:
                raise ValueError(
                    f"{self._folders[1] / name}: expected {true.shape[1]}x{true.shape[0]} pixels as the ground truth, "
                    f"got {pred.shape[1]}x{pred.shape[0]}."
                )
            yield MapPair(str(name), None, None, true, pred)


class _CocoFile:
    """The JSON file of a set of panoptic PNGs."""

    def __init__(self, path: pathlib.Path):
        if path.is_dir():
            found = sorted(path.glob("*.json"))
            if len(found) != 1:
                raise ValueError(f"{path}: expected one JSON file in the folder, found {len(found)}; name the file.")
            path = found[0]
        self.path = path
        self.content = _json(path)
        if not isinstance(self.content, dict) or not isinstance(self.content.get("annotations"), list):
            raise ValueError(f"{path}: expected the COCO panoptic format with a list 'annotations'.")
        self.annotations: dict[int | str, dict] = {}
        for annotation in self.content["annotations"]:
            for key in ("image_id", "file_name", "segments_info"):
                if key not in annotation:
                    raise ValueError(f"{path}: an annotation has no {key!r}; expected the COCO panoptic format.")
            self.annotations[annotation["image_id"]] = annotation
        self.max_segments = max((len(a["segments_info"]) for a in self.annotations.values()), default=0)
        named_like_file = path.with_suffix("")
        self._folder = named_like_file if named_like_file.is_dir() else path.parent

    def read(self, annotation: dict) -> np.ndarray:
        """The segment ids [H, W] of an image."""
        path = self._folder / annotation["file_name"]
        rgb = np.asarray(_open(path).convert("RGB"), np.int32)
        return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def _wrong_areas(ids: np.ndarray, annotation: dict) -> int:
    """Segments whose `area` is not their number of pixels."""
    present, counts = np.unique(ids, return_counts=True)
    areas = dict(zip(present.tolist(), counts.tolist()))
    return sum(areas.get(s["id"], 0) != s.get("area", areas.get(s["id"], 0)) for s in annotation["segments_info"])


def _class_map(path: pathlib.Path) -> np.ndarray:
    values = np.asarray(_open(path))
    if values.ndim != 2 or values.dtype == bool:
        raise ValueError(f"{path}: expected a PNG of one channel with the class of every pixel, got {values.shape}.")
    return values.astype(np.int32)


def _open(path: pathlib.Path) -> Image.Image:
    try:
        return Image.open(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as an image ({error.__class__.__name__}).") from error


def _json(path: pathlib.Path):
    try:
        return json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}).") from error
