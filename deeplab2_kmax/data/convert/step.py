"""What KITTI-STEP and MOTChallenge-STEP share: the layout of their files and the records made from them.

"STEP: Segmenting and Tracking Every Pixel", Weber et al., 2021, arXiv 2102.11859.

    images/<split>/<sequence>/<frame>.{png,jpg}
    panoptic_maps/<split>/<sequence>/<frame>.png

The red channel of a map is the class, green * 256 + blue the instance. A frame without a map has no label, and so has
every frame of a split whose name contains `test`.
"""

from __future__ import annotations

import functools
import pathlib

import numpy as np
from absl import flags

from deeplab2_kmax.data.convert import command, files, frames, panoptic_png, writer

IGNORE_LABEL = 255
LABEL_DIVISOR = 1000


def new_flags() -> flags.FlagValues:
    """The flags of a STEP converter."""
    values = command.new_flags(num_shards=10)
    flags.DEFINE_string("step_root", None, "Folder of images/ and panoptic_maps/.", flag_values=values)
    flags.DEFINE_bool("use_two_frames", False, "Store the frame before each frame as well.", flag_values=values)
    return values


def splits(root: pathlib.Path) -> list[str]:
    """The splits that are there."""
    where = root / "images"
    found = sorted(path.name for path in where.iterdir() if path.is_dir()) if where.is_dir() else []
    if not found:
        raise ValueError(f"{where} holds no splits: expected images/<split>/<sequence>/<frame>.png or .jpg.")
    return found


def sequences(root: pathlib.Path, split: str, *, use_two_frames: bool = False) -> list[list[frames.Frame]]:
    """The frames of a split, sequence by sequence. With `use_two_frames`, every frame names the one before it.

    Raises:
        ValueError: no images, a frame that is named by no number, or one whose predecessor is missing.
    """
    where = root / "images" / split
    names = sorted(path.name for path in where.iterdir() if path.is_dir())
    if not names:
        raise ValueError(f"{where} holds no sequences.")
    maps = None if "test" in split else root / "panoptic_maps" / split
    if maps is not None and not maps.is_dir():
        raise ValueError(f"There is no folder {maps} for the labels of {where}. Splits without labels are named test.")
    return [_sequence(where / name, maps / name if maps else None, use_two_frames) for name in names]


def _sequence(where: pathlib.Path, maps: pathlib.Path | None, use_two_frames: bool) -> list[frames.Frame]:
    images = files.images(where)
    if odd := [image for image in images if not image.stem.isdecimal()]:
        raise ValueError(f"{odd[0]}: expected a frame number as its name, such as 000000{odd[0].suffix}.")
    pictures: dict[int, frames.Picture] = {}
    found = []
    for image in sorted(images, key=lambda image: int(image.stem)):  # 10 after 9, also without leading zeros
        label = maps / f"{image.stem}.png" if maps else None
        number = int(image.stem)
        if number in pictures:
            raise ValueError(f"{where} holds frame {number} twice.")
        picture = frames.Picture(str(image), str(label) if label and label.is_file() else None)
        if use_two_frames and pictures and number - 1 not in pictures:
            raise ValueError(f"{image}: the frame before it, {number - 1}, is missing.")
        before = pictures.get(number - 1, picture) if use_two_frames else None
        pictures[number] = picture
        found.append(frames.Frame(image.name, where.name, image.stem, *picture, before))
    return found


def even_sizes(total: int, num_shards: int) -> list[int]:
    """Records of each shard: even, and fewer shards rather than empty ones."""
    size = -(-total // num_shards)
    return [min(size, total - start) for start in range(0, total, size)]


def encode(frame: frames.Frame, *, num_classes: int, use_two_frames: bool, label_format: str) -> bytes:
    """Reads a frame and serialises it."""
    read_label = functools.partial(read_map, num_classes=num_classes)
    return frames.encode(frame, read_label=read_label, neighbors=use_two_frames, label_format=label_format)


def read_map(path: str, *, num_classes: int) -> np.ndarray:
    """Reads a map: [H, W] int32, class * 1000 + instance."""
    return panoptic_png.read(path, label_divisor=LABEL_DIVISOR, num_classes=num_classes, ignore_label=IGNORE_LABEL)


def plan(values: flags.FlagValues, *, num_classes: int) -> list[writer.Split]:
    """All splits that are there."""
    root = files.folder(values.step_root, "step_root")
    found = []
    for split in splits(root):
        clips = sequences(root, split, use_two_frames=values.use_two_frames)
        records = [frame for clip in clips for frame in clip]
        made = command.split(
            values,
            split,
            records,
            encode,
            root=root,
            num_classes=num_classes,
            use_two_frames=values.use_two_frames,
        )
        if values.use_two_frames and "train" not in split:
            sizes = [len(clip) for clip in clips]  # one shard per sequence
        else:
            sizes = even_sizes(len(records), values.num_shards)
        found.append(made._replace(num_shards=len(sizes), shard_sizes=sizes))
    return found
