"""Converts Cityscapes-VPS (video panoptic segmentation) to records for `cityscapes_vps`.

    python -m deeplab2_kmax.data.convert.cityscapes_vps --vps_root=cityscapes_vps --output_dir=records

"Video Panoptic Segmentation", Kim et al., CVPR 2020, arXiv 2006.11339. --vps_root holds, for the splits train and val,

    <split>/img/<video>_<number>_<city>_<sequence>_<frame>_newImg8bit.png
    <split>/panoptic_video/<video>_<number>_<city>_<sequence>_<frame>_final_mask.png
    panoptic_gt_<split>_city_vps.json or panoptic_im_<split>_city_vps.json

and `test/img_all/*.png` without labels. Other places of a split are named by --split, --image_dir, --panoptic_json and
--panoptic_dir. The JSON has COCO's panoptic format; its file names and those of the images agree in the five parts
<video>_<number>_<city>_<sequence>_<frame>. Images without an annotation are left out: every fifth frame of a video has
one. Categories become Cityscapes' train ids by their names. A segment id means the same object in all frames of its
video: the objects of a class are counted from 1 in each video.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from deeplab2_kmax.data.convert import command, files, frames, panoptic_json, segments, writer

IGNORE_LABEL = 255
LABEL_DIVISOR = 1000
_NAME = re.compile(r"(?P<key>\d+_(?P<number>\d+)_[^_]+_\d+_\d+)(_.+)?")

_FLAGS = command.new_flags(num_shards=100)
flags.DEFINE_string("vps_root", "", "Folder of the data set in its own layout.", flag_values=_FLAGS)
flags.DEFINE_string("split", "", "The one split to convert; left out: all that are there.", flag_values=_FLAGS)
flags.DEFINE_string("image_dir", "", "Folder of the images of --split.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_json", "", "Annotations of --split; none: no labels.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_dir", "", "Folder of the PNGs of --split.", flag_values=_FLAGS)
flags.DEFINE_bool("treat_crowd_as_ignore", True, "Crowd regions become void.", flag_values=_FLAGS)
flags.DEFINE_bool(
    "neighbors", False, "Store the annotated frames before and after each one as well.", flag_values=_FLAGS
)


class Annotation(NamedTuple):
    """The segments of one label PNG: their classes and the instance numbers of the video."""

    segments: tuple[segments.Segment, ...]
    categories: Mapping[int, segments.Category]
    instances: Mapping[int, int]


class Item(NamedTuple):
    """One frame, with the annotations of its own label and of its neighbours'."""

    frame: frames.Frame
    annotations: Mapping[str, Annotation]  # by path of the PNG

    @property
    def name(self) -> str:
        """Of the image."""
        return self.frame.name

    @property
    def files(self) -> tuple[str, ...]:
        """What it is read from."""
        return self.frame.files


def items(image_dir: pathlib.Path, json_path: pathlib.Path | None, png_dir: pathlib.Path) -> list[Item]:
    """The annotated frames of a folder, video by video; all frames where there is no JSON.

    Raises:
        ValueError: a file that is missing or malformed, or images and annotations that do not match.
    """
    images = {_parse(path.stem, image_dir)["key"]: path for path in files.images(image_dir)}
    labels: dict[str, tuple[pathlib.Path, Annotation]] = {}
    if json_path is not None:
        labels = _annotations(json_path, png_dir)
        if missing := sorted(set(labels) - set(images)):
            raise ValueError(
                f"{json_path}: {len(missing)} annotated frames are not in {image_dir}, the first is {missing[0]}"
            )
        images = {key: images[key] for key in sorted(labels)}
    found = []
    for video, group in itertools.groupby(images, key=lambda key: key.split("_")[0]):
        keys = list(group)
        clip = frames.sequence(
            video, [images[key] for key in keys], [labels[key][0] for key in keys] if labels else None
        )
        by_path = {str(path): annotation for path, annotation in (labels[key] for key in keys if labels)}
        for key, frame in zip(keys, clip):
            needed = {p.label: by_path[p.label] for p in (frame.before, frame, frame.after) if p and p.label}
            frame_id = _parse(images[key].stem, image_dir)["number"]
            found.append(Item(frame._replace(name=images[key].name, frame_id=frame_id), needed))
    return found


def _parse(stem: str, where: pathlib.Path) -> re.Match[str]:
    match = _NAME.fullmatch(stem)
    if not match:
        raise ValueError(f"{where}: expected names like 0005_0025_frankfurt_000000_001736_newImg8bit, found {stem!r}")
    return match


def _annotations(json_path: pathlib.Path, png_dir: pathlib.Path) -> dict[str, tuple[pathlib.Path, Annotation]]:
    """The label PNG and its annotation, by the part of the name that images share, in order of the names."""
    content = panoptic_json.read(json_path)
    categories = _categories(content.get("categories") or (), json_path)
    rows = {}
    for row in content["annotations"]:
        key = _parse(pathlib.PurePosixPath(row.file_name).stem, json_path)["key"]
        if key in rows:
            raise ValueError(f"{json_path}: {key} is annotated twice")
        listed = segments.read_segments(row.segments_info, f"{json_path}: {row.file_name}")
        rows[key] = files.inside(png_dir, row.file_name, str(json_path)), listed
    found = {}
    for _, group in itertools.groupby(sorted(rows), key=lambda key: key.split("_")[0]):
        numbers: dict[tuple[int, int], int] = {}  # class and segment id -> instance, in one video
        count: dict[int, int] = {}
        for key in group:
            path, listed = rows[key]
            instances = {}
            for segment in listed:
                category = categories.get(segment.category_id)
                if category is None or not category.is_thing or segment.iscrowd:
                    continue  # unknown ones are told when the PNG is read
                place = category.class_id, segment.id
                if place not in numbers:
                    numbers[place] = count[category.class_id] = count.get(category.class_id, 0) + 1
                instances[segment.id] = numbers[place]
            found[key] = path, Annotation(listed, categories, instances)
    return found


def _categories(rows: Iterable[Any], json_path: pathlib.Path) -> dict[int, segments.Category]:
    """Category id -> train id: by name, or where the JSON has no list of categories, the same."""
    rows_of_table = json.loads((panoptic_json.CLASSES / "cityscapes.json").read_text())
    classes = {row["name"]: segments.Category(row["id"], row["thing"]) for row in rows_of_table}
    try:
        found = {int(row["id"]): str(row["name"]).replace("_", " ").replace("-", " ") for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{json_path}: a category lacks id or name ({error!r})") from error
    if unknown := sorted(set(found.values()) - set(classes)):
        raise ValueError(f"{json_path}: the category {unknown[0]!r} is none of Cityscapes' 19 classes")
    return {number: classes[name] for number, name in found.items()} or {c.class_id: c for c in classes.values()}


def encode(item: Item, *, treat_crowd_as_ignore: bool, neighbors: bool, label_format: str) -> bytes:
    """Reads a frame and serialises it."""

    def read_label(path: str) -> np.ndarray:
        annotation = item.annotations[path]
        return segments.to_panoptic(
            files.read_map(path, channels=3),
            annotation.segments,
            annotation.categories,
            ignore_label=IGNORE_LABEL,
            label_divisor=LABEL_DIVISOR,
            where=path,
            treat_crowd_as_ignore=treat_crowd_as_ignore,
            instances=annotation.instances,
        )

    return frames.encode(item.frame, read_label=read_label, neighbors=neighbors, label_format=label_format)


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    places: dict[str, tuple[pathlib.Path, pathlib.Path | None, pathlib.Path]] = {}
    if values.image_dir:
        if values.vps_root or not values.split:
            raise ValueError("--image_dir needs --split, and stands instead of --vps_root")
        json_path = pathlib.Path(values.panoptic_json) if values.panoptic_json else None
        png_dir = files.folder(values.panoptic_dir, "panoptic_dir") if json_path else pathlib.Path()
        places[values.split] = files.folder(values.image_dir, "image_dir"), json_path, png_dir
    else:
        root = files.folder(values.vps_root, "vps_root")
        for split in ("train", "val"):
            if (root / split / "img").is_dir():
                places[split] = root / split / "img", _json(root, split), root / split / "panoptic_video"
        if (root / "test" / "img_all").is_dir():
            places["test"] = root / "test" / "img_all", None, root
        if values.split:
            places = {split: place for split, place in places.items() if split == values.split}
        if not places:
            raise ValueError(f"--vps_root: {root} holds no images of {values.split or 'train, val or test'}")
    options = {"treat_crowd_as_ignore": values.treat_crowd_as_ignore, "neighbors": values.neighbors}
    found = []
    for split, (image_dir, json_path, png_dir) in places.items():
        records = items(image_dir, json_path, png_dir)
        inputs = [json_path] if json_path else []
        found.append(command.split(values, split, records, encode, root=image_dir, inputs=inputs, **options))
    return found


def _json(root: pathlib.Path, split: str) -> pathlib.Path:
    names = [f"panoptic_{kind}_{split}_city_vps.json" for kind in ("gt", "im")]
    for name in names:
        if (root / name).is_file():
            return root / name
    raise ValueError(f"{root} holds neither {names[0]} nor {names[1]}; name the file by --panoptic_json")


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
