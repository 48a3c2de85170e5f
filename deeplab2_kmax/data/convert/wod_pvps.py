"""Converts WOD-PVPS (panoramic video panoptic segmentation of the Waymo Open Dataset) to records for `wod_pvps_*`.

    python -m deeplab2_kmax.data.convert.wod_pvps --wod_root=wod --dataset=wod_pvps_image_panoptic_seg_multicam \
        --output_dir=records

"Waymo Open Dataset: Panoramic Video Panoptic Segmentation", Mei et al., ECCV 2022, arXiv 2206.07704. Waymo publishes
frames as protocol buffers that need its own package to read. --wod_root is a folder of what was exported from them:

    images/<split>/<sequence>/<camera>/<frame>.jpg (or .png)
    panoptic_maps/<split>/<sequence>/<camera>/<frame>.png
    depth/<split>/<sequence>/<camera>/<frame>.png
    num_cameras/<split>/<sequence>/<camera>/<frame>.png

A map's red channel is the class, green * 256 + blue the instance, which is the same in all frames and cameras of a
sequence; depth has 16 bits, metres * 256, 0 where there is none; num_cameras, which a panorama may have, says how many
cameras see a pixel, by which STQ is weighted. A sequence holds labelled frames in a row: in the order of their names
one follows the other. Splits whose name contains `test` have no labels and no depth.

With `_multicam` a record is a moment seen by all --cameras, otherwise a frame of one camera, whose video is called
<sequence>_<camera>. With `depth_video` every record stores depth and the next frame, and the last frame of a sequence
has no record of its own.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import command, files, frames, panoptic_png, writer

NUM_CLASSES = 29
IGNORE_LABEL = 0
LABEL_DIVISOR = 100000
CAMERAS = ("side_left", "front_left", "front", "front_right", "side_right", "panorama")
DATASETS = tuple(
    f"wod_pvps_{kind}{cameras}"
    for cameras in ("", "_multicam")
    for kind in ("image_panoptic_seg", "depth_video_panoptic_seg")
)

_FLAGS = command.new_flags(num_shards=1000)
flags.DEFINE_string("wod_root", None, "Folder of images/, panoptic_maps/ and depth/.", flag_values=_FLAGS)
flags.DEFINE_enum("dataset", DATASETS[0], DATASETS, "What the records are for.", flag_values=_FLAGS)
flags.DEFINE_list("cameras", list(CAMERAS), "Cameras to convert.", flag_values=_FLAGS)


class Moment(NamedTuple):
    """What several cameras saw at a time."""

    name: str
    sequence_id: str
    frame_id: str
    cameras: tuple[tuple[str, frames.Frame], ...]

    @property
    def files(self) -> tuple[str, ...]:
        """What it is read from."""
        return tuple(path for _, frame in self.cameras for path in frame.files)


def sequences(
    root: pathlib.Path, split: str, cameras: Sequence[str], *, depth_video: bool
) -> list[list[list[frames.Frame]]]:
    """The frames of every sequence by camera; with `depth_video` with depth and the next frame, and without the last.

    Raises:
        ValueError: an image, map or depth that is missing.
    """
    where = root / "images" / split
    names = sorted(path.name for path in where.iterdir() if path.is_dir())
    if not names:
        raise ValueError(f"{where} holds no sequences.")
    return [[_frames(root, split, name, camera, depth_video) for camera in cameras] for name in names]


def _frames(root: pathlib.Path, split: str, name: str, camera: str, depth_video: bool) -> list[frames.Frame]:
    def beside(folder: str, image: pathlib.Path) -> pathlib.Path:
        return root / folder / split / name / camera / f"{image.stem}.png"

    images = files.images(root / "images" / split / name / camera)
    labelled = "test" not in split
    found = frames.sequence(
        f"{name}_{camera}", images, [beside("panoptic_maps", image) for image in images] if labelled else None
    )
    found = [frame._replace(frame_id=image.stem, before=None) for frame, image in zip(found, images)]
    if labelled and (root / "num_cameras" / split / name / camera).is_dir():
        found = [
            frame._replace(num_cameras=_there(beside("num_cameras", image))) for frame, image in zip(found, images)
        ]
    if not depth_video:
        return [frame._replace(after=None) for frame in found]
    if labelled:
        found = [frame._replace(depth=_there(beside("depth", image))) for frame, image in zip(found, images)]
    return found[:-1]


def _there(path: pathlib.Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} is missing.")
    return str(path)


def moments(name: str, cameras: Sequence[str], clips: Sequence[Sequence[frames.Frame]]) -> list[Moment]:
    """One sequence of several cameras.

    Raises:
        ValueError: a camera whose frames are not those of the first.
    """
    ids = [frame.frame_id for frame in clips[0]]
    for camera, clip in zip(cameras, clips):
        if other := sorted({frame.frame_id for frame in clip} ^ set(ids)):
            raise ValueError(f"{name}: the cameras {cameras[0]} and {camera} do not both have the frame {other[0]}.")
    return [
        Moment(f"{name}_{frame_id}", name, frame_id, tuple(zip(cameras, (clip[k] for clip in clips))))
        for k, frame_id in enumerate(ids)
    ]


def read_label(path: str) -> np.ndarray:
    """Reads a map: [H, W] int32, class * 100000 + instance."""
    return panoptic_png.read(path, label_divisor=LABEL_DIVISOR, num_classes=NUM_CLASSES, ignore_label=IGNORE_LABEL)


def read_num_cameras(path: str) -> np.ndarray:
    """Reads in how many cameras each pixel of a panorama is seen: [H, W] int32, 1 or more."""
    counts = files.read_map(path, channels=1).astype(np.int32)
    if not 1 <= counts.min() <= counts.max() < len(CAMERAS):
        raise ValueError(f"{path}: expected 1 to {len(CAMERAS) - 1} cameras, found {counts.min()} to {counts.max()}")
    return counts


def encode(item: frames.Frame | Moment, *, dataset: str, label_format: str) -> bytes:
    """Reads a frame of one camera or, for a data set of several, a moment, and serialises it."""
    assert dataset.endswith("_multicam") == isinstance(item, Moment)
    if isinstance(item, frames.Frame):
        return frames.encode(
            item,
            read_label=read_label,
            read_depth=files.read_integers,
            read_num_cameras=read_num_cameras,
            neighbors=True,
            label_format=label_format,
        )
    return example.encode_cameras(
        {name: _camera(frame) for name, frame in item.cameras},
        filename=item.name,
        sequence_id=item.sequence_id,
        frame_id=item.frame_id,
        label_format=label_format,
    )


def _camera(frame: frames.Frame) -> example.Camera:
    after = frame.after or frames.Picture("")
    return example.Camera(
        frames.read_image(frame.image),
        read_label(frame.label) if frame.label else None,
        frames.read_image(after.image) if after.image else None,
        read_label(after.label) if after.label else None,
        files.read_integers(frame.depth) if frame.depth else None,
        read_num_cameras(frame.num_cameras) if frame.num_cameras else None,
    )


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    root = files.folder(values.wod_root, "wod_root")
    cameras = tuple(values.cameras)
    if unknown := [camera for camera in cameras if camera not in CAMERAS]:
        raise ValueError(f"--cameras: {unknown[0]!r} is none of {', '.join(CAMERAS)}")
    if not cameras:
        raise ValueError("--cameras is empty")
    splits = sorted(path.name for path in (root / "images").glob("*") if path.is_dir())
    if not splits:
        raise ValueError(f"{root / 'images'} holds no splits: expected images/<split>/<sequence>/<camera>/<frame>.jpg.")
    found = []
    for split in splits:
        clips = sequences(root, split, cameras, depth_video="depth_video" in values.dataset)
        single = [frame for sequence in clips for clip in sequence for frame in clip]
        records: Sequence[frames.Frame | Moment] = single
        if values.dataset.endswith("_multicam"):
            names = sorted(path.name for path in (root / "images" / split).iterdir() if path.is_dir())
            records = [moment for name, sequence in zip(names, clips) for moment in moments(name, cameras, sequence)]
        if not records:
            raise ValueError(f"{root / 'images' / split}: no frame has a next one.")
        inputs = frames.inputs(single)
        found.append(command.split(values, split, records, encode, root=root, inputs=inputs, dataset=values.dataset))
    return found


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
