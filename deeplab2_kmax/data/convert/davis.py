"""Converts DAVIS 2016, video with one object per sequence, to records.

    python -m deeplab2_kmax.data.convert.davis --davis_root=DAVIS --split=val --sequences=car-shadow,scooter-black \
        --output_dir=records

--davis_root holds `JPEGImages/480p/<sequence>/*.jpg` and `Annotations/480p/<sequence>/*.png` (0 background, 255
object). The object is instance 1 in every frame of its sequence; the background is a stuff class.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from deeplab2_kmax.data.convert import command, files, frames, writer

OBJECT = 1  # class; the background is 0
LABEL_DIVISOR = 1000

_FLAGS = command.new_flags(num_shards=8)
flags.DEFINE_string("davis_root", None, "Folder of JPEGImages and Annotations.", flag_values=_FLAGS)
flags.DEFINE_string("resolution", "480p", "Folder below those two.", flag_values=_FLAGS)
flags.DEFINE_string("split", "val", "First part of the shards' names.", flag_values=_FLAGS)
flags.DEFINE_list("sequences", [], "Sequences to convert; left out: all that are there.", flag_values=_FLAGS)
flags.DEFINE_bool("neighbors", False, "Store the frames before and after each frame as well.", flag_values=_FLAGS)


def items(root: pathlib.Path, resolution: str, sequences: Sequence[str] = ()) -> list[frames.Frame]:
    """The frames of some sequences, or of all.

    Raises:
        ValueError: missing folders, images or labels.
    """
    images, labels = root / "JPEGImages" / resolution, root / "Annotations" / resolution
    present = sorted(path.name for path in images.iterdir() if path.is_dir()) if images.is_dir() else []
    if not present:
        raise ValueError(f"{images} holds no sequences.")
    if unknown := sorted(set(sequences) - set(present)):
        raise ValueError(f"{images} lacks {', '.join(unknown)}; it holds {', '.join(present)}.")
    found = []
    for name in sorted(set(sequences)) or present:
        paths = files.images(images / name)
        found += frames.sequence(name, paths, [labels / name / f"{path.stem}.png" for path in paths])
    return found


def panoptic_label(path: str) -> np.ndarray:
    """Reads a mask: [H, W] int32, 0 or 1001."""
    ids = files.read_map(path, channels=1)
    other = np.setdiff1d(ids, (0, 255))
    if other.size:
        raise ValueError(f"{path}: expected 0 and 255 alone, found {other[0]}. Of DAVIS, only the 2016 masks are read.")
    return np.where(ids == 255, OBJECT * LABEL_DIVISOR + 1, 0).astype(np.int32)


def encode(frame: frames.Frame, *, neighbors: bool, label_format: str) -> bytes:
    """Reads a frame and serialises it."""
    return frames.encode(frame, read_label=panoptic_label, neighbors=neighbors, label_format=label_format)


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    root = files.folder(values.davis_root, "davis_root")
    records = items(root, values.resolution, values.sequences)
    return [command.split(values, values.split, records, encode, root=root, neighbors=values.neighbors)]


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
