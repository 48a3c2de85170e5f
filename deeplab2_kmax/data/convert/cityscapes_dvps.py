"""Converts Cityscapes-DVPS (depth-aware video panoptic segmentation) to records for `cityscapes_dvps`.

    python -m deeplab2_kmax.data.convert.cityscapes_dvps --dvps_root=cityscapes-dvps --output_dir=records

--dvps_root holds `{train,val}/<sequence>_<frame>*_leftImg8bit.png` with `..._gtFine_instanceTrainIds.png` (one
channel, class * 1000 + instance, void is class 32) and `..._depth.png` (metres * 256), and `test/` with images alone. A
record is a frame that has a next one, and stores the next one too.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from deeplab2_kmax.data.convert import command, dvps, files, frames, panoptic_png, writer

NUM_CLASSES = 19
IGNORE_LABEL = 32
LABEL_DIVISOR = 1000

_FLAGS = dvps.new_flags(panoptic_divisor=0)


def read_label(path: str, *, panoptic_divisor: int) -> np.ndarray:
    """Reads a label: [H, W] int32, class * 1000 + instance."""
    classes = {"num_classes": NUM_CLASSES, "ignore_label": IGNORE_LABEL}
    if panoptic_divisor <= 0:
        return panoptic_png.read_one_channel(path, label_divisor=LABEL_DIVISOR, **classes)
    return panoptic_png.read(path, label_divisor=panoptic_divisor, **classes)


def encode(frame: frames.Frame, *, panoptic_divisor: int, label_format: str) -> bytes:
    """Reads a frame and serialises it."""
    read = functools.partial(read_label, panoptic_divisor=panoptic_divisor)
    return frames.encode(
        frame, read_label=read, read_depth=files.read_integers, neighbors=True, label_format=label_format
    )


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    return dvps.plan(values, encode)


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
