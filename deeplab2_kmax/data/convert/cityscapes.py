"""Cityscapes -> TFRecords for `cityscapes_panoptic`.

    python -m deeplab2_kmax.data.convert.cityscapes --cityscapes_root=cityscapes --output_dir=records

expects the layout of the data set, and the panoptic files that cityscapesScripts make with train ids:

    leftImg8bit/{train,val,test}/<city>/*_leftImg8bit.png
    gtFine/cityscapes_panoptic_{train,val}_trainId.json
    gtFine/cityscapes_panoptic_{train,val}_trainId/*_gtFine_panoptic.png

With --nocreate_panoptic_data the label is `gtFine/<split>/<city>/*_gtFine_labelTrainIds.png`, a PNG of classes.
Splits whose images are not there are left out; the test images have no labels. A split must be complete (2975, 500 and
1525 images) unless --nocheck_counts says that a part is meant.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import command, files, panoptic_json, writer

IGNORE_LABEL = 255
LABEL_DIVISOR = 1000
NUM_IMAGES = {"train": 2975, "val": 500, "test": 1525}
IMAGE_ENDING = "_leftImg8bit.png"

_FLAGS = command.new_flags(num_shards=10)
flags.DEFINE_string("cityscapes_root", None, "Folder of leftImg8bit and gtFine.", flag_values=_FLAGS)
flags.DEFINE_bool("create_panoptic_data", True, "Panoptic labels; without: classes, as PNG.", flag_values=_FLAGS)
flags.DEFINE_bool("treat_crowd_as_ignore", True, "Groups without instances become void.", flag_values=_FLAGS)
flags.DEFINE_bool("check_counts", True, "Refuse a split with fewer or more images than published.", flag_values=_FLAGS)


def images(root: pathlib.Path, split: str) -> dict[str, pathlib.Path]:
    """The images of a split by `<city>_<sequence>_<frame>`, sorted by path."""
    where = root / "leftImg8bit" / split
    found = {path.name[: -len(IMAGE_ENDING)]: path for path in sorted(where.glob(f"*/*{IMAGE_ENDING}"))}
    if not found:
        raise ValueError(f"{where} holds no <city>/*{IMAGE_ENDING}")
    return found


def items(root: pathlib.Path, split: str, *, create_panoptic_data: bool = True) -> list[panoptic_json.Item]:
    """The images of a split with their labels.

    Raises:
        ValueError: a file that is missing or malformed, or images and annotations that do not match.
    """
    found = images(root, split)
    if split == "test":
        return panoptic_json.unlabelled(found)
    if create_panoptic_data:
        where = root / "leftImg8bit" / split
        return panoptic_json.items(
            found, _panoptic_json(root, split), _panoptic_json(root, split).with_suffix(""), where=where,
            key=panoptic_json.by_image_id,
        )  # fmt: skip
    return [
        panoptic_json.Item(
            name,
            str(path),
            str(
                files.inside(root / "gtFine" / split / path.parent.name, f"{name}_gtFine_labelTrainIds.png", str(path))
            ),
        )
        for name, path in found.items()
    ]


def _panoptic_json(root: pathlib.Path, split: str) -> pathlib.Path:
    return root / "gtFine" / f"cityscapes_panoptic_{split}_trainId.json"


def encode_panoptic(
    item: panoptic_json.Item, *, treat_crowd_as_ignore: bool = True, label_format: str = example.RAW
) -> bytes:
    """Serialises one image with a panoptic label."""
    return panoptic_json.encode(
        item,
        categories=panoptic_json.categories("cityscapes", "id"),
        ignore_label=IGNORE_LABEL,
        label_divisor=LABEL_DIVISOR,
        treat_crowd_as_ignore=treat_crowd_as_ignore,
        label_format=label_format,
    )


def encode_classes(item: panoptic_json.Item, *, label_format: str = example.RAW) -> bytes:
    """Serialises one image with a PNG of classes; label_format is that of panoptic labels and without effect."""
    classes = None if item.label is None else pathlib.Path(item.label).read_bytes()
    return example.encode_example(pathlib.Path(item.image).read_bytes(), filename=item.name, class_png=classes)


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """The splits that are there."""
    root = files.folder(values.cityscapes_root, "cityscapes_root")
    splits = [split for split in NUM_IMAGES if (root / "leftImg8bit" / split).is_dir()]
    if not splits:
        raise ValueError(f"--cityscapes_root: {root / 'leftImg8bit'} holds none of {', '.join(NUM_IMAGES)}")
    found = []
    for split in splits:
        records = items(root, split, create_panoptic_data=values.create_panoptic_data)
        if values.check_counts and len(records) != NUM_IMAGES[split]:
            raise ValueError(
                f"{root / 'leftImg8bit' / split} holds {len(records)} images, but the split has {NUM_IMAGES[split]}. "
                "If a part is meant, add --nocheck_counts."
            )
        if values.create_panoptic_data:
            inputs = [] if split == "test" else [_panoptic_json(root, split)]
            crowd = values.treat_crowd_as_ignore
            made = command.split(
                values, split, records, encode_panoptic, root=root, inputs=inputs, treat_crowd_as_ignore=crowd
            )
        else:
            made = command.split(values, split, records, encode_classes, root=root)
        found.append(made)
    return found


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
