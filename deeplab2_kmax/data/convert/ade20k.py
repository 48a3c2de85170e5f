"""ADE20K (the 150 classes of the scene parsing challenge) with panoptic labels -> TFRecords for `ade20k_panoptic`.

    python -m deeplab2_kmax.data.convert.ade20k --ade20k_root=ADEChallengeData2016 --output_dir=records

expects the layout that the preparation script of Mask2Former leaves behind:

    images/{training,validation}/*.jpg
    ade20k_panoptic_{train,val}.json
    ade20k_panoptic_{train,val}/*.png

Categories 0 to 149 become classes 1 to 150, category 255 becomes void (class 0). The areas that the JSON lists are not
compared with the pixels. Splits whose images are not there are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import command, files, panoptic_json, writer

IGNORE_LABEL = 0
LABEL_DIVISOR = 1000
FOLDERS = {"train": "training", "val": "validation"}

_FLAGS = command.new_flags(num_shards=1000)
flags.DEFINE_string("ade20k_root", None, "Folder of the data set.", flag_values=_FLAGS)


def encode(item: panoptic_json.Item, *, label_format: str = example.RAW) -> bytes:
    """Serialises one image."""
    return panoptic_json.encode(
        item,
        categories=panoptic_json.categories("ade20k_panoptic"),
        ignore_label=IGNORE_LABEL,
        label_divisor=LABEL_DIVISOR,
        check_area=False,
        label_format=label_format,
    )


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """The splits that are there."""
    root = files.folder(values.ade20k_root, "ade20k_root")
    splits = {split: folder for split, folder in FOLDERS.items() if (root / "images" / folder).is_dir()}
    if not splits:
        raise ValueError(f"--ade20k_root: {root} holds neither images/training nor images/validation")
    found = []
    for split, folder in splits.items():
        labels = root / f"ade20k_panoptic_{split}"
        json_path, image_dir = labels.with_suffix(".json"), root / "images" / folder
        records = panoptic_json.items(panoptic_json.images_of(image_dir), json_path, labels, where=image_dir)
        found.append(command.split(values, split, records, encode, root=root, inputs=[json_path]))
    return found


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
