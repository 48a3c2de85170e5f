"""Folders of label files, one per image or frame: class PNGs, STEP's and DeepLab2's panoptic files, depth PNGs.

Both sides have the same relative names. Of a video, `<sequence>/<frame>`, with as many folders above as there are.
"""

from __future__ import annotations

import functools
import pathlib

import numpy as np

from evaluation.saved import sides

PNG, NPY = ".png", ".npy"


def class_png(path: pathlib.Path, context: sides.Context) -> sides.Side:
    """PNGs of one channel, the class of every pixel."""
    return classes(str(path), _sources(path, PNG, context), context)


def classes(where: str, sources: dict[str, sides.Source], context: sides.Context) -> sides.Side:
    """Files of one channel that have been found."""
    return sides.Side(
        where, sources, functools.partial(_read_classes, context=context, table=sides.class_table(context))
    )


def two_channels(path: pathlib.Path, context: sides.Context) -> sides.Side:
    """PNGs with the class in red and the instance, up to 255, in green."""
    read = functools.partial(_read_channels, context=context, table=sides.class_table(context), weights=(1, 0))
    return sides.Side(str(path), _sources(path, PNG, context), read)


def three_channels(path: pathlib.Path, context: sides.Context) -> sides.Side:
    """STEP: PNGs with the class in red and the instance as green * 256 + blue."""
    read = functools.partial(_read_channels, context=context, table=sides.class_table(context), weights=(256, 1))
    return sides.Side(str(path), _sources(path, PNG, context), read)


def arrays(path: pathlib.Path, context: sides.Context) -> sides.Side:
    """DeepLab2's arrays `.npy` [H, W, 3]: class, instance, 0."""
    read = functools.partial(_read_array, context=context, table=sides.class_table(context))
    return sides.Side(str(path), _sources(path, NPY, context), read)


def depth_png(path: pathlib.Path, context: sides.Context) -> sides.Side:
    """PNGs of one channel, 16 bits: metres times a scale, 0 where the depth is not known."""
    sources = {name: sides.Source((None, str(path / f"{name}{PNG}"))) for name in _names(path, PNG)}
    return sides.Side(str(path), sources, functools.partial(_read_depth, scale=context.depth_scale))


def read_depth(path: str | pathlib.Path, scale: float) -> np.ndarray:
    """A depth PNG in metres: [H, W] float32."""
    return (sides.read_numbers(pathlib.Path(path)) / scale).astype(np.float32)


def frame_sources(names: list[str], contents: list) -> dict[str, sides.Source]:
    """Sources of videos: the last part of a name is the frame, what stands before it the sequence."""
    found = {}
    for frame, (name, content) in enumerate(zip(names, contents)):
        sequence = name.rpartition("/")[0]
        found[name] = sides.Source(content, sequence or "all", frame)
    return found


def _sources(path: pathlib.Path, ending: str, context: sides.Context) -> dict[str, sides.Source]:
    """The files of a folder and, where the task needs it, their depth."""
    names = _names(path, ending)
    depths: list[str | None] = [None] * len(names)
    if sides.DEPTH in context.kinds:
        if context.depth_folder is None:
            side = "groundtruth" if context.is_truth else "prediction"
            raise ValueError(f"{path}: the task needs depth: name the folder of depth PNGs with --{side}_depth.")
        there = {*_names(context.depth_folder, PNG)}
        missing = [name for name in names if name not in there]
        if missing:
            raise ValueError(
                f"{context.depth_folder}: no depth for {len(missing)} image(s), for example {missing[0]}{PNG}."
            )
        depths = [str(context.depth_folder / f"{name}{PNG}") for name in names]
    return frame_sources(names, [(str(path / f"{name}{ending}"), depth) for name, depth in zip(names, depths)])


def _names(path: pathlib.Path, ending: str) -> list[str]:
    """Relative names without their ending; frames that are numbers stand in their order."""
    names = [file.as_posix()[: -len(ending)] for file in sides.tree(path, [ending])]

    def place(name: str) -> tuple:
        folder, _, frame = name.rpartition("/")
        return folder, not frame.isdecimal(), int(frame) if frame.isdecimal() else 0, frame

    return sorted(names, key=place)


def _read_classes(source: sides.Source, *, context: sides.Context, table: np.ndarray) -> sides.Maps:
    path = pathlib.Path(source.content[0])
    return {sides.SEMANTIC: sides.classes_of(sides.read_numbers(path), context, table, path)}


def _read_channels(
    source: sides.Source, *, context: sides.Context, table: np.ndarray, weights: tuple[int, int]
) -> sides.Maps:
    path, depth = source.content
    pixels = sides.read_picture(pathlib.Path(path), ("RGB",), "a PNG of three channels, class and instance")
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    if not weights[1] and blue.any():
        raise ValueError(f"{path}: the blue channel is not 0: expected --format=step for instances above 255.")
    classes = sides.classes_of(red, context, table, path)
    return _with_depth(classes, green * weights[0] + blue * weights[1], depth, path, context)


def _read_array(source: sides.Source, *, context: sides.Context, table: np.ndarray) -> sides.Maps:
    path, depth = source.content
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as an array ({error}).") from error
    if values.ndim != 3 or values.shape[2] not in (2, 3) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"{path}: expected integers [H, W, 3] (class, instance, 0), got {values.dtype} {values.shape}."
        )
    classes = sides.classes_of(values[..., 0], context, table, path)
    return _with_depth(classes, values[..., 1].astype(np.int64), depth, path, context)


def _read_depth(source: sides.Source, *, scale: float) -> sides.Maps:
    return {sides.DEPTH: read_depth(source.content[1], scale)}


def _with_depth(
    classes: np.ndarray, instances: np.ndarray, depth: str | None, path: str, context: sides.Context
) -> sides.Maps:
    instances = np.where(classes == context.dataset.ignore_label, 0, instances)
    maps = {sides.PANOPTIC: sides.pack(classes, instances, context.dataset, path)}
    return maps if depth is None else {**maps, sides.DEPTH: read_depth(depth, context.depth_scale)}
