"""Converts VSPW (video scene parsing in the wild: classes, no instances) to records for `vspw`.

    python -m deeplab2_kmax.data.convert.vspw --vspw_root=VSPW --output_dir=records --label_format=zlib

--vspw_root holds `data/<clip>/origin/<frame>.jpg`, `data/<clip>/mask/<frame>.png` and the lists of clips `train.txt`,
`val.txt`, `test.txt` (of which those that are there are converted). Masks have 8 bits: 0 and 255 are void, 1 to 124 the
classes of VIPSeg.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from absl import flags

from deeplab2_kmax.data.convert import clips, command, files, frames, panoptic_png, writer

_VOID = 255  # beside 0

_FLAGS = clips.new_flags("vspw_root")


def read_label(path: str) -> np.ndarray:
    """Reads a mask: [H, W] int32, class * 1000."""
    classes = files.read_map(path, channels=1).astype(np.int32)
    panoptic_png.check_classes(classes, num_classes=clips.NUM_CLASSES, ignore_label=_VOID, where=path)
    return np.where(classes == _VOID, 0, classes) * clips.LABEL_DIVISOR


def encode(frame: frames.Frame, *, neighbors: bool, short_side: int, label_format: str) -> bytes:
    """Reads a frame and serialises it."""
    return clips.encode(
        frame, read_label=read_label, neighbors=neighbors, short_side=short_side, label_format=label_format
    )


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    root = files.folder(values.vspw_root, "vspw_root")
    return clips.plan(
        values, root, encode, lambda root, clip: (root / "data" / clip / "origin", root / "data" / clip / "mask")
    )


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
