"""Converts VIPSeg (video panoptic segmentation in the wild) to records for `vipseg`.

    python -m deeplab2_kmax.data.convert.vipseg --vipseg_root=VIPSeg --output_dir=records --label_format=zlib

--vipseg_root holds `imgs/<video>/<frame>.jpg`, `panomasks/<video>/<frame>.png` and the lists of videos `train.txt`,
`val.txt`, `test.txt` (of which those that are there are converted). The masks are the published ones of 16 bits: 0 is
void, a value up to 124 a class, a larger one class * 100 + instance; 200 occurs by mistake and means void.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from deeplab2_kmax.data.convert import clips, command, files, frames, writer

_MISTAKE = 200

_FLAGS = clips.new_flags("vipseg_root")


def read_label(path: str) -> np.ndarray:
    """Reads a mask: [H, W] int32, class * 1000 + instance, instances from 1.

    A thing that has no instance is crowd. An instance of stuff is dropped: its parts are one segment.
    """
    values = files.read_integers(path)
    values = np.where(values == _MISTAKE, 0, values)
    plain = values < clips.NUM_CLASSES
    classes = np.where(plain, values, values // 100)
    strange = values[classes >= clips.NUM_CLASSES]
    if strange.size:
        raise ValueError(f"{path}: {strange[0]} stands for class {strange[0] // 100}, but the last one is 124")
    instances = np.where(plain | ~np.isin(classes, clips.thing_ids()), 0, values % 100 + 1)
    return (classes * clips.LABEL_DIVISOR + instances).astype(np.int32)


def encode(frame: frames.Frame, *, neighbors: bool, short_side: int, label_format: str) -> bytes:
    """Reads a frame and serialises it."""
    return clips.encode(
        frame, read_label=read_label, neighbors=neighbors, short_side=short_side, label_format=label_format
    )


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    root = files.folder(values.vipseg_root, "vipseg_root")
    return clips.plan(values, root, encode, lambda root, video: (root / "imgs" / video, root / "panomasks" / video))


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
