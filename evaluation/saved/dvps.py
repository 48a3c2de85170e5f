"""The files of Cityscapes-DVPS and SemKITTI-DVPS, all in one folder: `<sequence>_<frame>[_...]_<what>.png`.

`gtFine_instanceTrainIds` holds panoptic labels, in one channel (class * 1000 + instance) or three (as in STEP);
`gtFine_class` with `gtFine_instance`, `class` with `instance`, or `cat` with `ins` hold both apart. `depth`, or
`depth_` with a focal length behind it, is 16 bits: metres * 256.
"""

from __future__ import annotations

import functools
import pathlib
import re

import numpy as np

from evaluation.saved import label_files, sides

_PANOPTIC = "_gtFine_instanceTrainIds"
_PARTS = (("_gtFine_class", "_gtFine_instance"), ("_class", "_instance"), ("_cat", "_ins"))
_NAME = re.compile(r"(?P<sequence>[^_]+)_(?P<frame>\d+)(?P<rest>_.*)?\.png")
_DEPTH = re.compile(r".*_depth(_[\d.]+)?")
_ONE_CHANNEL_DIVISOR = 1000


def side(path: pathlib.Path, context: sides.Context) -> sides.Side:
    """The frames of a folder.

    Raises:
        ValueError: no folder, a name of another form, or a frame whose files are not all there.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: expected a folder.")
    found: dict[tuple[str, int], dict[str, str]] = {}
    for file in sorted(path.glob("*.png")):
        match = _NAME.fullmatch(file.name)
        if not match:
            raise ValueError(f"{file}: expected <sequence>_<frame>_<what>.png as its name.")
        key = match["sequence"], int(match["frame"])
        found.setdefault(key, {})[match["rest"] or ""] = str(file)
    sources = {}
    for (sequence, frame), endings in sorted(found.items()):
        where = f"{path}, sequence {sequence}, frame {frame}"
        if all(ending.endswith("leftImg8bit") for ending in endings):
            continue  # a picture alone
        labels = _labels(endings)
        if not labels and context.kinds != {sides.DEPTH}:
            raise ValueError(f"{where}: expected *{_PANOPTIC}.png, or *_class.png with *_instance.png (or _cat, _ins).")
        picture = next(
            (
                f"{pathlib.Path(f).stem}".removesuffix("_leftImg8bit")
                for e, f in endings.items()
                if e.endswith("leftImg8bit")
            ),
            "",
        )
        depth = next((file for ending, file in endings.items() if _DEPTH.fullmatch(ending)), None)
        if sides.DEPTH in context.kinds and depth is None:
            raise ValueError(f"{where}: expected *_depth.png.")
        sources[f"{sequence}/{frame:06d}"] = sides.Source(
            (labels, depth if sides.DEPTH in context.kinds else None), sequence, frame, picture
        )
    if not sources:
        raise ValueError(f"{path}: expected files <sequence>_<frame>*{_PANOPTIC}.png or *_class.png, found none.")
    return sides.Side(str(path), sources, functools.partial(_read, context=context, table=sides.class_table(context)))


def _labels(endings: dict[str, str]) -> tuple[str, ...]:
    """The file of panoptic labels, or those of classes and instances; none."""
    for ending, file in endings.items():
        if ending.endswith(_PANOPTIC):
            return (file,)
    for parts in _PARTS:
        files = [next((f for ending, f in endings.items() if ending.endswith(part)), None) for part in parts]
        if all(files):
            return tuple(file for file in files if file)
    return ()


def _read(source: sides.Source, *, context: sides.Context, table: np.ndarray) -> sides.Maps:
    files, depth = source.content
    if context.kinds == {sides.DEPTH}:
        return {sides.DEPTH: label_files.read_depth(depth, context.depth_scale)}
    path = files[0]
    if len(files) == 2:
        classes, instances = (sides.read_numbers(pathlib.Path(file)) for file in files)
        if classes.shape != instances.shape:
            raise ValueError(f"{path}: expected the size of {files[1]}.")
    else:
        pixels = sides.read_picture(pathlib.Path(path), ("RGB", "L", "P", "I"), "a PNG of one or three channels")
        pixels = pixels.astype(np.int32)
        if pixels.ndim == 3:
            classes, instances = pixels[..., 0], pixels[..., 1] * 256 + pixels[..., 2]
        else:
            classes, instances = pixels // _ONE_CHANNEL_DIVISOR, pixels % _ONE_CHANNEL_DIVISOR
    classes = sides.classes_of(classes, context, table, path)
    instances = np.where(classes == context.dataset.ignore_label, 0, instances)
    maps = {sides.PANOPTIC: sides.pack(classes, instances, context.dataset, path)}
    return maps if depth is None else {**maps, sides.DEPTH: label_files.read_depth(depth, context.depth_scale)}
