"""Mapillary Vistas v1.2 -> TFRecords for `mapillary_vistas`.

    python -m deeplab2_kmax.data.convert.mapillary_vistas --vistas_root=mapillary-vistas-v1.2 --output_dir=records

expects the layout of the data set:

    {training,validation,testing}/images/*.jpg
    {training,validation}/panoptic/panoptic_2018.json
    {training,validation}/panoptic/*.png

"The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes", Neuhold et al., ICCV 2017. Categories 1 to
65 become classes 0 to 64; unlabelled pixels are void (255). Splits whose images are not there are left out; the test
images have no labels. A raw label of such a large image takes some 30 MB: labels are compressed by default.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import command, files, panoptic_json, writer

IGNORE_LABEL = 255
LABEL_DIVISOR = 1000
FOLDERS = {"train": "training", "val": "validation", "test": "testing"}

_FLAGS = command.new_flags(num_shards=1000, label_format=example.ZLIB)
flags.DEFINE_string("vistas_root", None, "Folder of the data set.", flag_values=_FLAGS)
flags.DEFINE_bool("treat_crowd_as_ignore", True, "Crowd regions become void.", flag_values=_FLAGS)


def encode(item: panoptic_json.Item, *, treat_crowd_as_ignore: bool = True, label_format: str) -> bytes:
    """Serialises one image."""
    return panoptic_json.encode(
        item,
        categories=panoptic_json.categories("mapillary_vistas"),
        ignore_label=IGNORE_LABEL,
        label_divisor=LABEL_DIVISOR,
        treat_crowd_as_ignore=treat_crowd_as_ignore,
        label_format=label_format,
    )


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """The splits that are there."""
    root = files.folder(values.vistas_root, "vistas_root")
    splits = {split: root / folder for split, folder in FOLDERS.items() if (root / folder / "images").is_dir()}
    if not splits:
        raise ValueError(f"--vistas_root: {root} holds none of training/images, validation/images, testing/images")
    found = []
    for split, folder in splits.items():
        images, inputs = panoptic_json.images_of(folder / "images"), []
        if split == "test":
            records = panoptic_json.unlabelled(images)
        else:
            labels = folder / "panoptic"
            inputs = [labels / "panoptic_2018.json"]
            records = panoptic_json.items(images, inputs[0], labels, where=folder / "images")
        found.append(
            command.split(
                values,
                split,
                records,
                encode,
                root=root,
                inputs=inputs,
                treat_crowd_as_ignore=values.treat_crowd_as_ignore,
            )
        )
    return found


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
