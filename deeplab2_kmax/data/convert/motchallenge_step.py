"""Converts MOTChallenge-STEP (video panoptic segmentation of pedestrian scenes) to records for `motchallenge_step`.

    python -m deeplab2_kmax.data.convert.motchallenge_step --step_root=motchallenge-step --output_dir=records

--step_root holds `images/<split>/<sequence>/<frame>.jpg` and `panoptic_maps/<split>/<sequence>/<frame>.png`, such as
`images/train/0002/000001.jpg`: sequences 0002 and 0009 are for training, 0001 and 0007 for testing. With
--use_two_frames every record stores the frame before it too (the first frame of a sequence is its own), and splits that
are not for training have one shard per sequence. `step_maps` makes panoptic maps from class maps and MOTS files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from deeplab2_kmax.data.convert import command, step, writer

NUM_CLASSES = 7

_FLAGS = step.new_flags()


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    return step.plan(values, num_classes=NUM_CLASSES)


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
