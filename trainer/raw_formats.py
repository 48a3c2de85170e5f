"""The formats of raw predictions: DeepLab2's, COCO panoptic, Cityscapes, STEP and DVPS."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from deeplab2_kmax import labels, registry
from deeplab2_kmax.data import datasets, protocols
from deeplab2_kmax.serving import classes as class_tables
from deeplab2_kmax.serving import prediction

Maps = Mapping[str, np.ndarray]  # by DeepLab2's names, [H, W]
DEPTH_SCALE = 256  # stored depth per metre
_DVPS_NAME = re.compile(r"[^_]+_\d+(_.*)?")
_SUFFIX = "_leftImg8bit"  # of the images of Cityscapes, but not of their ids


class Options(NamedTuple):
    """What the format deeplab2 leaves open."""

    panoptic_format: str = "two_channel_png"
    convert_ids: bool = True


class RawFormat:
    """Writes the predictions of one image after the other."""

    needs: ClassVar[tuple[str, ...]] = ("panoptic_pred",)

    def __init__(self, folder: pathlib.Path, dataset: datasets.Dataset, options: Options):
        self.folder, self.dataset, self.options = folder, dataset, options

    def begin(self) -> None:
        """Before the first image."""

    def write(self, name: pathlib.Path, maps: Maps) -> None:
        """One image; `name` is relative and has no ending."""
        raise NotImplementedError(f"{type(self).__name__} does not define write().")

    def end(self) -> None:
        """After the last image."""


class DeepLab2(RawFormat):
    """`raw_semantic/<name>.png`, `raw_panoptic/<name>.{png,npy}`, `raw_depth/<name>.png`, as far as there are maps.

    And for data sets with the rules of Cityscapes `raw_instance/<name>.txt` with its masks.
    """

    needs = ()

    def __init__(self, folder: pathlib.Path, dataset: datasets.Dataset, options: Options):
        super().__init__(folder, dataset, options)
        self._encode = registry.lookup(ENCODINGS, options.panoptic_format, "raw_panoptic_format")
        self._ids = _evaluation_ids(dataset) if options.convert_ids else np.arange(256)
        self._instances = None
        if protocols.of(dataset).instances == "cityscapes":
            self._instances = _Instances(folder / "raw_instance", dataset, self._ids)

    def write(self, name: pathlib.Path, maps: Maps) -> None:
        """The files of an image; those of the next frame, where a model predicts it, end in `_next`."""
        if "semantic_pred" in maps:
            _save(self.folder / "raw_semantic" / name, _converted(self._ids, maps["semantic_pred"]).astype(np.uint8))
        for key, suffix in (("panoptic_pred", ""), ("concat_next_panoptic_pred", "_next")):
            if key in maps:
                label = maps[key]
                encoded = self._encode(
                    _converted(self._ids, labels.class_of(label, self.dataset.label_divisor)),
                    labels.instance_of(label, self.dataset.label_divisor),
                )
                _save(self.folder / "raw_panoptic" / name.with_name(name.name + suffix), encoded)
        if self._instances is not None and {*_Instances.needs} <= maps.keys():
            self._instances.write(name, maps)
        if "depth_pred" in maps:
            _save(self.folder / "raw_depth" / name, _depth(maps["depth_pred"]))


class CocoPanoptic(RawFormat):
    """`coco_panoptic.json` and `coco_panoptic/<name>.png`, with the data set's own category ids.

    An image's id is its name, as a number where it is one; in videos with the sequence before it.
    """

    name: ClassVar[str] = "coco_panoptic"

    def begin(self) -> None:
        """Forgets all images."""
        self._table = class_tables.ClassTable.of(self.dataset)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def write(self, name: pathlib.Path, maps: Maps) -> None:
        """The PNG of an image; segments have the ids 1, 2, ... as R + 256 G + 65536 B."""
        label = maps["panoptic_pred"]
        ones = np.ones(label.shape, np.float32)
        found = prediction.Prediction(
            image=np.broadcast_to(np.uint8(0), (*label.shape, 3)),
            panoptic=label,
            semantic=labels.class_of(label, self.dataset.label_divisor),
            semantic_scores=maps.get("semantic_scores", ones),
            instance_scores=maps.get("instance_scores", ones),
            classes=self._table,
        )
        path = _save(self.folder / self.name / name, found.coco_ids())
        image_id = self.image_id(name)
        height, width = label.shape
        self._images.append({"id": image_id, "file_name": name.as_posix(), "height": height, "width": width})
        file_name = path.relative_to(self.folder / self.name).as_posix()
        self._annotations.append(found.coco_annotation(file_name, image_id))

    def end(self) -> None:
        """The JSON file."""
        content = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": self._table.categories(),
        }
        path = self.folder / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_text(json.dumps(content) + "\n", encoding="utf-8")
        unfinished.replace(path)

    def image_id(self, name: pathlib.Path) -> int | str:
        """The id of an image in the JSON file."""
        text = name.as_posix()
        return int(text) if text.isdecimal() else text


class Cityscapes(RawFormat):
    """What the three scripts of Cityscapes read: label ids, and names that lose their ending `_leftImg8bit`.

    `cityscapes/semantic/<name>_labelIds.png`, `cityscapes/instance/<name>.txt` with its masks, and
    `cityscapes/panoptic.json` with `cityscapes/panoptic/<name>.png`.
    """

    needs = ("panoptic_pred", "semantic_pred", "semantic_scores", "instance_scores")

    def __init__(self, folder: pathlib.Path, dataset: datasets.Dataset, options: Options):
        super().__init__(folder / "cityscapes", dataset, options)
        self._ids = _evaluation_ids(dataset)
        self._panoptic = _CityscapesPanoptic(self.folder, dataset, options)
        self._instances = _Instances(self.folder / "instance", dataset, self._ids)

    def begin(self) -> None:
        """Forgets all images."""
        self._panoptic.begin()

    def write(self, name: pathlib.Path, maps: Maps) -> None:
        """The files of an image."""
        name = pathlib.Path(name.name[: -len(_SUFFIX)] if name.name.endswith(_SUFFIX) else name.name)
        semantic = _converted(self._ids, maps["semantic_pred"]).astype(np.uint8)
        _save(self.folder / "semantic" / f"{name}_labelIds", semantic)
        self._instances.write(name, maps)
        self._panoptic.write(name, maps)

    def end(self) -> None:
        """The JSON file."""
        self._panoptic.end()


class _CityscapesPanoptic(CocoPanoptic):
    name = "panoptic"


class Step(RawFormat):
    """`step/<sequence>/<frame>.png` with class, instance // 256 and instance % 256, as KITTI-STEP's server reads it."""

    def write(self, name: pathlib.Path, maps: Maps) -> None:
        """The PNG of a frame."""
        save_step(self.folder / "step" / name, maps["panoptic_pred"], self.dataset.label_divisor)


class Dvps(RawFormat):
    """`dvps/<sequence>_<frame>_{class,instance,depth}.png`, as the scripts of the DVPS data sets read them.

    Images whose names begin with a sequence and a number, as in Cityscapes-DVPS, keep them.
    """

    def write(self, name: pathlib.Path, maps: Maps) -> None:
        """The two or three PNGs of a frame."""
        stem = name.name[: -len(_SUFFIX)] if name.name.endswith(_SUFFIX) else name.name
        sequence = name.parent.name.replace("_", "-")
        found = next((text for text in (stem, f"{sequence}_{stem}") if _DVPS_NAME.fullmatch(text)), None)
        if found is None:
            raise ValueError(f"{name}: dvps files are called <sequence>_<number of the frame>, found neither.")
        label, divisor = maps["panoptic_pred"], self.dataset.label_divisor
        save_dvps(self.folder / "dvps" / found, label, divisor, maps.get("depth_pred"))


def save_step(stem: pathlib.Path, panoptic: np.ndarray, label_divisor: int) -> None:
    """A PNG with class, instance // 256 and instance % 256, as KITTI-STEP's server reads it."""
    classes = _converted(np.arange(256), labels.class_of(panoptic, label_divisor))
    _save(stem, _three_channels(classes, labels.instance_of(panoptic, label_divisor)))


def save_dvps(stem: pathlib.Path, panoptic: np.ndarray, label_divisor: int, depth: np.ndarray | None) -> None:
    """`<stem>_class.png` with 8 bits, `<stem>_instance.png` with 16, and depth in 16 bits where there is one."""
    classes = _converted(np.arange(256), labels.class_of(panoptic, label_divisor))
    instances = labels.instance_of(panoptic, label_divisor)
    _check_instances(instances, 65535, "dvps")
    _save(stem.with_name(f"{stem.name}_class"), classes.astype(np.uint8))
    _save(stem.with_name(f"{stem.name}_instance"), instances.astype(np.uint16))
    if depth is not None:
        _save(stem.with_name(f"{stem.name}_depth"), _depth(depth))


class _Instances:
    """A text file for each image, with a line `mask class score` for every thing, and the masks, 0 or 1."""

    needs = ("panoptic_pred", "semantic_scores", "instance_scores")

    def __init__(self, folder: pathlib.Path, dataset: datasets.Dataset, ids: np.ndarray):
        self._folder, self._dataset, self._ids = folder, dataset, ids

    def write(self, name: pathlib.Path, maps: Maps) -> None:
        """A thing's score is the mean of its class scores times the mean of its instance scores."""
        label = maps["panoptic_pred"]
        lines = []
        for number in np.unique(label).tolist():
            index = labels.class_of(number, self._dataset.label_divisor)
            if index not in self._dataset.thing_ids:
                continue
            mask = label == number
            score = float(maps["semantic_scores"][mask].mean()) * float(maps["instance_scores"][mask].mean())
            instance = labels.instance_of(number, self._dataset.label_divisor)
            file_name = f"{name.name}_class_{self._ids[index]}_instance_{instance}"
            path = _save(self._folder / "instance_masks" / name.parent / file_name, mask.astype(np.uint8))
            steps_up = "../" * len(name.parent.parts)
            lines.append(f"{steps_up}{path.relative_to(self._folder).as_posix()} {self._ids[index]} {score:.6f}\n")
        path = self._folder / name.with_name(f"{name.name}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), encoding="utf-8")


def _evaluation_ids(dataset: datasets.Dataset) -> np.ndarray:
    """The evaluation id of every class, 0 of what has none."""
    ids = np.zeros(256, np.int64)
    ids[: len(dataset.eval_ids)] = dataset.eval_ids
    return ids


def _converted(ids: np.ndarray, classes: np.ndarray) -> np.ndarray:
    if classes.min(initial=0) < 0 or classes.max(initial=0) > 255:
        raise ValueError(f"Raw files hold classes 0 to 255, found {classes.min()} to {classes.max()}.")
    return ids[classes]


def _save(stem: pathlib.Path, values: np.ndarray) -> pathlib.Path:
    """Writes a PNG, or what no PNG holds as an array."""
    is_picture = values.dtype in (np.uint8, np.uint16)
    path = stem.with_name(stem.name + (".png" if is_picture else ".npy"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_picture:
        Image.fromarray(values).save(path)
    else:
        np.save(path, values)
    return path


def _depth(metres: np.ndarray) -> np.ndarray:
    """Depth [H, W] or [H, W, 1] as 16-bit numbers; 0 is unknown."""
    return np.clip(np.rint(metres.reshape(metres.shape[:2]) * DEPTH_SCALE), 0, 65535).astype(np.uint16)


def _two_channels(classes: np.ndarray, instances: np.ndarray) -> np.ndarray:
    _check_instances(instances, 255, "two_channel_png")
    return np.stack([classes, instances, np.zeros_like(classes)], axis=-1).astype(np.uint8)


def _three_channels(classes: np.ndarray, instances: np.ndarray) -> np.ndarray:
    _check_instances(instances, 65535, "three_channel_png")
    return np.stack([classes, instances // 256, instances % 256], axis=-1).astype(np.uint8)


def _array(classes: np.ndarray, instances: np.ndarray) -> np.ndarray:
    return np.stack([classes, instances, np.zeros_like(classes)], axis=-1).astype(np.int32)


def _check_instances(instances: np.ndarray, largest: int, name: str) -> None:
    if instances.max(initial=0) > largest:
        raise ValueError(f"{name} holds instance ids up to {largest}, found {instances.max()}.")


ENCODINGS = {
    "two_channel_png": _two_channels,
    "three_channel_png": _three_channels,
    "two_channel_numpy_array": _array,
}
