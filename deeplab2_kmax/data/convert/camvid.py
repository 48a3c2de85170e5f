"""Converts CamVid, as SegNet's authors published it with 11 classes, to video records.

    python -m deeplab2_kmax.data.convert.camvid --camvid_root=CamVid --split=val --output_dir=records

--camvid_root holds `<split>/*.png` with `<split>annot/*.png`, or `images/*.png` with `labels/*.png`. CamVid has no
instances: the connected parts of cars, pedestrians and bicyclists stand in for them, numbered anew in every frame, so
they are no tracks. The video of a frame is the first part of its name (`0016E5_07959`: video 0016E5).
"""

from __future__ import annotations

import functools
import itertools
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from deeplab2_kmax.data.convert import command, components, files, frames, writer

UNLABELLED = 11  # in the files
THINGS = (8, 9, 10)  # car, pedestrian, bicyclist
IGNORE_LABEL = 255
LABEL_DIVISOR = 1000

_FLAGS = command.new_flags(num_shards=8)
flags.DEFINE_string("camvid_root", None, "Folder of the images and labels.", flag_values=_FLAGS)
flags.DEFINE_string("split", "val", "Split to convert; first part of the shards' names.", flag_values=_FLAGS)
flags.DEFINE_integer("min_pixels", 20, "Smaller parts are crowd, no instances.", lower_bound=1, flag_values=_FLAGS)
flags.DEFINE_bool("neighbors", False, "Store the frames before and after each frame as well.", flag_values=_FLAGS)


def items(root: pathlib.Path, split: str) -> list[frames.Frame]:
    """The frames of a split, video by video.

    Raises:
        ValueError: missing folders, images or labels.
    """
    images, labels = root / split, root / f"{split}annot"
    if not images.is_dir():
        images, labels = root / "images", root / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise ValueError(f"{root} holds neither {split}/ with {split}annot/ nor images/ with labels/.")
    found = []
    for video, group in itertools.groupby(files.images(images), key=lambda path: path.stem.rsplit("_", 1)[0]):
        members = list(group)
        found += frames.sequence(video, members, [labels / f"{path.stem}.png" for path in members])
    return found


def panoptic_label(path: str, *, min_pixels: int = 20) -> np.ndarray:
    """Reads a label PNG: [H, W] int32, class * 1000 + instance; parts of less than `min_pixels` have instance 0."""
    ids = files.read_map(path, channels=1).astype(np.int32)
    if ids.max() > UNLABELLED:
        raise ValueError(f"{path}: expected classes 0 to {UNLABELLED}, found {ids.max()}")
    label = np.where(ids == UNLABELLED, IGNORE_LABEL, ids) * LABEL_DIVISOR
    for thing in THINGS:
        parts, count = components.label(ids == thing)
        large = np.bincount(parts.ravel(), minlength=count + 1) >= min_pixels
        large[0] = False
        if large.sum() >= LABEL_DIVISOR:
            raise ValueError(f"{path}: class {thing} has {large.sum()} parts, at most {LABEL_DIVISOR - 1} have numbers")
        label += np.where(large, np.cumsum(large), 0)[parts]
    return label.astype(np.int32)


def encode(frame: frames.Frame, *, min_pixels: int, neighbors: bool, label_format: str) -> bytes:
    """Reads a frame and serialises it."""
    read_label = functools.partial(panoptic_label, min_pixels=min_pixels)
    return frames.encode(frame, read_label=read_label, neighbors=neighbors, label_format=label_format)


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    root = files.folder(values.camvid_root, "camvid_root")
    records = items(root, values.split)
    options = {"min_pixels": values.min_pixels, "neighbors": values.neighbors}
    return [command.split(values, values.split, records, encode, root=root, **options)]


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
