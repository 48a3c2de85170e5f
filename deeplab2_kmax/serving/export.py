"""Checkpoint -> SavedModel of stock TensorFlow operations, proven in a process that has TensorFlow alone."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab2_kmax import architectures, registry
from deeplab2_kmax import config as configs
from deeplab2_kmax.data import preprocess
from deeplab2_kmax.models import outputs, video
from deeplab2_kmax.protos import config_pb2
from deeplab2_kmax.serving import classes, network, video_network

IMAGE_TENSOR, ENCODED_IMAGE = "image_tensor", "encoded_image"
# The second signature of a model that takes image tensors: the same with float32 images.
FLOAT_SIGNATURE = "float_image"
# Pixels that must have the same class in the model in memory and in the exported one, float32.
_LEAST_AGREEMENT = 0.99

# What a client needs to run an exported model.
_CLIENT = """
import sys
import numpy as np, tensorflow as tf
folder, image, result = sys.argv[1:]
function = tf.saved_model.load(folder).signatures["serving_default"]
given = np.load(image)
encoded = function.structured_input_signature[1]["input_tensor"].dtype == tf.string
given = tf.constant(given.tobytes() if encoded else given)
np.savez(result, **{name: value.numpy() for name, value in function(input_tensor=given).items()})
"""
# The same for a model of video, whose frames come one by one: what it says about the last of them.
_VIDEO_CLIENT = """
import sys
import numpy as np, tensorflow as tf
folder, frames, result = sys.argv[1:]
loaded = tf.saved_model.load(folder)
state, found = dict(loaded.signatures["start"]()), {}
for frame in np.load(frames):
    found = loaded.signatures["step"](input_tensor=tf.constant(frame), **state)
    state = {name: found[name] for name in state}
if "finish" in loaded.signatures:
    found = loaded.signatures["finish"](size=tf.constant(frame.shape[:2]), **state)
np.savez(result, **{name: value.numpy() for name, value in found.items() if name not in state})
"""
_VIDEO_FRAMES = 3


@dataclasses.dataclass(frozen=True)
class Export:
    """What was written, and how far it is from the model in memory."""

    path: pathlib.Path
    megabytes: float
    signature: tuple[str, ...]  # one line per input and output of serving_default
    differences: tuple[str, ...]  # one line per output

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.megabytes:.1f} MB", *self.signature]
        return "\n".join([*lines, "Reloaded in a clean process, against the model in memory:", *self.differences])


def export(
    config: config_pb2.ExperimentOptions,
    checkpoint: str | os.PathLike[str] | None,
    path: str | os.PathLike[str],
    *,
    precision: str = "float32",
    input_type: str = IMAGE_TENSOR,
    batched: bool = False,
    include_logits: bool = False,
    random_weights: bool = False,
) -> Export:
    """Writes a SavedModel with the signature `serving_default`: `input_tensor` -> DeepLab2's output names.

    Models of video have the signatures `start`, `step` and, where an answer comes a frame later, `finish` as well, see
    video_network.py; `serving_default` then takes a picture as the only frame of a video.

    Args:
        config: as `load_config` returns it; sizes are those of `eval_dataset_options`.
        checkpoint: prefix or folder; None only with `random_weights`.
        path: folder to write. An earlier export there is replaced.
        precision: "float32" or "bfloat16".
        input_type: "image_tensor": uint8 [h, w, 3] of any size (a signature `float_image` takes float32 as well);
            "encoded_image": the bytes of a JPEG or PNG file.
        batched: image tensors have a batch axis, [B, h, w, 3].
        include_logits: also give logits and features, of the training-only semantic head too.
        random_weights: without a checkpoint, export the weights the model starts training from.

    Raises:
        ValueError: options that do not go together, a config that cannot be exported, a checkpoint that lacks
            variables, or a path with other files.
        RuntimeError: the exported model does not do what the model in memory does.
    """
    path = pathlib.Path(path)
    registry.lookup({IMAGE_TENSOR: 0, ENCODED_IMAGE: 0}, input_type, "input type")
    if batched and input_type == ENCODED_IMAGE:
        raise ValueError("A batch of encoded images is not possible, because their sizes differ: drop one of the two.")
    if (checkpoint is None) != random_weights:
        raise ValueError("Expected either a checkpoint, or that random weights are asked for explicitly.")
    if path.exists() and not (path / "saved_model.pb").is_file() and any(path.iterdir()):
        raise ValueError(f"{path} holds other files and is no earlier export: name another folder.")

    model = network.load_model(config, checkpoint, precision=precision)
    is_video, more = isinstance(model, video.VideoModel), {}
    served: tf.Module
    if is_video:
        if batched or include_logits or input_type != IMAGE_TENSOR:
            raise ValueError(
                f"{type(model).__name__} is a model of video, whose export takes frames one by one as image tensors "
                "and gives maps: drop batched, include_logits and the input type."
            )
        served = video_network.VideoNetwork(model, config)
        signatures, more = served.signatures(), {"video_delay": model.delay}
    else:
        served = network.Network(model, config, batch_size=None if batched else 1, include_logits=include_logits)
        signatures = _signatures(served, config, input_type, batched)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        new = pathlib.Path(folder, "model")
        tf.saved_model.save(served, str(new), signatures=signatures)
        classes.write(
            new,
            classes.ClassTable.of(architectures.dataset_of(config)),
            config=configs.to_text(config),
            checkpoint=str(checkpoint) if checkpoint is not None else "random weights",
            precision=precision,
            input_type=input_type,
            batched=batched,
            **more,
        )
        compare = (
            functools.partial(_compare_video, model=model)
            if is_video
            else functools.partial(_compare, model=model, input_type=input_type, batched=batched)
        )
        differences = compare(new, config=config, strict=precision == "float32")
        if path.exists():
            shutil.rmtree(path)
        new.rename(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Export(path, size / 1e6, _describe(signatures["serving_default"]), differences)


def _signatures(
    served: network.Network, config: config_pb2.ExperimentOptions, input_type: str, batched: bool
) -> dict[str, Any]:
    def function(prepare: Callable[[tf.Tensor], tf.Tensor], spec: tf.TensorSpec) -> Any:
        def serving(input_tensor: tf.Tensor) -> dict[str, tf.Tensor]:
            return network.serve(served, config.eval_dataset_options, prepare(input_tensor))

        return tf.function(serving, input_signature=[spec], autograph=False).get_concrete_function()

    if input_type == ENCODED_IMAGE:
        return {
            "serving_default": function(
                lambda encoded: network.decode(encoded)[tf.newaxis], tf.TensorSpec([], tf.string, name="input_tensor")
            )
        }
    shape = [None, None, None, 3] if batched else [None, None, 3]
    return {
        key: function(
            lambda image: image if batched else image[tf.newaxis], tf.TensorSpec(shape, dtype, name="input_tensor")
        )
        for key, dtype in (("serving_default", tf.uint8), (FLOAT_SIGNATURE, tf.float32))
    }


def _compare(
    folder: pathlib.Path,
    *,
    model: Any,
    config: config_pb2.ExperimentOptions,
    input_type: str,
    batched: bool,
    strict: bool,
) -> tuple[str, ...]:
    """Runs the exported model in a clean process and the model in memory on one picture; a line per output."""
    image = _picture_beside(config)

    def in_memory(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return outputs.deeplab2_outputs(model(images, training=False))

    expected = network.serve(in_memory, config.eval_dataset_options, image[np.newaxis])
    given = image[np.newaxis] if batched else image
    if input_type == ENCODED_IMAGE:
        given = np.frombuffer(tf.io.encode_png(image).numpy(), np.uint8)
    return _differences(expected, _in_a_clean_process(_CLIENT, folder, given), strict)


def _compare_video(
    folder: pathlib.Path,
    *,
    model: video.VideoModel,
    config: config_pb2.ExperimentOptions,
    strict: bool,
) -> tuple[str, ...]:
    """The same on a short video, in memory without a graph; the lines are about its last frame."""
    image, data = _picture_beside(config), config.eval_dataset_options
    frames = np.stack([np.roll(image, 2 * number, axis=1) for number in range(_VIDEO_FRAMES)])
    size = (data.crop_size[0], data.crop_size[1])
    state = model.start(size)

    def in_memory(images: tf.Tensor) -> dict[str, tf.Tensor]:
        nonlocal state
        output, state = model.step(images, state)
        return video_network.maps(output, size)

    for frame in frames:
        expected = network.serve(in_memory, data, frame[np.newaxis])
    if model.delay:
        last = video_network.maps(model.finish(state), size)
        expected = network.to_raw_size(last, data, tf.constant(frames.shape[1:3]))
    return _differences(expected, _in_a_clean_process(_VIDEO_CLIENT, folder, frames), strict)


def _in_a_clean_process(client: str, folder: pathlib.Path, given: np.ndarray) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as scratch:
        arrays, result = pathlib.Path(scratch, "given.npy"), pathlib.Path(scratch, "result.npz")
        np.save(arrays, given)
        command = [sys.executable, "-c", client, str(folder.resolve()), str(arrays), str(result)]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        done = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"The exported model does not run in a clean process:\n{done.stderr[-2000:]}")
        with np.load(result) as found:
            return dict(found)


def _differences(expected: dict[str, tf.Tensor], got: dict[str, np.ndarray], strict: bool) -> tuple[str, ...]:
    return tuple(_difference(name, expected[name].numpy(), got[name], strict) for name in sorted(got))


def _difference(name: str, expected: Any, got: Any, strict: bool) -> str:
    if expected.shape != got.shape or expected.dtype != got.dtype:
        raise RuntimeError(
            f"{name}: expected {expected.dtype} {expected.shape}, the exported model gives {got.dtype} {got.shape}."
        )
    if expected.dtype.kind == "f":
        if not np.isfinite(got).all():
            raise RuntimeError(f"{name}: the exported model gives numbers that are not finite.")
        far = np.abs(got - expected)
        largest = np.abs(expected).max()
        return f"  {name}: largest difference {far.max():.2g}, mean {far.mean():.2g}, of values up to {largest:.3g}"
    same = float(np.mean(expected == got))
    if strict and name == "semantic_pred" and same < _LEAST_AGREEMENT:
        raise RuntimeError(
            f"{name}: only {100 * same:.2f} % of the pixels are those of the model in memory; the export is not usable."
        )
    return f"  {name}: {100 * same:.2f} % of the pixels are the same"


def _picture_beside(config: config_pb2.ExperimentOptions) -> Any:
    """A picture of another size than the network's, to have preprocessing take part."""
    height, width = config.eval_dataset_options.crop_size
    return _picture(height - height // 4, width + width // 8)


def _picture(height: int, width: int) -> Any:
    """Random blobs of colour, [height, width, 3] uint8: smooth as a photo, but the same everywhere."""
    coarse = np.random.RandomState(0).uniform(0, 255, (6, 9, 3)).astype(np.float32)
    return tf.cast(tf.round(preprocess.resize_image(tf.constant(coarse), [height, width])), tf.uint8).numpy()


def _describe(function: Any) -> tuple[str, ...]:
    spec = function.structured_input_signature[1] or {}
    given = [*function.structured_input_signature[0], *spec.values()]
    lines = [f"  input {s.name}: {s.dtype.name} {_shape(s.shape)}" for s in given]
    found = sorted(function.structured_outputs.items())
    return tuple(lines + [f"  output {name}: {value.dtype.name} {_shape(value.shape)}" for name, value in found])


def _shape(shape: tf.TensorShape) -> str:
    return "[" + ", ".join("?" if side is None else str(side) for side in shape) + "]"
