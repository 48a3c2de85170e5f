"""COCO panoptic (and other files in its format with COCO's categories) -> TFRecords for `coco_panoptic`.

    python -m deeplab2_kmax.data.convert.coco --coco_root=coco --output_dir=records

expects the layout of the data set:

    {train,val,test}2017/*.jpg
    annotations/panoptic_{train,val}2017.json
    annotations/panoptic_{train,val}2017/*.png

Splits whose images are not there are left out; the test images have no labels. Any other place is named by

    python -m deeplab2_kmax.data.convert.coco --output_dir=records --split=val
        --image_dir=images --panoptic_json=annotations.json --panoptic_dir=annotations
"""

from __future__ import annotations

import functools
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import command, files, segments, writer

IGNORE_LABEL = 0
LABEL_DIVISOR = 256
CLASSES = pathlib.Path(__file__).parent.parent / "classes" / "coco_panoptic.json"

_FLAGS = command.new_flags()
flags.DEFINE_string("coco_root", "", "Folder of the data set in its own layout.", flag_values=_FLAGS)
flags.DEFINE_string("image_dir", "", "Folder of images, instead of --coco_root.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_json", "", "Annotations of the images; none: no labels.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_dir", "", "Folder of the annotations' PNGs.", flag_values=_FLAGS)
flags.DEFINE_string("split", "val", "Name of the split made from --image_dir.", flag_values=_FLAGS)
flags.DEFINE_bool("treat_crowd_as_ignore", True, "Crowd regions become void.", flag_values=_FLAGS)
flags.DEFINE_integer("num_shards", 1000, "Files per split.", 1, 99999, flag_values=_FLAGS)


class Item(NamedTuple):
    """One image with its annotation."""

    name: str
    image: str
    label: str | None
    segments: tuple[segments.Segment, ...]


def categories() -> dict[int, segments.Category]:
    """COCO's category ids (1 to 200, with gaps) -> classes 1 to 133."""
    rows = json.loads(CLASSES.read_text())
    return {row["eval_id"]: segments.Category(row["id"], row["thing"]) for row in rows if row["id"] != IGNORE_LABEL}


def items(image_dir: pathlib.Path, panoptic_json: pathlib.Path | None, panoptic_dir: pathlib.Path) -> list[Item]:
    """The images of a folder with their annotations, sorted by path.

    Raises:
        ValueError: a file that is missing or malformed, or images and annotations that do not match.
    """
    paths = files.images(image_dir)
    if panoptic_json is None:
        return [Item(path.stem, str(path), None, ()) for path in paths]
    annotations = _annotations(panoptic_json)
    stems = {path.stem for path in paths}
    if missing := sorted(set(annotations) - stems):
        raise ValueError(f"{panoptic_json}: {len(missing)} images are not in {image_dir}, the first is {missing[0]}")
    if bare := sorted(stems - set(annotations)):
        raise ValueError(f"{panoptic_json} does not annotate {len(bare)} images of {image_dir}, the first is {bare[0]}")
    found = []
    for path in paths:
        name, entries = annotations[path.stem]
        label = files.inside(panoptic_dir, name, str(panoptic_json))
        found.append(Item(path.stem, str(path), str(label), segments.read_segments(entries, path.stem)))
    return found


def _annotations(path: pathlib.Path) -> dict[str, tuple[str, list]]:
    """Image name -> file name of the PNG and its segments."""
    try:
        content = json.loads(path.read_text())
        rows = [(row["file_name"], row["segments_info"]) for row in content["annotations"]]
        found = {pathlib.PurePosixPath(name).stem: (name, entries) for name, entries in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a panoptic annotation file of COCO's format ({error!r})") from error
    if len(found) < len(rows):
        raise ValueError(f"{path}: an image is annotated twice")
    return found


def encode(item: Item, *, treat_crowd_as_ignore: bool = True, label_format: str = example.RAW) -> bytes:
    """Serialises one image."""
    label = None
    if item.label is not None:
        label = segments.to_panoptic(
            files.read_map(item.label, channels=3),
            item.segments,
            _categories(),
            ignore_label=IGNORE_LABEL,
            label_divisor=LABEL_DIVISOR,
            where=item.label,
            treat_crowd_as_ignore=treat_crowd_as_ignore,
        )
    image = pathlib.Path(item.image).read_bytes()
    return example.encode_example(image, label, filename=item.name, label_format=label_format)


_categories = functools.lru_cache(maxsize=1)(categories)


def convert(values: flags.FlagValues) -> str:
    """Writes the splits that the flags name."""
    splits: dict[str, tuple[pathlib.Path, pathlib.Path | None, pathlib.Path]] = {}
    if values.coco_root and values.image_dir:
        raise ValueError("--coco_root and --image_dir are two ways to name the images; set one")
    if values.image_dir:
        panoptic_json, panoptic_dir = None, pathlib.Path()
        if values.panoptic_json:
            panoptic_json = pathlib.Path(values.panoptic_json)
            panoptic_dir = files.folder(values.panoptic_dir, "panoptic_dir")
        splits[values.split] = files.folder(values.image_dir, "image_dir"), panoptic_json, panoptic_dir
    else:
        root = files.folder(values.coco_root, "coco_root")
        for split in ("train", "val", "test"):
            if (root / f"{split}2017").is_dir():
                labels = root / "annotations" / f"panoptic_{split}2017"
                splits[split] = root / f"{split}2017", None if split == "test" else labels.with_suffix(".json"), labels
        if not splits:
            raise ValueError(f"--coco_root: {root} holds none of train2017, val2017, test2017")
    done = []
    for split, (image_dir, panoptic_json, panoptic_dir) in splits.items():
        records = items(image_dir, panoptic_json, panoptic_dir)
        inputs = [item.image for item in records] + [item.label for item in records if item.label]
        inputs += [str(panoptic_json)] if panoptic_json else []
        options = {"treat_crowd_as_ignore": values.treat_crowd_as_ignore, "label_format": values.label_format}
        manifest = writer.write_split(
            values.output_dir,
            split,
            records,
            functools.partial(encode, **options),
            num_shards=min(values.num_shards, len(records)),
            source={**options, "files": writer.fingerprint(inputs, image_dir)},
            num_processes=values.num_processes,
        )
        done.append(f"{manifest['records']} {split}")
    return f"{', '.join(done)} records in {values.output_dir}"


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.call(convert, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
