"""Writes procedural street scenes as TFRecords: pictures for panoptic segmentation, or video with tracks and depth.

    python -m deeplab2_kmax.data.convert.synthetic --output_dir=data/streets --num_train=800 --num_val=48
    python -m deeplab2_kmax.data.convert.synthetic --output_dir=data/clips --num_train=40 --num_val=4 --video

The splits are train-* and val-*, for the data sets `synthetic_panoptic` and, with --video, `synthetic_dvps`.
A scene is decided by its seed alone; those of the two splits never meet.
"""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import command, synthetic_scene, writer

VERSION = 1  # of what a seed looks like: a change of the scenes makes old shards outdated
MAX_SCENES = 1_000_000  # per split and seed
DEPTH_SCALE = 256  # stored depth per metre

_FLAGS = command.new_flags(num_shards=8)
flags.DEFINE_integer("num_train", 800, "Scenes of the split train.", 0, MAX_SCENES, flag_values=_FLAGS)
flags.DEFINE_integer("num_val", 48, "Scenes of the split val.", 0, MAX_SCENES, flag_values=_FLAGS)
flags.DEFINE_integer("height", 161, "Height of the pictures in pixels.", 33, 8192, flag_values=_FLAGS)
flags.DEFINE_integer("width", 321, "Width of the pictures in pixels.", 33, 8192, flag_values=_FLAGS)
flags.DEFINE_integer("seed", 0, "Another seed gives other scenes.", 0, 2**31 - 1, flag_values=_FLAGS)
flags.DEFINE_enum("image_format", "jpeg", ["jpeg", "png"], "How pictures are stored.", flag_values=_FLAGS)
flags.DEFINE_bool("video", False, "Clips instead of pictures: neighbouring frames and depth too.", flag_values=_FLAGS)
flags.DEFINE_integer("num_frames", 10, "Frames of a clip (--video).", 2, 150, flag_values=_FLAGS)


class Options(NamedTuple):
    """What all records of a set share."""

    height: int
    width: int
    image_format: str = "jpeg"
    label_format: str = example.RAW
    video: bool = False


class Item(NamedTuple):
    """One record."""

    name: str
    seed: int
    frame: int = 0
    num_frames: int = 1


def items(split: str, num_scenes: int, *, seed: int = 0, num_frames: int = 1) -> list[Item]:
    """The records of a split (`train` or `val`), in order."""
    first = 2 * MAX_SCENES * seed + MAX_SCENES * ("train", "val").index(split)
    names = [f"{split}_{k:06d}" for k in range(num_scenes)]
    return [Item(name, first + k, t, num_frames) for k, name in enumerate(names) for t in range(num_frames)]


def encode(item: Item, options: Options) -> bytes:
    """Draws a scene and serialises it. In a video the first frame is its own predecessor, the last its successor."""
    times = [item.frame] if not options.video else [max(item.frame - 1, 0), item.frame]
    if options.video:
        times.append(min(item.frame + 1, item.num_frames - 1))
    drawn = {t: _draw(item.seed, t, options) for t in set(times)}
    image, panoptic, depth = drawn[item.frame]
    if not options.video:
        return example.encode_example(image, panoptic, filename=item.name, label_format=options.label_format)
    before, after = drawn[times[0]], drawn[times[2]]
    frame_id = f"{item.frame:06d}"
    return example.encode_example(
        image,
        panoptic,
        filename=f"{item.name}_{frame_id}.{options.image_format}",
        label_format=options.label_format,
        sequence_id=item.name,
        frame_id=frame_id,
        prev_image=before[0],
        prev_label=before[1],
        next_image=after[0],
        next_label=after[1],
        depth=np.rint(depth * DEPTH_SCALE).astype(np.int32),
    )


@functools.lru_cache(maxsize=3)  # the frames of a clip are written one after the other, each thrice
def _draw(seed: int, frame: int, options: Options) -> tuple[bytes, np.ndarray, np.ndarray]:
    scene = _scene(seed, options.height, options.width)
    image, panoptic, depth = scene.render(frame / synthetic_scene.FRAMES_PER_SECOND)
    file = io.BytesIO()
    if options.image_format == "png":
        Image.fromarray(image).save(file, "PNG", compress_level=3)
    else:
        Image.fromarray(image).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue(), panoptic, depth


@functools.lru_cache(maxsize=1)
def _scene(seed: int, height: int, width: int) -> synthetic_scene.Scene:
    return synthetic_scene.Scene(seed, height=height, width=width)


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    options = Options(values.height, values.width, values.image_format, values.label_format, values.video)
    num_frames = values.num_frames if values.video else 1
    sizes = {"train": values.num_train, "val": values.num_val}
    if not any(sizes.values()):
        raise ValueError("--num_train and --num_val are both 0: there is nothing to write")
    source = {**options._asdict(), "generator": VERSION, "seed": values.seed, "num_frames": num_frames}
    return [
        writer.Split(
            split,
            items(split, num_scenes, seed=values.seed, num_frames=num_frames),
            functools.partial(encode, options=options),
            num_shards=min(values.num_shards, num_scenes),
            source=source,
        )
        for split, num_scenes in sizes.items()
        if num_scenes
    ]


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
