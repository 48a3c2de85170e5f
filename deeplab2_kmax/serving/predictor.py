"""Picture in, panoptic prediction out: an exported model, or a config with its checkpoint."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab2_kmax import architectures, labels
from deeplab2_kmax._keras import keras
from deeplab2_kmax.data import datasets
from deeplab2_kmax.models import video
from deeplab2_kmax.protos import config_pb2
from deeplab2_kmax.serving import classes, images, network, video_network
from deeplab2_kmax.serving.prediction import Prediction

_NEEDED = ("semantic_pred", "semantic_scores")


class Predictor:
    """`Predictor(saved_model_dir)(picture)` -> Prediction, with `.panoptic`, `.segments`, `.draw()`, `.save(dir)`.

    A picture is a path, the bytes of an image file, or an array [H, W, 3] with values 0..255.
    """

    def __init__(
        self,
        saved_model_dir: str | os.PathLike[str],
        *,
        dataset: str | None = None,
        pixel_limit: int = images.PIXEL_LIMIT,
    ):
        """Loads an exported model.

        Args:
            saved_model_dir: folder that `trainer/export_model.py` wrote.
            dataset: name of the data set whose classes the model predicts, for a model that another program exported.
            pixel_limit: larger pictures are refused.

        Raises:
            ValueError: no SavedModel, not one that takes pictures, or classes that are not known.
        """
        folder = pathlib.Path(saved_model_dir)
        check(folder)
        table = classes.ClassTable.of(datasets.lookup(dataset)) if dataset else classes.read(folder)[0]
        loaded = load(folder)
        if "serving_default" not in loaded.signatures:
            raise ValueError(f"{folder} has no signature serving_default.")
        signature = loaded.signatures["serving_default"]
        missing = [name for name in _NEEDED if name not in signature.structured_outputs]
        spec = signature.structured_input_signature[1].get("input_tensor")
        if missing or spec is None:
            raise ValueError(
                f"{folder}: expected an input input_tensor and outputs {', '.join(_NEEDED)}; "
                f"found {sorted(signature.structured_input_signature[1])} and {sorted(signature.structured_outputs)}."
            )

        def run(image: np.ndarray) -> dict[str, tf.Tensor]:
            if spec.dtype == tf.string:
                return signature(input_tensor=tf.io.encode_png(image))
            return signature(input_tensor=tf.constant(image if spec.shape.rank == 3 else image[np.newaxis]))

        self._loaded = loaded  # a signature lives only as long as what it was loaded with
        self._set(run, table, pixel_limit)

    @classmethod
    def from_config(
        cls,
        config: config_pb2.ExperimentOptions,
        checkpoint: str | os.PathLike[str],
        *,
        precision: str = "float32",
        pixel_limit: int = images.PIXEL_LIMIT,
    ) -> Predictor:
        """The same without an export: builds the model of a resolved config and loads a checkpoint, ours or DeepLab2's.

        Raises:
            ValueError: the config does not say enough, or a variable is missing in the checkpoint.
        """
        model = network.load_model(config, checkpoint, precision=precision)
        return cls.of_model(model, config, pixel_limit=pixel_limit)

    @classmethod
    def of_model(
        cls, model: keras.Model, config: config_pb2.ExperimentOptions, *, pixel_limit: int = images.PIXEL_LIMIT
    ) -> Predictor:
        """The same of a model in memory, as `network.load_model` gives it. A model of video sees single frames."""
        if isinstance(model, video.VideoModel):
            serve = video_network.VideoNetwork(model, config).still
        else:
            served = network.Network(model, config)
            serve = tf.function(
                lambda image: network.serve(served, config.eval_dataset_options, image[tf.newaxis]),
                input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
                autograph=False,
            )
        predictor = cls.__new__(cls)
        predictor._set(serve, classes.ClassTable.of(architectures.dataset_of(config)), pixel_limit)
        return predictor

    def _set(self, run: Callable[[np.ndarray], dict[str, Any]], table: classes.ClassTable, pixel_limit: int) -> None:
        self._run = run
        self.classes = table
        self.pixel_limit = pixel_limit

    def __call__(self, picture: images.Source) -> Prediction:
        """Predicts one picture.

        Raises:
            ValueError: the picture is broken, no picture, or too large; one line.
        """
        image = images.read(picture, pixel_limit=self.pixel_limit)
        return to_prediction(image, self._run(image), self.classes)


def check(folder: pathlib.Path) -> None:
    """Raises a ValueError if a folder holds no SavedModel."""
    if not (folder / "saved_model.pb").is_file():
        raise ValueError(f"{folder} is no SavedModel: expected a folder that trainer/export_model.py wrote.")


def load(folder: pathlib.Path) -> Any:
    """What tf.saved_model.load gives.

    Raises:
        ValueError: files are missing, cut off or changed.
    """
    try:
        return tf.saved_model.load(str(folder))
    except (OSError, IndexError, tf.errors.OpError) as error:  # all of these come of damaged files
        text = " ".join(str(error).split())
        raise ValueError(f"{folder}: the SavedModel is damaged, copy or export it again. {text}") from None


def to_prediction(image: np.ndarray, maps: Mapping[str, tf.Tensor], table: classes.ClassTable) -> Prediction:
    """The prediction for an image from the maps that a network served for it."""
    found = {name: value.numpy()[0] for name, value in maps.items() if name in network.VIDEO_MAPS}
    return Prediction(
        image=image,
        # Without instances every class is one segment.
        panoptic=found.get("panoptic_pred", labels.pack(found["semantic_pred"], 0, table.label_divisor)),
        semantic=found["semantic_pred"],
        semantic_scores=found["semantic_scores"],
        instance_scores=found.get("instance_scores", np.ones_like(found["semantic_scores"])),
        classes=table,
        depth=found["depth_pred"][..., 0] if "depth_pred" in found else None,
    )
