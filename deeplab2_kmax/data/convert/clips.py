"""What VIPSeg and VSPW share: lists of videos, a folder of frames per video, and their 124 classes.

"Large-scale Video Panoptic Segmentation in the Wild: A Benchmark", Miao et al., CVPR 2022 (VIPSeg); "VSPW: A
Large-scale Dataset for Video Scene Parsing in the Wild", Miao et al., CVPR 2021.
"""

from __future__ import annotations

import functools
import io
import json
import pathlib
from collections.abc import Callable

import numpy as np
from absl import flags
from PIL import Image

from deeplab2_kmax.data.convert import command, files, frames, panoptic_json, writer

NUM_CLASSES = 125  # with void, class 0
LABEL_DIVISOR = 1000
SPLITS = ("train", "val", "test")

# root, video -> folders of its images and of its labels
Folders = Callable[[pathlib.Path, str], tuple[pathlib.Path, pathlib.Path]]


def new_flags(root: str) -> flags.FlagValues:
    """The flags of a converter whose raw data lie in the folder --<root>."""
    values = command.new_flags(num_shards=1000)
    flags.DEFINE_string(root, None, "Folder of the data set in its own layout.", flag_values=values)
    flags.DEFINE_bool("neighbors", False, "Store the frames before and after each frame as well.", flag_values=values)
    flags.DEFINE_integer(
        "short_side",
        0,
        "Shrink frames to this length of the short side, as is usual with 720; 0: keep their size.",
        lower_bound=0,
        flag_values=values,
    )
    return values


@functools.lru_cache(maxsize=1)
def thing_ids() -> tuple[int, ...]:
    """The classes that have instances."""
    rows = json.loads((panoptic_json.CLASSES / "vipseg.json").read_text())
    return tuple(row["id"] for row in rows if row["thing"])


def videos(root: pathlib.Path) -> dict[str, list[str]]:
    """The videos of each split whose list `<split>.txt` is there.

    Raises:
        ValueError: no lists, an empty one, or a line that is no plain name.
    """
    found = {}
    for split in SPLITS:
        path = root / f"{split}.txt"
        if not path.is_file():
            continue
        names = sorted({line.strip() for line in path.read_text().splitlines() if line.strip()})
        for name in names:
            if pathlib.PurePosixPath(name).name != name or "\\" in name or name == "..":
                raise ValueError(f"{path}: {name!r} is no plain name of a video.")
        if not names:
            raise ValueError(f"{path} is empty.")
        found[split] = names
    if not found:
        raise ValueError(f"{root} holds none of {', '.join(f'{split}.txt' for split in SPLITS)}.")
    return found


def items(root: pathlib.Path, split: str, names: list[str], folders: Folders) -> list[frames.Frame]:
    """The frames of some videos. Videos of the split test may lack labels.

    Raises:
        ValueError: an image or label that is missing.
    """
    found = []
    for name in names:
        image_dir, label_dir = folders(root, name)
        images = files.images(image_dir)
        labels = None
        if split != "test" or label_dir.is_dir():
            labels = [label_dir / f"{path.stem}.png" for path in images]
        found += frames.sequence(name, images, labels)
    return found


def plan(
    values: flags.FlagValues, root: pathlib.Path, encode: Callable[..., bytes], folders: Folders
) -> list[writer.Split]:
    """All splits that have a list, for a converter's `encode`."""
    return [
        command.split(
            values,
            split,
            items(root, split, names, folders),
            encode,
            root=root,
            neighbors=values.neighbors,
            short_side=values.short_side,
        )
        for split, names in videos(root).items()
    ]


def encode(
    frame: frames.Frame, *, read_label: frames.Read, neighbors: bool, short_side: int, label_format: str
) -> bytes:
    """Reads a frame, shrinks it and serialises it."""

    def shrunk(path: str) -> np.ndarray:
        return _shrink_label(read_label(path), short_side)

    return frames.encode(
        frame,
        read_label=shrunk if short_side else read_label,
        read_image=functools.partial(_shrink_image, short_side=short_side) if short_side else frames.read_image,
        neighbors=neighbors,
        label_format=label_format,
    )


def _shrunk_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    scale = min(short_side / min(height, width), 1)
    return round(height * scale), round(width * scale)


def _shrink_image(path: str, *, short_side: int) -> bytes:
    data = frames.read_image(path)
    with Image.open(io.BytesIO(data)) as image:
        height, width = _shrunk_size(image.height, image.width, short_side)
        if (height, width) == (image.height, image.width):
            return data
        out = io.BytesIO()
        options = {"quality": 95} if image.format == "JPEG" else {}
        image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC).save(out, image.format, **options)
    return out.getvalue()


def _shrink_label(label: np.ndarray, short_side: int) -> np.ndarray:
    height, width = _shrunk_size(label.shape[0], label.shape[1], short_side)
    if (height, width) == label.shape:
        return label
    return np.array(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))
