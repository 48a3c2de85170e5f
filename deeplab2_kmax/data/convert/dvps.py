"""What Cityscapes-DVPS and SemKITTI-DVPS share: the layout of their files and the records made from them.

"ViP-DeepLab: Learning Visual Perception with Depth-aware Video Panoptic Segmentation", 2021, arXiv 2012.05258.

    {train,val}/<sequence>_<frame>*_leftImg8bit.png
    {train,val}/<sequence>_<frame>*_gtFine_instanceTrainIds.png
    {train,val}/<sequence>_<frame>*_depth.png, or *_depth_<focal length>.png
    test/<sequence>_<frame>*_leftImg8bit.png

A record is a frame that has a next one: its image, label and depth, and image and label of the next.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Sequence

from absl import flags

from deeplab2_kmax.data.convert import command, files, frames, writer

SPLITS = ("train", "val", "test")
IMAGE_ENDING = "_leftImg8bit.png"
LABEL_ENDING = "_gtFine_instanceTrainIds.png"
_DEPTH = re.compile(r"(?P<start>.*)_depth(_\d+(\.\d+)?)?\.png")

# Endings of the PNGs that make up a label; the first one stands for all of them.
LabelEndings = Sequence[str]


def new_flags(*, panoptic_divisor: int) -> flags.FlagValues:
    """The flags of a DVPS converter."""
    values = command.new_flags(num_shards=1000)
    values["num_shards"].help = "Files per split; with more files than records the last ones are empty."
    flags.DEFINE_string("dvps_root", None, "Folder of train/, val/ and test/.", flag_values=values)
    flags.DEFINE_integer(
        "panoptic_divisor",
        panoptic_divisor,
        f"What the class is multiplied with in labels *{LABEL_ENDING} of three channels (R * divisor + G * 256 + B); "
        "0: they have one channel, and its values are the labels.",
        lower_bound=0,
        flag_values=values,
    )
    return values


def sequences(
    root: pathlib.Path, split: str, labels: Sequence[LabelEndings] = ((LABEL_ENDING,),)
) -> list[frames.Frame]:
    """The frames of a split that have a next frame, in order of their paths.

    Raises:
        ValueError: no images or pairs, an image named otherwise, or a label or depth map that is missing.
    """
    where = root / split
    names = {path.name for path in where.iterdir()}
    starts = sorted(name.removesuffix(IMAGE_ENDING) for name in names if name.endswith(IMAGE_ENDING))
    if not starts:
        raise ValueError(f"{where} holds no files *{IMAGE_ENDING}.")
    depths = {match["start"]: match[0] for name in sorted(names, reverse=True) if (match := _DEPTH.fullmatch(name))}
    places: dict[tuple[str, int], str] = {}
    ids: dict[str, tuple[str, str]] = {}
    for start in starts:
        match = re.fullmatch(r"([^_]+)_(\d+)(_.*)?", start)
        if not match:
            raise ValueError(f"{where / start}{IMAGE_ENDING}: expected <sequence>_<frame>*{IMAGE_ENDING} as its name.")
        ids[start] = match[1], match[2]
        other = places.setdefault((match[1], int(match[2])), start)
        if other != start:
            raise ValueError(f"{where}: {other} and {start} are the same frame of the same sequence.")

    def picture(start: str) -> frames.Picture:
        image = str(where / f"{start}{IMAGE_ENDING}")
        if split == "test":
            return frames.Picture(image)
        for endings in labels:
            if all(start + ending in names for ending in endings):
                return frames.Picture(image, str(where / f"{start}{endings[0]}"))
        expected = ", or ".join(" with ".join(start + ending for ending in endings) for endings in labels)
        raise ValueError(f"{where}: there is no {expected}.")

    found = []
    for start in starts:
        sequence_id, frame_id = ids[start]
        after = places.get((sequence_id, int(frame_id) + 1))
        if after is None:
            continue
        if split != "test" and start not in depths:
            raise ValueError(f"{where}: there is no {start}_depth.png.")
        depth = None if split == "test" else str(where / depths[start])
        name = f"{start}{IMAGE_ENDING}"
        found.append(frames.Frame(name, sequence_id, frame_id, *picture(start), after=picture(after), depth=depth))
    if not found:
        raise ValueError(f"{where} holds no two frames whose numbers follow each other.")
    return found


def plan(
    values: flags.FlagValues, encode: Callable[..., bytes], labels: Sequence[LabelEndings] = ((LABEL_ENDING,),)
) -> list[writer.Split]:
    """All splits that are there, for a converter's `encode`, which takes --panoptic_divisor."""
    root = files.folder(values.dvps_root, "dvps_root")
    present = [split for split in SPLITS if (root / split).is_dir()]
    if not present:
        raise ValueError(f"--dvps_root: {root} holds none of {', '.join(SPLITS)}.")
    found = []
    for split in present:
        records = sequences(root, split, labels)
        inputs = frames.inputs(records)
        for endings in labels:  # the other files of a label
            of_kind = [path for path in inputs if path.endswith(endings[0])]
            inputs += [path.removesuffix(endings[0]) + ending for path in of_kind for ending in endings[1:]]
        made = command.split(
            values, split, records, encode, root=root, inputs=inputs, panoptic_divisor=values.panoptic_divisor
        )
        # As many shards as asked for, as DeepLab2 has them: the last ones may be empty.
        found.append(made._replace(num_shards=values.num_shards))
    return found
