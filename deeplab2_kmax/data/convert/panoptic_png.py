"""Label PNGs with the class in red and the instance in green * 256 + blue, as STEP and its relatives publish them."""

from __future__ import annotations

import os
import tempfile

import numpy as np
from PIL import Image

from deeplab2_kmax.data.convert import files

MAX_INSTANCE = 65535


def read(path: str, *, label_divisor: int, num_classes: int, ignore_label: int) -> np.ndarray:
    """Panoptic ids of a label PNG: [H, W] int32, red * label_divisor + green * 256 + blue.

    Raises:
        ValueError: it cannot be read, or holds a class or an instance that the data set does not have.
    """
    red, green, blue = np.moveaxis(files.read_map(path, channels=3).astype(np.int32), -1, 0)
    instances = green * 256 + blue
    check_instances(instances, label_divisor=label_divisor, where=path)
    check_classes(red, num_classes=num_classes, ignore_label=ignore_label, where=path)
    return red * label_divisor + instances


def read_one_channel(path: str, *, label_divisor: int, num_classes: int, ignore_label: int) -> np.ndarray:
    """Panoptic ids of a label PNG of one channel whose values are class * label_divisor + instance: [H, W] int32.

    Raises:
        ValueError: as `read`.
    """
    label = files.read_integers(path)
    check_classes(label // label_divisor, num_classes=num_classes, ignore_label=ignore_label, where=path)
    return label


def read_two_files(
    class_path: str, instance_path: str, *, label_divisor: int, num_classes: int, ignore_label: int
) -> np.ndarray:
    """Panoptic ids from a PNG of classes and one of instances: [H, W] int32.

    Raises:
        ValueError: as `read`, or two sizes.
    """
    classes, instances = files.read_integers(class_path), files.read_integers(instance_path)
    if classes.shape != instances.shape:
        raise ValueError(f"{class_path} has {list(classes.shape)} pixels, but {instance_path} {list(instances.shape)}")
    check_classes(classes, num_classes=num_classes, ignore_label=ignore_label, where=class_path)
    check_instances(instances, label_divisor=label_divisor, where=instance_path)
    return classes * label_divisor + instances


def check_classes(classes: np.ndarray, *, num_classes: int, ignore_label: int, where: str) -> None:
    """Refuses a map with a class that is neither below num_classes nor the ignore label."""
    strange = classes[(classes != ignore_label) & ((classes < 0) | (classes >= num_classes))]
    if strange.size:
        raise ValueError(
            f"{where}: expected classes 0 to {num_classes - 1} and {ignore_label} for void, found {strange[0]}"
        )


def check_instances(instances: np.ndarray, *, label_divisor: int, where: str) -> None:
    """Refuses a map with an instance that would change the class."""
    if instances.min(initial=0) < 0 or instances.max(initial=0) >= label_divisor:
        raise ValueError(
            f"{where}: expected instances 0 to {label_divisor - 1}, below the label divisor, found {instances.max()}"
        )


def write(path: str, classes: np.ndarray, instances: np.ndarray) -> None:
    """Writes a label PNG, under a temporary name first; classes below 256, instances up to MAX_INSTANCE."""
    assert min(classes.min(), instances.min()) >= 0 and classes.max() < 256 and instances.max() <= MAX_INSTANCE
    pixels = np.stack([classes, instances // 256, instances % 256], axis=-1).astype(np.uint8)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as file:
            Image.fromarray(pixels).save(file, "PNG")
        os.chmod(temporary, 0o644)  # temporary files are private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
