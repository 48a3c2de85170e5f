"""Frames in, predictions with ids that hold through the video out: models of video, and models of pictures with tracks.

Whatever the length of a video, what is kept is the state of the model or of the tracker, and a frame or two.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab2_kmax import architectures
from deeplab2_kmax.models import video
from deeplab2_kmax.postprocess import iou_tracking
from deeplab2_kmax.protos import config_pb2
from deeplab2_kmax.serving import classes, images, network, predictor, video_network
from deeplab2_kmax.serving.prediction import Prediction

_COUNT, _SIZE, _WAITING, _KIND = "frames", "size", "waiting", "kind"
_STORED = {tf.bfloat16: tf.uint16}  # NumPy's files know no bfloat16
_STATE = "state."  # before the names of the state's own arrays


class VideoPredictor:
    """`VideoPredictor(saved_model_dir).stream(frames)` -> a Prediction for each frame, in order.

    Models of video carry ids on by themselves. The instances of models of pictures become tracks by their overlap
    (postprocess/iou_tracking.py). Frame by frame, `predictor(frame)` does the same: it answers for the frame `delay`
    before, None as long as there is none, and `finish()` answers for the last one.
    """

    def __init__(
        self,
        saved_model_dir: str | os.PathLike[str],
        *,
        dataset: str | None = None,
        pixel_limit: int = images.PIXEL_LIMIT,
    ):
        """Loads an exported model; the arguments are those of Predictor.

        Raises:
            ValueError: no SavedModel, not one that takes pictures, or classes that are not known.
        """
        folder = pathlib.Path(saved_model_dir)
        delay = None
        if (folder / classes.FILE).is_file():
            table, content = classes.read(folder)
            delay = content.get("video_delay")
        if delay is None:
            pictures = predictor.Predictor(folder, dataset=dataset, pixel_limit=pixel_limit)
            self._set(_Tracked(pictures), pictures.classes, pixel_limit)
        elif dataset is not None:
            raise ValueError(f"{folder} knows its classes, those of {table.dataset}: leave the data set out.")
        else:
            predictor.check(folder)
            functions = video_network.Functions(predictor.load(folder), delay=delay)
            self._set(_Stepping(functions, table), table, pixel_limit)

    @classmethod
    def from_config(
        cls,
        config: config_pb2.ExperimentOptions,
        checkpoint: str | os.PathLike[str],
        *,
        precision: str = "float32",
        pixel_limit: int = images.PIXEL_LIMIT,
    ) -> VideoPredictor:
        """The same without an export: builds the model of a resolved config and loads a checkpoint, ours or DeepLab2's.

        Raises:
            ValueError: the config does not say enough, or a variable is missing in the checkpoint.
        """
        model = network.load_model(config, checkpoint, precision=precision)
        found = cls.__new__(cls)
        table = classes.ClassTable.of(architectures.dataset_of(config))
        if isinstance(model, video.VideoModel):
            functions = video_network.Functions(video_network.VideoNetwork(model, config), delay=model.delay)
            found._set(_Stepping(functions, table), table, pixel_limit)
        else:
            pictures = predictor.Predictor.of_model(model, config, pixel_limit=pixel_limit)
            found._set(_Tracked(pictures), table, pixel_limit)
        return found

    def _set(self, engine: _Tracked | _Stepping, table: classes.ClassTable, pixel_limit: int) -> None:
        self._engine, self.classes, self.pixel_limit = engine, table, pixel_limit
        self.reset()

    @property
    def delay(self) -> int:
        """How many frames later the answer for a frame comes."""
        return self._engine.delay

    @property
    def pictures(self) -> predictor.Predictor | None:
        """The model of pictures whose instances become tracks; None: it is a model of video."""
        return self._engine.pictures if isinstance(self._engine, _Tracked) else None

    def reset(self) -> None:
        """The next frame is the first one of another video."""
        self._engine.reset()
        self._count = 0
        self._size: tuple[int, int] | None = None
        self._waiting: collections.deque[np.ndarray] = collections.deque()

    def __call__(self, frame: images.Source) -> Prediction | None:
        """Takes the next frame, a path, bytes or an array as Predictor does.

        Returns:
            The prediction for the frame `delay` before, or None.

        Raises:
            ValueError: the frame is broken, too large, not of the size of the frames before, or its instances are more
                than the label divisor has ids for. It is as if it had not come: the next one can follow.
        """
        image = images.read(frame, pixel_limit=self.pixel_limit)
        size = (image.shape[0], image.shape[1])
        if self._size is not None and size != self._size:
            raise ValueError(
                f"{_name(frame)}: expected a frame of {self._size[1]}x{self._size[0]} as those before, found "
                f"{size[1]}x{size[0]}: call reset() where another video begins."
            )
        found = self._engine.step(image, self._waiting[0] if self._count >= self.delay > 0 else image)
        self._size = size
        self._count += 1
        if not self.delay:
            return found
        self._waiting.append(image)
        if self._count <= self.delay:
            return None
        self._waiting.popleft()
        return found

    def finish(self) -> Prediction | None:
        """Ends the video: the prediction for its last frame, None if that has been given. Then as after `reset()`."""
        found = self._engine.finish(self._waiting[0]) if self._waiting else None
        self.reset()
        return found

    def stream(self, frames: Iterable[images.Source]) -> Iterator[Prediction]:
        """The predictions for all frames of a video, one each, as they come; an earlier video is forgotten.

        Raises:
            ValueError: one path in the place of several frames, or a frame that is no picture or of another size.
        """
        if isinstance(frames, (str, bytes, os.PathLike)):
            named = "bytes" if isinstance(frames, bytes) else repr(os.fspath(frames))
            raise ValueError(f"expected frames one after the other, as a list of paths or arrays, got {named} alone")
        self.reset()
        for frame in frames:
            found = self(frame)
            if found is not None:
                yield found
        last = self.finish()
        if last is not None:
            yield last

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything that the next frame needs to a file (.npz), for a later `load` with the same model."""
        arrays = {
            _KIND: np.array(self._engine.kind),
            _COUNT: np.array(self._count),
            _SIZE: np.array(self._size or (0, 0)),
            _WAITING: np.array(list(self._waiting), np.uint8),
            **{_STATE + name: value for name, value in self._engine.state().items()},
        }
        unfinished = pathlib.Path(f"{os.fspath(path)}.tmp")
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **arrays)
        unfinished.replace(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Goes on where `save` was called.

        Raises:
            ValueError: no such file, or not one of this kind of model and its sizes.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            kind = str(arrays.pop(_KIND))
            count, size = int(arrays.pop(_COUNT)), arrays.pop(_SIZE)
            waiting = list(arrays.pop(_WAITING))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: expected a file that VideoPredictor.save wrote, found {error!r}.") from None
        if kind != self._engine.kind:
            raise ValueError(f"{path}: the state is of {kind}, this is {self._engine.kind}.")
        self._engine.restore({name[len(_STATE) :]: value for name, value in arrays.items()}, os.fspath(path))
        self._count, self._size = count, (int(size[0]), int(size[1])) if count else None
        self._waiting = collections.deque(waiting)


class _Tracked:
    """A model of pictures, with tracks by overlap."""

    delay = 0
    kind = "tracks by overlap"

    def __init__(self, pictures: predictor.Predictor):
        self.pictures = pictures
        table = pictures.classes
        self._tracker = iou_tracking.IoUTracker(
            iou_tracking.Rules(table.thing_ids, table.label_divisor, reuse_ids=True)
        )

    def reset(self) -> None:
        self._tracker.reset()

    def step(self, image: np.ndarray, about: np.ndarray) -> Prediction:
        found = self.pictures(image)
        return dataclasses.replace(found, panoptic=self._tracker(found.panoptic), of_video=True)

    def state(self) -> dict[str, np.ndarray]:
        return self._tracker.state()

    def restore(self, state: dict[str, np.ndarray], path: str) -> None:
        if sorted(state) != sorted(self._tracker.state()):
            raise ValueError(f"{path}: expected a file that VideoPredictor.save wrote.")
        self._tracker.restore(state)

    def finish(self, about: np.ndarray) -> Prediction:
        raise AssertionError("no answer comes late")


class _Stepping:
    """A model of video, with its own state."""

    kind = "a model of video"

    def __init__(self, functions: video_network.Functions, table: classes.ClassTable):
        self._functions, self._table = functions, table
        self.delay = functions.delay

    def reset(self) -> None:
        self._state: list[Any] = self._functions.start()

    def step(self, image: np.ndarray, about: np.ndarray) -> Prediction:
        try:
            maps, self._state = self._functions.step(image, self._state)
        except tf.errors.InvalidArgumentError as error:  # an assertion of the model, about ids that do not fit
            raise ValueError(_assertion(error.message)) from None
        return self._prediction(about, maps)

    def finish(self, about: np.ndarray) -> Prediction:
        size = (about.shape[0], about.shape[1])
        return self._prediction(about, self._functions.finish(size, self._state))

    def _prediction(self, about: np.ndarray, maps: dict[str, tf.Tensor]) -> Prediction:
        return dataclasses.replace(predictor.to_prediction(about, maps, self._table), of_video=True)

    def state(self) -> dict[str, np.ndarray]:
        return {video_network.state_name(index): _stored(part).numpy() for index, part in enumerate(self._state)}

    def restore(self, state: dict[str, np.ndarray], path: str) -> None:
        expected = self._functions.specs()
        names = [video_network.state_name(index) for index in range(len(expected))]
        if sorted(state) != names or not all(
            state[name].dtype == _STORED.get(spec.dtype, spec.dtype).as_numpy_dtype
            and spec.shape.is_compatible_with(state[name].shape)
            for name, spec in zip(names, expected)
        ):
            raise ValueError(f"{path}: the state is of another model, or of one with another size of images.")
        self._state = [
            tf.bitcast(tf.constant(state[name]), spec.dtype) if spec.dtype in _STORED else tf.constant(state[name])
            for name, spec in zip(names, expected)
        ]


def _assertion(message: str) -> str:
    """What an assertion within a graph says, in one line; TensorFlow lays the places of its code around it."""
    said = re.search(r"assertion failed: \[([^\]]*)\]", message)
    return said[1] if said else " ".join(message.split())


def _stored(part: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(part, _STORED[part.dtype]) if part.dtype in _STORED else part


def _name(frame: images.Source) -> str:
    return os.fspath(frame) if isinstance(frame, (str, os.PathLike)) else "frame"
