"""NYUD-v2, indoor scenes with 40 classes, depth and surface normals -> TFRecords for `nyud_v2`.

    python -m deeplab2_kmax.data.convert.nyud_v2 --nyud_root=nyud --output_dir=records

expects one folder per kind of map, and the names of a split's images, one per line:

    images/<name>.{png,jpg}   RGB
    labels/<name>.png         8 bit: classes 1 to 40, 0 for void
    depths/<name>.png         16 bit: millimetres (another unit: --depth_scale), 0 for none
    normals/<name>.png        RGB: (component + 1) / 2 * 255 for x, y, z, black or middle grey for none; may be left out
    {train,test}.txt

or the files as published, of which the second and the third need SciPy to be read:

    python -m deeplab2_kmax.data.convert.nyud_v2 --labeled_mat=nyu_depth_v2_labeled.mat --splits_mat=splits.mat
        --class_map_mat=classMapping40.mat --normals_dir=normals --output_dir=records

Images are then named 00001 to 01449; --normals_dir (PNGs as above with these names) may be left out.
"Indoor Segmentation and Support Inference from RGBD Images", Silberman et al., ECCV 2012. Labels have no instances.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import command, files, nyud_v2_mat, writer

NUM_CLASSES = 40
IGNORE_LABEL = 255
LABEL_DIVISOR = 1000
DEPTH_SCALE = 256  # stored depth per metre

_FLAGS = command.new_flags(num_shards=10)
flags.DEFINE_string("nyud_root", "", "Folder of images/, labels/, depths/, normals/.", flag_values=_FLAGS)
flags.DEFINE_float("depth_scale", 1000.0, "Value of a depth PNG per metre.", lower_bound=1e-6, flag_values=_FLAGS)
flags.DEFINE_string("labeled_mat", "", "The data set's own file, instead of --nyud_root.", flag_values=_FLAGS)
flags.DEFINE_string("splits_mat", "", "File with trainNdxs and testNdxs.", flag_values=_FLAGS)
flags.DEFINE_string("class_map_mat", "", "File with mapClass: 894 labels -> 40 classes.", flag_values=_FLAGS)
flags.DEFINE_string("normals_dir", "", "Folder of normals for --labeled_mat.", flag_values=_FLAGS)


class Item(NamedTuple):
    """One image with its maps."""

    name: str
    image: str
    label: str
    depth: str
    normals: str | None

    @property
    def files(self) -> tuple[str, ...]:
        """What it is read from."""
        return tuple(path for path in (self.image, self.label, self.depth, self.normals) if path is not None)


class MatItem(NamedTuple):
    """One image of the data set's own file."""

    name: str
    mat: nyud_v2_mat.Place
    normals: str | None

    @property
    def files(self) -> tuple[str, ...]:
        """What it is read from, besides the file of all images."""
        return () if self.normals is None else (self.normals,)


def items(root: pathlib.Path, split: str) -> list[Item]:
    """The images of a split, in the order of its list.

    Raises:
        ValueError: a file that is missing, or a name that is no plain name or comes twice.
    """
    listing = root / f"{split}.txt"
    names = [line.strip() for line in listing.read_text().splitlines() if line.strip()]
    if len(set(names)) < len(names):
        raise ValueError(f"{listing}: an image is listed twice")
    images = {path.stem: path for path in files.images(root / "images")}
    has_normals = (root / "normals").is_dir()
    found = []
    for name in names:
        if name not in images:
            raise ValueError(f"{listing}: there is no image {root / 'images' / name}.png or .jpg")
        maps = [str(files.inside(root / kind, f"{name}.png", str(listing))) for kind in ("labels", "depths")]
        normals = str(files.inside(root / "normals", f"{name}.png", str(listing))) if has_normals else None
        found.append(Item(name, str(images[name]), maps[0], maps[1], normals))
    return found


def mat_items(
    labeled_mat: pathlib.Path, splits_mat: pathlib.Path, class_map_mat: pathlib.Path, normals_dir: pathlib.Path | None
) -> dict[str, list[MatItem]]:
    """Split -> its images, in the order of their numbers.

    Raises:
        ValueError: a file that is missing or malformed.
    """
    found: dict[str, list[MatItem]] = {}
    for split, numbers in nyud_v2_mat.splits(labeled_mat, splits_mat).items():
        found[split] = []
        for number in numbers:
            name = f"{number:05d}"
            normals = str(files.inside(normals_dir, f"{name}.png", "--normals_dir")) if normals_dir else None
            place = nyud_v2_mat.Place(str(labeled_mat), number, str(class_map_mat))
            found[split].append(MatItem(name, place, normals))
    return found


def encode(item: Item, *, depth_scale: float, label_format: str) -> bytes:
    """Reads an image with its maps and serialises it."""
    depth = files.read_integers(item.depth) / depth_scale
    return example.encode_example(
        pathlib.Path(item.image).read_bytes(),
        panoptic_label(files.read_map(item.label, channels=1), item.label),
        filename=item.name,
        depth=stored_depth(depth),
        normals=read_normals(item.normals) if item.normals else None,
        label_format=label_format,
    )


def encode_mat(item: MatItem, *, label_format: str) -> bytes:
    """Reads an image from the data set's own file and serialises it; the picture becomes a PNG."""
    image, classes, depth = nyud_v2_mat.read(item.mat)
    return example.encode_example(
        image,
        panoptic_label(classes, f"{item.mat.labeled_mat}: image {item.name}"),
        filename=item.name,
        depth=stored_depth(depth),
        normals=read_normals(item.normals) if item.normals else None,
        label_format=label_format,
    )


def panoptic_label(classes: np.ndarray, where: str) -> np.ndarray:
    """Classes 0 to 40 with 0 for void -> [H, W] int32, (class - 1) * 1000 or void."""
    if classes.max(initial=0) > NUM_CLASSES:
        raise ValueError(f"{where}: expected classes 0 to {NUM_CLASSES}, found {classes.max()}")
    ids = np.where(classes == 0, IGNORE_LABEL, classes.astype(np.int32) - 1)
    return (ids * LABEL_DIVISOR).astype(np.int32)


def stored_depth(metres: np.ndarray) -> np.ndarray:
    """Metres -> what records hold; 0 stays, and what is no positive number becomes 0."""
    known = np.isfinite(metres) & (metres > 0)
    return np.rint(np.where(known, metres, 0) * DEPTH_SCALE).astype(np.int32)


def read_normals(path: str) -> np.ndarray:
    """A PNG of normals: [H, W, 3] float32 of length 1, or 0 where the colour is far from that of a unit vector."""
    normals = files.read_map(path, channels=3).astype(np.float32) / 127.5 - 1
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    known = np.abs(lengths - 1) < 0.5
    return np.where(known, normals / np.where(known, lengths, 1), 0).astype(np.float32)


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """Both splits, as far as they are there."""
    if bool(values.nyud_root) == bool(values.labeled_mat):
        raise ValueError("--nyud_root and --labeled_mat are two ways to name the data; set one")
    if values.labeled_mat:
        labeled, splits, class_map = (
            files.file(values[name].value, name) for name in ("labeled_mat", "splits_mat", "class_map_mat")
        )
        normals_dir = files.folder(values.normals_dir, "normals_dir") if values.normals_dir else None
        inputs = [labeled, splits, class_map]
        return [
            command.split(values, split, records, encode_mat, root=labeled.parent, inputs=inputs)
            for split, records in mat_items(labeled, splits, class_map, normals_dir).items()
        ]
    root = files.folder(values.nyud_root, "nyud_root")
    present = [split for split in ("train", "test") if (root / f"{split}.txt").is_file()]
    if not present:
        raise ValueError(f"--nyud_root: {root} holds neither train.txt nor test.txt")
    return [
        command.split(values, split, items(root, split), encode, root=root, depth_scale=values.depth_scale)
        for split in present
    ]


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    return command.run(plan, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
