"""Data set descriptors: classes, things, ignore label, label divisor, video and depth, and their table.

A class table is a JSON file `classes/<name>.json`: a list with one entry per class, in the order of ids 0, 1, ...:
`{"id": 11, "name": "person", "color": [220, 20, 60], "thing": true, "eval_id": 24}`. `id` is the class in the records,
`eval_id` the id the data set's own files and official evaluation use. A data set whose void counts as a class (COCO,
ADE20K) lists it as class 0; otherwise the ignore label lies outside the table.

A data set that this library does not know is named by the path of its class file, which tells the rest as well:
`{"format": 1, "name": "own", "ignore_label": 255, "label_divisor": 1000, "classes": [a class table]}`, and where they
apply `"is_video": true` and `"has_depth": true`. `deeplab2_kmax.data.convert.own` writes one.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from deeplab2_kmax import registry

if TYPE_CHECKING:
    from deeplab2_kmax import structures

CLASSES_FOLDER = pathlib.Path(__file__).parent / "classes"
FORMAT = 1  # of class files
_HEAD = ("name", "ignore_label", "label_divisor")
_MARKS = ("is_video", "has_depth")
CAMERAS = ("side_left", "front_left", "front", "front_right", "side_right", "panorama")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What the records of a data set mean. Tuples over classes are indexed by class id."""

    name: str
    num_classes: int  # void included where it is class 0
    ignore_label: int
    label_divisor: int
    thing_ids: tuple[int, ...]  # ascending
    class_names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]  # RGB
    eval_ids: tuple[int, ...]
    is_video: bool = False
    has_depth: bool = False
    ignore_depth: int = 0  # stored depth value that means "no depth"
    camera_names: tuple[str, ...] = ()
    has_panoramas: bool = False  # records may say how many cameras see a pixel
    empty_shards: bool = False  # the converter may write shards without records
    split_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)  # examples

    @property
    def void_id(self) -> int:
        """The panoptic id of void pixels."""
        return self.ignore_label * self.label_divisor

    @property
    def num_real_classes(self) -> int:
        """Classes without void."""
        return len(self.stuff_ids) + len(self.thing_ids)

    @property
    def stuff_ids(self) -> tuple[int, ...]:
        """Class ids that are neither things nor void, ascending."""
        things = set(self.thing_ids)
        return tuple(i for i in range(self.num_classes) if i not in things and i != self.ignore_label)

    def mask_classes(self) -> structures.MaskClasses:
        """What a mask transformer has to know of the classes."""
        from deeplab2_kmax import structures  # imports TensorFlow, which converters do without

        return structures.MaskClasses(self.thing_ids, self.stuff_ids, self.ignore_label, self.label_divisor)


def lookup(name: str, kind: str = "dataset") -> Dataset:
    """The descriptor of a data set by its name or the path of its class file (`*.json`).

    Raises:
        ValueError: there is none, with the nearest names; or the class file is missing or malformed.
    """
    return read(name) if is_file(name) else registry.lookup(DATASETS, name, kind)


def is_file(name: str) -> bool:
    """Whether a data set is named by its class file."""
    return name.endswith(".json")


def read(path: str | os.PathLike[str]) -> Dataset:
    """The descriptor that a class file holds.

    Raises:
        ValueError: the file is missing, or what is wrong with it.
    """
    path = os.fspath(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise ValueError(f"{path}: the class file of the data set cannot be read ({error.strerror})") from None
    return _read(path, status.st_size, status.st_mtime_ns)


def to_json(dataset: Dataset) -> str:
    """The text of a data set's class file."""
    rows = [
        {
            "id": k,
            "name": dataset.class_names[k],
            "color": list(dataset.colors[k]),
            "thing": k in dataset.thing_ids,
            "eval_id": dataset.eval_ids[k],
        }
        for k in range(dataset.num_classes)
    ]
    head = {"format": FORMAT, **{field: getattr(dataset, field) for field in _HEAD}}
    head.update({field: True for field in _MARKS if getattr(dataset, field)})
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    classes = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    return "\n".join(["{", *lines, ' "classes": [', classes, " ]", "}", ""])


@functools.lru_cache(maxsize=16)
def _read(path: str, size: int, time: int) -> Dataset:
    del size, time  # of the file, so that a changed one is read again
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f'expected {{"format": {FORMAT}, "name": ..., "classes": [...]}}')
        if unknown := sorted(set(content) - {"format", "classes", *_HEAD, *_MARKS}):
            raise ValueError(f"unknown entry {unknown[0]!r}")
        rows = content["classes"]
        _check_rows(rows)
        ignore, divisor = int(content["ignore_label"]), int(content["label_divisor"])
        if divisor < 1 or ignore < 0 or max(ignore, len(rows)) * divisor + divisor > 2**31:
            raise ValueError(f"ignore_label {ignore} and label_divisor {divisor} make no ids of 32 bits")
        marks = {field: bool(content.get(field, False)) for field in _MARKS}
        return _from_rows(str(content["name"]), rows, ignore_label=ignore, label_divisor=divisor, **marks)
    except KeyError as error:
        raise ValueError(f"{path}: not the class file of a data set: {error} is missing") from None
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the class file of a data set: {error}") from None


def _check_rows(rows: Any) -> None:
    if not isinstance(rows, list) or not rows:
        raise ValueError("classes: expected a list of at least one class")
    for k, row in enumerate(rows):
        if not isinstance(row, dict) or not {"id", "name", "color", "thing"} <= set(row):
            raise ValueError(f"classes[{k}]: expected id, name, color and thing")
        if row["id"] != k:
            raise ValueError(f"classes[{k}]: ids run from 0 without gaps, but this one is {row['id']!r}")
        color = row["color"]
        if not (isinstance(color, list) and len(color) == 3 and all(c in range(256) for c in color)):
            raise ValueError(f"classes[{k}]: a color is three numbers from 0 to 255, not {color!r}")
    names = [str(row["name"]) for row in rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"classes: the name {twice[0]!r} comes twice")


class KMaXDefaults(NamedTuple):
    """Options of kMaX-DeepLab that follow from the data set unless the config sets them (names as in the config)."""

    num_mask_slots: int
    highest_stride: int
    auxiliary_semantic_decoder: bool
    transformer_decoder_drop_path_keep_prob: float


def kmax_defaults(name: str) -> KMaXDefaults:
    """The published kMaX-DeepLab options for a data set, chosen by its name as DeepLab2 does.

    A class file's path says nothing.
    """
    name = "" if is_file(name) else name.lower()
    if "cityscapes" in name:
        return KMaXDefaults(256, 2, False, 0.8)
    return KMaXDefaults(128, 4, True, 1.0 if "ade20k" in name else 0.8)


def _dataset(
    name: str, classes: str, *, ignore_label: int, label_divisor: int = 1000, has_instances: bool = True, **options
) -> Dataset:
    """A descriptor with the class table `classes/<classes>.json`. Without instances, things count as stuff."""
    rows = json.loads((CLASSES_FOLDER / f"{classes}.json").read_text())
    assert [row["id"] for row in rows] == list(range(len(rows))), f"{classes}.json: ids must run from 0 without gaps"
    return _from_rows(
        name,
        rows,
        ignore_label=ignore_label,
        label_divisor=label_divisor,
        has_instances=has_instances,
        **options,
    )


def _from_rows(
    name: str,
    rows: list[dict[str, Any]],
    *,
    ignore_label: int,
    label_divisor: int,
    has_instances: bool = True,
    **options: Any,
) -> Dataset:
    return Dataset(
        name=name,
        num_classes=len(rows),
        ignore_label=ignore_label,
        label_divisor=label_divisor,
        thing_ids=tuple(row["id"] for row in rows if row["thing"] and has_instances),
        class_names=tuple(row["name"] for row in rows),
        colors=tuple((row["color"][0], row["color"][1], row["color"][2]) for row in rows),
        eval_ids=tuple(row.get("eval_id", row["id"]) for row in rows),
        **options,
    )


_WOD: dict[str, Any] = {"ignore_label": 0, "label_divisor": 100000, "is_video": True, "has_panoramas": True}
_WOD_SIZES = {"train": 70000, "val": 10000, "test": 20000}  # placeholders, as in DeepLab2
_VIPSEG: dict[str, Any] = {"ignore_label": 0, "is_video": True}

_ROWS = (
    _dataset(
        "cityscapes_panoptic",
        "cityscapes",
        ignore_label=255,
        split_sizes={"train_fine": 2975, "val_fine": 500, "trainval_fine": 3475, "test_fine": 1525},
    ),
    _dataset(
        "kitti_step",
        "kitti_step",
        ignore_label=255,
        is_video=True,
        split_sizes={"train": 5027, "val": 2981, "test": 11095},
    ),
    _dataset(
        "motchallenge_step",
        "motchallenge_step",
        ignore_label=255,
        is_video=True,
        split_sizes={"train": 525, "val": 600, "test": 0},
    ),
    # Void is 32 here, not 255. Sizes count pairs of frames.
    _dataset(
        "cityscapes_dvps",
        "cityscapes",
        ignore_label=32,
        is_video=True,
        has_depth=True,
        empty_shards=True,
        split_sizes={"train": 2000, "val": 250, "test": 250},
    ),
    # Reuses the colours of Cityscapes by class number although the classes differ.
    _dataset(
        "semkitti_dvps",
        "semkitti_dvps",
        ignore_label=255,
        label_divisor=65536,
        is_video=True,
        has_depth=True,
        empty_shards=True,
        split_sizes={"train": 19120, "val": 4070, "test": 4340},
    ),
    _dataset(
        "coco_panoptic",
        "coco_panoptic",
        ignore_label=0,
        label_divisor=256,
        split_sizes={"train": 118287, "val": 5000, "test": 40670},
    ),
    _dataset("ade20k_panoptic", "ade20k_panoptic", ignore_label=0, split_sizes={"train": 20210, "val": 2000}),
    _dataset("wod_pvps_image_panoptic_seg", "wod_pvps", **_WOD, split_sizes=_WOD_SIZES),
    _dataset("wod_pvps_depth_video_panoptic_seg", "wod_pvps", **_WOD, has_depth=True, split_sizes=_WOD_SIZES),
    _dataset("wod_pvps_image_panoptic_seg_multicam", "wod_pvps", **_WOD, camera_names=CAMERAS, split_sizes=_WOD_SIZES),
    _dataset(
        "wod_pvps_depth_video_panoptic_seg_multicam",
        "wod_pvps",
        **_WOD,
        has_depth=True,
        camera_names=CAMERAS,
        split_sizes=_WOD_SIZES,
    ),
    # From here on data sets that DeepLab2 does not have. Sizes of video sets count videos.
    _dataset(
        "cityscapes_vps",
        "cityscapes",
        ignore_label=255,
        is_video=True,
        split_sizes={"train": 400, "val": 50, "test": 50},
    ),
    _dataset("vipseg", "vipseg", **_VIPSEG, split_sizes={"train": 2806, "val": 343, "test": 387}),
    _dataset("vspw", "vipseg", **_VIPSEG, has_instances=False, split_sizes={"train": 2806, "val": 343, "test": 387}),
    _dataset(
        "mapillary_vistas",
        "mapillary_vistas",
        ignore_label=255,
        split_sizes={"train": 18000, "val": 2000, "test": 5000},
    ),
    _dataset(
        "coconut_panoptic",
        "coco_panoptic",
        ignore_label=0,
        label_divisor=256,
        split_sizes={"train_s": 118287, "train_b": 242000, "train_l": 358000, "train_xl": 488000, "val": 25000},
    ),
    _dataset("nyud_v2", "nyud_v2", ignore_label=255, has_depth=True, split_sizes={"train": 795, "test": 654}),
    _dataset("camvid", "camvid", ignore_label=255, is_video=True),
    _dataset("davis", "davis", ignore_label=255, is_video=True),
    _dataset("synthetic_panoptic", "synthetic", ignore_label=255),
    _dataset("synthetic_dvps", "synthetic", ignore_label=255, is_video=True, has_depth=True),
)

DATASETS: dict[str, Dataset] = {row.name: row for row in _ROWS}
