"""Converts KITTI-STEP (video panoptic segmentation of KITTI's tracking sequences) to records for `kitti_step`.

    python -m deeplab2_kmax.data.convert.kitti_step --step_root=kitti-step --output_dir=records

--step_root holds `images/<split>/<sequence>/<frame>.png` and `panoptic_maps/<split>/<sequence>/<frame>.png`, such as
`images/val/0002/000000.png`. Of KITTI's training sequences, 0002 0006 0007 0008 0010 0013 0014 0016 0018 are the split
val and the other twelve train; KITTI's test sequences are the split test. With --use_two_frames every record stores the
frame before it too (the first frame of a sequence is its own), and splits that are not for training have one shard per
sequence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from deeplab2_kmax.data.convert import command, step, writer

NUM_CLASSES = 19
VAL_SEQUENCES = ("0002", "0006", "0007", "0008", "0010", "0013", "0014", "0016", "0018")

_FLAGS = step.new_flags()


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    found = step.plan(values, num_classes=NUM_CLASSES)
    for split in found:
        present = {frame.sequence_id for frame in split.items}
        misplaced = present & set(VAL_SEQUENCES) if split.name == "train" else present - set(VAL_SEQUENCES)
        if split.name in ("train", "val") and misplaced:
            other = {"train": "val", "val": "train"}[split.name]
            raise ValueError(
                f"{values.step_root}: sequence {min(misplaced)} of the split {split.name} belongs to {other}. Move it, "
                "or give a split of your own another name."
            )
    return found


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
