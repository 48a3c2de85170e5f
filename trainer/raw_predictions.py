"""Label files of predictions, as DeepLab2 writes them: what the official scoring tools read."""

from __future__ import annotations

import pathlib

import numpy as np
from PIL import Image

from deeplab2_kmax import labels, registry
from deeplab2_kmax.data import datasets


class RawPredictions:
    """Writes `raw_semantic/<name>.png` and `raw_panoptic/<name>.{png,npy}` for every image."""

    def __init__(self, folder: pathlib.Path, dataset: datasets.Dataset, *, panoptic_format: str, convert_ids: bool):
        """`convert_ids` writes the data set's evaluation ids instead of the classes that were trained.

        Raises:
            ValueError: unknown format, or a data set without evaluation ids.
        """
        self._folder, self._dataset = folder, dataset
        self._encode = registry.lookup(FORMATS, panoptic_format, "raw_panoptic_format")
        self._ids = np.arange(256)
        if convert_ids:
            if not dataset.eval_ids:
                raise ValueError(
                    f"Data set {dataset.name!r} has no evaluation ids: set evaluator_options.convert_raw_to_eval_ids "
                    "to false."
                )
            self._ids = np.zeros(256, np.int64)
            self._ids[: len(dataset.eval_ids)] = dataset.eval_ids

    def write(self, image_name: str, panoptic: np.ndarray, semantic: np.ndarray, *, sequence: str = "") -> None:
        """Writes the files of one image; `sequence` is its subfolder for video.

        Raises:
            ValueError: a class or instance id that the format cannot hold.
        """
        name = pathlib.Path(sequence) / pathlib.PurePath(image_name).with_suffix("").name
        classes = self._converted(labels.class_of(panoptic, self._dataset.label_divisor))
        encoded = self._encode(classes, labels.instance_of(panoptic, self._dataset.label_divisor))
        if encoded.dtype == np.uint8:
            Image.fromarray(encoded).save(self._path("raw_panoptic", name, ".png"))
        else:
            np.save(self._path("raw_panoptic", name, ".npy"), encoded)
        Image.fromarray(self._converted(semantic).astype(np.uint8)).save(self._path("raw_semantic", name, ".png"))

    def _converted(self, classes: np.ndarray) -> np.ndarray:
        if classes.min(initial=0) < 0 or classes.max(initial=0) > 255:
            raise ValueError(f"Raw files hold classes 0 to 255, found {classes.min()} to {classes.max()}.")
        return self._ids[classes]

    def _path(self, kind: str, name: pathlib.Path, suffix: str) -> pathlib.Path:
        path = self._folder / kind / name.with_name(name.name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _two_channels(classes: np.ndarray, instances: np.ndarray) -> np.ndarray:
    _check_instances(instances, 255, "two_channel_png")
    return np.stack([classes, instances, np.zeros_like(classes)], axis=-1).astype(np.uint8)


def _three_channels(classes: np.ndarray, instances: np.ndarray) -> np.ndarray:
    _check_instances(instances, 65535, "three_channel_png")
    return np.stack([classes, instances // 256, instances % 256], axis=-1).astype(np.uint8)


def _array(classes: np.ndarray, instances: np.ndarray) -> np.ndarray:
    return np.stack([classes, instances, np.zeros_like(classes)], axis=-1).astype(np.int32)


def _check_instances(instances: np.ndarray, largest: int, name: str) -> None:
    if instances.max(initial=0) > largest:
        raise ValueError(f"{name} holds instance ids up to {largest}, found {instances.max()}.")


FORMATS = {
    "two_channel_png": _two_channels,
    "three_channel_png": _three_channels,
    "two_channel_numpy_array": _array,
}
