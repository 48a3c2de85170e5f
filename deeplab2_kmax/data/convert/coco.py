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

import pathlib
import sys
from collections.abc import Mapping, Sequence

from absl import flags

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import command, files, panoptic_json, segments, writer

IGNORE_LABEL = 0
LABEL_DIVISOR = 256

_FLAGS = command.new_flags(num_shards=1000)
flags.DEFINE_string("coco_root", "", "Folder of the data set in its own layout.", flag_values=_FLAGS)
flags.DEFINE_string("image_dir", "", "Folder of images, instead of --coco_root.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_json", "", "Annotations of the images; none: no labels.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_dir", "", "Folder of the annotations' PNGs.", flag_values=_FLAGS)
flags.DEFINE_string("split", "val", "Name of the split made from --image_dir.", flag_values=_FLAGS)
flags.DEFINE_bool("treat_crowd_as_ignore", True, "Crowd regions become void.", flag_values=_FLAGS)


def categories() -> Mapping[int, segments.Category]:
    """COCO's category ids (1 to 200, with gaps) -> classes 1 to 133."""
    return panoptic_json.categories("coco_panoptic", without=(IGNORE_LABEL,))


def items(image_dir: pathlib.Path, json_path: pathlib.Path | None, png_dir: pathlib.Path) -> list[panoptic_json.Item]:
    """The images of a folder with their annotations, sorted by path.

    Raises:
        ValueError: a file that is missing or malformed, or images and annotations that do not match.
    """
    images = panoptic_json.images_of(image_dir)
    if json_path is None:
        return panoptic_json.unlabelled(images)
    return panoptic_json.items(images, json_path, png_dir, where=image_dir)


def encode(item: panoptic_json.Item, *, treat_crowd_as_ignore: bool = True, label_format: str = example.RAW) -> bytes:
    """Serialises one image."""
    return panoptic_json.encode(
        item,
        categories=categories(),
        ignore_label=IGNORE_LABEL,
        label_divisor=LABEL_DIVISOR,
        treat_crowd_as_ignore=treat_crowd_as_ignore,
        label_format=label_format,
    )


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """The splits that the flags name."""
    splits: dict[str, tuple[pathlib.Path, pathlib.Path | None, pathlib.Path]] = {}
    if values.coco_root and values.image_dir:
        raise ValueError("--coco_root and --image_dir are two ways to name the images; set one")
    if values.image_dir:
        json_path, png_dir = None, pathlib.Path()
        if values.panoptic_json:
            json_path, png_dir = pathlib.Path(values.panoptic_json), files.folder(values.panoptic_dir, "panoptic_dir")
        splits[values.split] = files.folder(values.image_dir, "image_dir"), json_path, png_dir
    else:
        root = files.folder(values.coco_root, "coco_root")
        for split in ("train", "val", "test"):
            if (root / f"{split}2017").is_dir():
                labels = root / "annotations" / f"panoptic_{split}2017"
                splits[split] = root / f"{split}2017", None if split == "test" else labels.with_suffix(".json"), labels
        if not splits:
            raise ValueError(f"--coco_root: {root} holds none of train2017, val2017, test2017")
    return [
        command.split(
            values,
            split,
            items(image_dir, json_path, png_dir),
            encode,
            root=image_dir,
            inputs=[json_path] if json_path else [],
            treat_crowd_as_ignore=values.treat_crowd_as_ignore,
        )
        for split, (image_dir, json_path, png_dir) in splits.items()
    ]


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
