"""Makes STEP's panoptic maps from class maps and MOTS instance maps, as the maps of KITTI-STEP were made.

    python -m deeplab2_kmax.data.convert.step_maps --dataset=kitti --class_maps=semantic/train \
        --instance_maps=instances --output_dir=kitti-step/panoptic_maps/train

--class_maps holds `<sequence>/<frame>.png` with Cityscapes' train ids, 255 for void. --instance_maps holds files of the
same names, 16 bit: kind * 1000 + track with kind 1 for cars and 2 for people, and 10000 for regions to ignore.

Class maps and instance maps never agree at the borders. So pixels of class car within 7 pixels of a car's mask that are
not in any mask become void, and likewise people.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from deeplab2_kmax.data.convert import command, files, panoptic_png, progress

VOID = 255
CLASS_OF_KIND = {1: 13, 2: 11}  # car, person
BOX = 15  # pixels, of the dilation
DATASETS = ("kitti", "motchallenge")

# MOTChallenge-STEP: classes that hardly occur in its scenes join another one or void, the others count from 0.
_MERGED = {0: 1, 9: 8, **dict.fromkeys((3, 4, 5, 6, 7, 13, 14, 15, 16, 17), VOID)}
MOTCHALLENGE_CLASSES = (1, 2, 8, 10, 11, 12, 18)

_FLAGS = flags.FlagValues()
flags.DEFINE_enum("dataset", "kitti", DATASETS, "Whose classes the maps have.", flag_values=_FLAGS)
flags.DEFINE_string("class_maps", None, "Folder of <sequence>/<frame>.png, Cityscapes' train ids.", flag_values=_FLAGS)
flags.DEFINE_string("instance_maps", None, "Folder of <sequence>/<frame>.png, MOTS ids.", flag_values=_FLAGS)
flags.DEFINE_string("output_dir", None, "Folder for <sequence>/<frame>.png; made if missing.", flag_values=_FLAGS)
flags.DEFINE_integer("num_processes", 0, "Processes; 0: one per processor core.", lower_bound=0, flag_values=_FLAGS)


class Item(NamedTuple):
    """One map to make."""

    classes: str
    instances: str
    output: str
    dataset: str


def merge(classes: np.ndarray, instances: np.ndarray, dataset: str = "kitti") -> tuple[np.ndarray, np.ndarray]:
    """The class and the instance (0: none) of every pixel.

    Args:
        classes: [H, W] int32, Cityscapes' train ids or 255.
        instances: [H, W] int32, kind * 1000 + track.
        dataset: one of DATASETS.

    Raises:
        ValueError: values that are not of these kinds.
    """
    if classes.shape != instances.shape:
        raise ValueError(f"the class map has {list(classes.shape)} pixels, the instance map {list(instances.shape)}")
    panoptic_png.check_classes(classes, num_classes=19, ignore_label=VOID, where="class map")
    kinds = instances // 1000
    present = set(np.flatnonzero(np.bincount(kinds.ravel())).tolist())
    known = {0, 10, 2} if dataset == "motchallenge" else {0, 10, *CLASS_OF_KIND}
    if strange := present - known:
        raise ValueError(f"instance map: kind {min(strange)} (value // 1000) is none of {sorted(known - {0, 10})}")
    masks = {class_id: kinds == kind for kind, class_id in CLASS_OF_KIND.items() if kind in present}
    if any(np.any(instances[mask] % 1000 == 999) for mask in masks.values()):
        raise ValueError("instance map: track 999 does not fit below the label divisor 1000")
    if dataset == "motchallenge":
        classes = _renumber(classes, _MERGED)
    merged = classes.copy()
    for class_id, mask in masks.items():
        merged[_dilate(mask) & ~mask & (classes == class_id)] = VOID
    ids = np.zeros_like(classes)
    for class_id, mask in masks.items():
        merged[mask] = class_id
        ids[mask] = instances[mask] % 1000 + 1
    if dataset == "motchallenge":
        merged = _renumber(merged, {class_id: k for k, class_id in enumerate(MOTCHALLENGE_CLASSES)})
    return merged, ids


def _renumber(classes: np.ndarray, numbers: dict[int, int]) -> np.ndarray:
    table = np.arange(256, dtype=classes.dtype)
    table[list(numbers)] = list(numbers.values())
    return table[classes]


def _dilate(mask: np.ndarray) -> np.ndarray:
    """True where a box of BOX x BOX pixels around a pixel meets the mask."""
    mask = np.pad(mask, BOX // 2)
    for _ in range(2):  # along the columns, then, transposed, along the rows
        width = 1
        while width < BOX:  # pixel k tells of pixels k to k + width - 1
            step = min(width, BOX - width)
            mask = mask[:-step] | mask[step:]
            width += step
        mask = mask.T
    return mask


def make(item: Item) -> None:
    """Makes one map."""
    try:
        classes, instances = merge(files.read_integers(item.classes), files.read_integers(item.instances), item.dataset)
    except ValueError as error:
        raise ValueError(f"{item.classes}, {item.instances}: {error}") from error
    os.makedirs(os.path.dirname(item.output), exist_ok=True)
    panoptic_png.write(item.output, classes, instances)


def items(class_maps: pathlib.Path, instance_maps: pathlib.Path, output: pathlib.Path, dataset: str) -> list[Item]:
    """The maps to make, in order of their paths.

    Raises:
        ValueError: no class maps, or one without an instance map.
    """
    found = []
    for path in sorted(class_maps.glob("*/*.png")):
        place = path.relative_to(class_maps)
        if not (instance_maps / place).is_file():
            raise ValueError(f"{path}: its instance map {instance_maps / place} is missing.")
        found.append(Item(str(path), str(instance_maps / place), str(output / place), dataset))
    if not found:
        raise ValueError(f"{class_maps} holds no <sequence>/<frame>.png.")
    return found


def convert(values: flags.FlagValues) -> str:
    """Makes all maps."""
    class_maps = files.folder(values.class_maps, "class_maps")
    instance_maps = files.folder(values.instance_maps, "instance_maps")
    output = pathlib.Path(values.output_dir)
    for given in (class_maps, instance_maps):
        if output.resolve() == given.resolve():
            raise ValueError(f"--output_dir: {output} holds the input; name another folder")
    found = items(class_maps, instance_maps, output, values.dataset)
    shown = progress.Progress("maps", len(found))
    num_processes = min(values.num_processes or os.cpu_count() or 1, len(found))
    if num_processes == 1:
        for done, item in enumerate(found, start=1):
            make(item)
            shown.show(done)
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(num_processes, mp_context=context) as executor:
            for done, _ in enumerate(executor.map(make, found, chunksize=8), start=1):
                shown.show(done)
    shown.show(len(found), end=True)
    return f"{len(found)} maps in {output}"


def main(argv: Sequence[str]) -> int:
    """Runs the program and returns its exit code."""
    return command.call(convert, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
