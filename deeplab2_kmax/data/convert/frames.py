"""Folders of video frames with labels: which frame follows which, and the record of one frame with its neighbours."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from deeplab2_kmax.data import example

Read = Callable[[str], np.ndarray]  # path -> [H, W] integers


class Picture(NamedTuple):
    """An image and its label, where it has one."""

    image: str
    label: str | None = None


class Frame(NamedTuple):
    """One frame of a video, with what it is read from; `before` and `after` are its neighbours, where there are any."""

    name: str  # of the image, with extension
    sequence_id: str
    frame_id: str
    image: str
    label: str | None
    before: Picture | None = None
    after: Picture | None = None
    depth: str | None = None
    num_cameras: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """What the frame itself is read from."""
        return tuple(path for path in (self.image, self.label, self.depth, self.num_cameras) if path is not None)


def sequence(
    sequence_id: str, images: Sequence[pathlib.Path], labels: Sequence[pathlib.Path] | None = None
) -> list[Frame]:
    """The frames of one video in the order given; the frame id is the last part of the file's name (`<video>_<frame>`).

    The neighbours of every frame are named; the first is its own predecessor, the last its own successor.

    Raises:
        ValueError: a label that is missing.
    """
    for image, label in zip(images, labels or ()):
        if not label.is_file():
            raise ValueError(f"{image}: its label {label} is missing.")
    pictures = [Picture(str(image), str(labels[k]) if labels else None) for k, image in enumerate(images)]
    found = []
    for k, image in enumerate(images):
        frame_id = image.stem.rsplit("_", 1)[-1]
        before, after = pictures[max(k - 1, 0)], pictures[min(k + 1, len(pictures) - 1)]
        found.append(
            Frame(f"{sequence_id}_{frame_id}{image.suffix}", sequence_id, frame_id, *pictures[k], before, after)
        )
    return found


def inputs(frames: Iterable[Frame]) -> list[str]:
    """The files that frames and their neighbours are read from, each once."""
    found: dict[str, None] = {}
    for frame in frames:
        neighbors = [path for picture in (frame.before, frame.after) for path in picture or () if path is not None]
        found.update(dict.fromkeys([*frame.files, *neighbors]))
    return list(found)


def read_image(path: str) -> bytes:
    """An image as it is stored."""
    return pathlib.Path(path).read_bytes()


def encode(
    frame: Frame,
    *,
    read_label: Read,
    read_depth: Read | None = None,
    read_num_cameras: Read | None = None,
    read_image: Callable[[str], bytes] = read_image,
    neighbors: bool = False,
    label_format: str = example.RAW,
) -> bytes:
    """Serialises a frame.

    Args:
        frame: whose files are read.
        read_label: path -> [H, W] panoptic ids.
        read_depth: path -> [H, W] metres * 256, of frames with depth.
        read_num_cameras: path -> [H, W], how many cameras see the pixel, of panoramas.
        read_image: path -> encoded image.
        neighbors: store the frames before and after it, with labels, as well, as far as it names them.
        label_format: one of example.MAP_FORMATS.
    """

    def read(picture: Picture | None) -> tuple[bytes | None, np.ndarray | None]:
        if picture is None:
            return None, None
        return read_image(picture.image), None if picture.label is None else read_label(picture.label)

    before, after = (read(picture if neighbors else None) for picture in (frame.before, frame.after))
    label = None if frame.label is None else read_label(frame.label)
    return example.encode_example(
        read_image(frame.image),
        label,
        filename=frame.name,
        label_format=label_format,
        sequence_id=frame.sequence_id,
        frame_id=frame.frame_id,
        prev_image=before[0],
        prev_label=before[1],
        next_image=after[0],
        next_label=after[1],
        depth=read_depth(frame.depth) if read_depth and frame.depth is not None else None,
        num_cameras=read_num_cameras(frame.num_cameras) if read_num_cameras and frame.num_cameras is not None else None,
    )
