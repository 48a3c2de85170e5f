"""Folders of video frames with labels: which frame follows which, and the record of one frame with its neighbours."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from deeplab2_kmax.data import example


class Frame(NamedTuple):
    """One frame of a video; `before` and `after` are its neighbours' (image, label), the ends being their own."""

    name: str  # of the image, with extension
    sequence_id: str
    frame_id: str
    image: str
    label: str
    before: tuple[str, str]
    after: tuple[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        """What it is read from."""
        return (self.image, self.label)


def sequence(sequence_id: str, images: Sequence[pathlib.Path], labels: Sequence[pathlib.Path]) -> list[Frame]:
    """The frames of one video in the order given; the frame id is the last part of the file's name (`<video>_<frame>`).

    Raises:
        ValueError: a label that is missing.
    """
    paths = []
    for image, label in zip(images, labels):
        if not label.is_file():
            raise ValueError(f"{image}: its label {label} is missing.")
        paths.append((str(image), str(label)))
    frames = []
    for k, image in enumerate(images):
        frame_id = image.stem.rsplit("_", 1)[-1]
        before, after = paths[max(k - 1, 0)], paths[min(k + 1, len(paths) - 1)]
        frames.append(Frame(f"{sequence_id}_{frame_id}{image.suffix}", sequence_id, frame_id, *paths[k], before, after))
    return frames


def encode(
    frame: Frame, *, read_label: Callable[[str], np.ndarray], neighbors: bool = False, label_format: str = example.RAW
) -> bytes:
    """Serialises a frame.

    Args:
        frame: whose files are read.
        read_label: path -> [H, W] panoptic ids.
        neighbors: store the frames before and after it, with labels, as well.
        label_format: one of example.MAP_FORMATS.
    """
    before, after = (_read(paths, read_label) if neighbors else (None, None) for paths in (frame.before, frame.after))
    image, label = _read((frame.image, frame.label), read_label)
    return example.encode_example(
        image,
        label,
        filename=frame.name,
        label_format=label_format,
        sequence_id=frame.sequence_id,
        frame_id=frame.frame_id,
        prev_image=before[0],
        prev_label=before[1],
        next_image=after[0],
        next_label=after[1],
    )


def _read(paths: tuple[str, str], read_label: Callable[[str], np.ndarray]) -> tuple[bytes, np.ndarray]:
    return pathlib.Path(paths[0]).read_bytes(), read_label(paths[1])
