"""What a run leaves behind to look at: `metrics.jsonl`, and pictures for TensorBoard and for the folder `vis`."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab2_kmax import visualize
from deeplab2_kmax._keras import keras
from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.targets import keys

_LONGEST_SIDE = 1024  # of a picture in TensorBoard


class MetricsFile:
    """`metrics.jsonl`: one JSON object per line, `step`, `mode` and values; lines are only ever added.

    A run that was killed goes on from its last checkpoint, so steps after it may occur twice: the later line counts.
    Values that are not finite are null.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = pathlib.Path(path)

    def append(self, step: int, mode: str, values: Mapping[str, float]) -> None:
        """Adds a line."""
        numbers = {name: float(value) for name, value in values.items()}
        record = {"step": step, "mode": mode}
        record.update({name: value if math.isfinite(value) else None for name, value in numbers.items()})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a+b") as file:
            if file.tell() and not self._ends_with_newline():
                file.write(b"\n")  # a kill cut the last line off
            file.write(json.dumps(record).encode() + b"\n")

    def _ends_with_newline(self) -> bool:
        with open(self._path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def pictures(
    dataset: datasets.Dataset,
    image: np.ndarray,
    *,
    panoptic_prediction: np.ndarray | None = None,
    panoptic_label: np.ndarray | None = None,
    semantic_prediction: np.ndarray | None = None,
    semantic_label: np.ndarray | None = None,
    center_prediction: np.ndarray | None = None,
    depth_prediction: np.ndarray | None = None,
    depth_label: np.ndarray | None = None,
    clusters: Sequence[np.ndarray] = (),
) -> dict[str, np.ndarray]:
    """Coloured pictures [H, W, 3] uint8 by name, of an image [H, W, 3] and its maps [H, W].

    `semantic_error` is 255 where the class is wrong and not void; `center_prediction` lays the heat map over the image
    in red; depth is brighter where it is nearer, and black where it is unknown; `clusters_<i>` shows which cluster each
    pixel chose in the i-th block of the transformer decoder.
    """
    shown = {"image": np.clip(np.round(image), 0, 255).astype(np.uint8)}
    for name, panoptic in (("panoptic_prediction", panoptic_prediction), ("panoptic_label", panoptic_label)):
        if panoptic is not None:
            shown[name] = visualize.panoptic_colors(
                panoptic, colors=dataset.colors, thing_ids=dataset.thing_ids, label_divisor=dataset.label_divisor
            )
    for name, semantic in (("semantic_prediction", semantic_prediction), ("semantic_label", semantic_label)):
        if semantic is not None:
            shown[name] = visualize.semantic_colors(semantic, dataset.colors)
    if semantic_prediction is not None and semantic_label is not None:
        wrong = (semantic_prediction != semantic_label) & (semantic_label != dataset.ignore_label)
        shown["semantic_error"] = np.repeat(np.uint8(255) * wrong[..., np.newaxis], 3, axis=-1)
    if center_prediction is not None:
        heat = np.clip(center_prediction, 0.0, 1.0)[..., np.newaxis]
        shown["center_prediction"] = ((1.0 - heat) * shown["image"] + heat * [255, 0, 0]).astype(np.uint8)
    for name, depth in (("depth_prediction", depth_prediction), ("depth_label", depth_label)):
        if depth is not None:
            shown[name] = visualize.depth_picture(depth)
    size = (shown["image"].shape[0], shown["image"].shape[1])
    for index, assignment in enumerate(clusters):
        shown[f"clusters_{index}"] = visualize.resize_nearest(visualize.cluster_colors(assignment), size)
    return shown


class SamplePictures:
    """Pictures of one training sample as the weights see it now, for runs without evaluation."""

    def __init__(self, model: keras.Model, dataset: datasets.Dataset, data: Callable[[], tf.data.Dataset]):
        """`data` gives training batches; it is asked once, at the first picture."""
        cluster_maps = getattr(model, "cluster_maps", lambda images: [])  # of mask transformers
        self._predict = tf.function(
            lambda images: (model(images, training=False).maps._asdict(), cluster_maps(images)), autograph=False
        )
        self._dataset, self._data = dataset, data
        self._sample: dict[str, tf.Tensor] | None = None

    def write(self, step: int) -> None:
        """Writes to the default TensorBoard writer."""
        if self._sample is None:
            self._sample = {key: value[:1] for key, value in next(iter(self._data())).items()}
        sample = self._sample
        maps, clusters = self._predict(sample[keys.IMAGE])
        shown = pictures(
            self._dataset,
            sample[keys.IMAGE][0, ..., :3].numpy(),  # of video, the frame that the labels are of
            panoptic_prediction=maps["panoptic"][0].numpy() if "panoptic" in maps else None,
            semantic_prediction=None if "panoptic" in maps else maps["semantic"][0].numpy(),
            panoptic_label=sample[keys.PANOPTIC][0].numpy(),
            clusters=[assignment[0].numpy() for assignment in clusters],
        )
        write_pictures(shown, step=step, number=0)


def write_pictures(shown: Mapping[str, np.ndarray], *, step: int, number: int, names: Sequence[str] = ()) -> None:
    """Writes pictures to the default TensorBoard writer as `<name>/<number>`; those in `names`, or all."""
    for name, picture in shown.items():
        if names and not name.startswith(tuple(names)):
            continue
        height, width = picture.shape[:2]
        shrink = max(height, width) / _LONGEST_SIDE
        if shrink > 1:
            picture = visualize.resize_nearest(picture, (int(height / shrink), int(width / shrink)))
        tf.summary.image(f"{name}/{number}", picture[np.newaxis], step=step)


def save_pictures(shown: Mapping[str, np.ndarray], folder: pathlib.Path, *, number: int) -> None:
    """Writes pictures as `<number>_<name>.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in shown.items():
        Image.fromarray(picture).save(folder / f"{number:06d}_{name}.png")
