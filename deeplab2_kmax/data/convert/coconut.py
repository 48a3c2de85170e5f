"""COCONut, COCO's images labelled anew, -> TFRecords for `coconut_panoptic`.

    python -m deeplab2_kmax.data.convert.coconut --split=train_b --panoptic_json=coconut_b.json
        --panoptic_dir=coconut_b --image_dirs=coco/train2017,coco/unlabeled2017 --output_dir=records

"COCONut: Modernizing COCO Segmentation", Deng et al., CVPR 2024, arXiv 2404.08639. The annotations have COCO's panoptic
format and categories. Those of one split refer to images of several folders: every annotated image is looked for, by
the `file_name` that `images` gives it (folders before it are kept), in all of --image_dirs and must be in exactly one.
Images without annotations are left out.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import coco, command, files, panoptic_json, writer

_FLAGS = command.new_flags(num_shards=1000)
flags.DEFINE_list("image_dirs", [], "Folders of images, separated by commas.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_json", "", "Annotations.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_dir", "", "Folder of the annotations' PNGs.", flag_values=_FLAGS)
flags.DEFINE_string("split", "train_s", "First part of the shards' names.", flag_values=_FLAGS)
flags.DEFINE_bool("treat_crowd_as_ignore", True, "Crowd regions become void.", flag_values=_FLAGS)
flags.DEFINE_bool("check_area", True, "Compare the areas in the JSON with the pixels.", flag_values=_FLAGS)


def items(
    image_dirs: Sequence[pathlib.Path], json_path: pathlib.Path, png_dir: pathlib.Path
) -> list[panoptic_json.Item]:
    """The annotated images, sorted by name.

    Raises:
        ValueError: a file that is missing, ambiguous or malformed, or an image that is annotated twice.
    """
    content = panoptic_json.read(json_path)
    try:
        names = {row["id"]: row["file_name"] for row in content["images"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{json_path}: expected a list `images` with id and file_name ({error!r})") from error
    found: dict[str, panoptic_json.Item] = {}
    for annotation in content["annotations"]:
        if annotation.image_id not in names:
            raise ValueError(
                f"{json_path}: image_id {annotation.image_id!r} of {annotation.file_name} is not in `images`"
            )
        path = _image(image_dirs, names[annotation.image_id], json_path)
        if path.stem in found:
            raise ValueError(f"{json_path}: the image {path.stem} is annotated twice")
        found[path.stem] = panoptic_json.item(path.stem, path, annotation, json_path, png_dir)
    return [found[name] for name in sorted(found)]


def _image(image_dirs: Sequence[pathlib.Path], name: str, json_path: pathlib.Path) -> pathlib.Path:
    """The one file of that name; several images of Objects365 may share a folder below, so folders are kept."""
    relative = pathlib.PurePosixPath(name)
    if not relative.name or relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise ValueError(f"{json_path}: {name!r} is not a file name below the folders of images")
    found = [folder / relative for folder in image_dirs if (folder / relative).is_file()]
    if len(found) != 1:
        places = ", ".join(map(str, image_dirs))
        raise ValueError(f"{json_path}: expected {name} in one of {places}, found it in {len(found)}")
    return found[0]


def encode(
    item: panoptic_json.Item, *, treat_crowd_as_ignore: bool, check_area: bool, label_format: str = example.RAW
) -> bytes:
    """Serialises one image."""
    return panoptic_json.encode(
        item,
        categories=coco.categories(),
        ignore_label=coco.IGNORE_LABEL,
        label_divisor=coco.LABEL_DIVISOR,
        treat_crowd_as_ignore=treat_crowd_as_ignore,
        check_area=check_area,
        label_format=label_format,
    )


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """The split that the flags name."""
    if not values.image_dirs or not values.panoptic_json:
        raise ValueError("--image_dirs and --panoptic_json say what to convert; see --help")
    image_dirs = [files.folder(path, "image_dirs") for path in values.image_dirs]
    json_path, png_dir = pathlib.Path(values.panoptic_json), files.folder(values.panoptic_dir, "panoptic_dir")
    options = {"treat_crowd_as_ignore": values.treat_crowd_as_ignore, "check_area": values.check_area}
    records = items(image_dirs, json_path, png_dir)
    return [command.split(values, values.split, records, encode, root=png_dir, inputs=[json_path], **options)]


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
