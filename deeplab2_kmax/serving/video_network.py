"""A model of video as functions for serving: frames of any size in, maps of the same size out, its state in and out.

The state is a flat row of tensors, so that it can be an input and an output of a SavedModel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.models import outputs, video
from deeplab2_kmax.protos import config_pb2
from deeplab2_kmax.serving import folding, network

START, STEP, FINISH = "start", "step", "finish"
INPUT, SIZE = "input_tensor", "size"


def state_name(index: int) -> str:
    """The name of a part of the state, as an input and as an output of the signatures."""
    return f"state_{index:02d}"


class VideoNetwork(tf.Module):
    """`start`, `step`, `finish` and `still` of a model in one size, the crop size of `eval_dataset_options`.

    The network's weights are folded, as in Network; what follows, where order matters, is the model's own.
    """

    def __init__(self, model: video.VideoModel, config: config_pb2.ExperimentOptions):
        super().__init__(name="video_network")
        self.delay = model.delay
        data = config.eval_dataset_options
        size = (data.crop_size[0], data.crop_size[1])
        spec = model.state_spec(size)
        frame = tf.TensorSpec([None, None, 3], tf.uint8, name=INPUT)
        state = [
            tf.TensorSpec(part.shape, part.dtype, name=state_name(index))
            for index, part in enumerate(tf.nest.flatten(spec))
        ]

        padded = tf.TensorSpec([1, *size, 3], tf.float32)
        structure: list[Any] = []

        def observe(images: tf.Tensor, *parts: tf.Tensor) -> list[tf.Tensor]:
            observed = model.observe(images, tf.nest.pack_sequence_as(spec, parts))
            structure[:] = [tf.nest.map_structure(lambda _: None, observed)]
            return tf.nest.flatten(observed)

        traced = tf.function(observe, input_signature=[padded, *state], autograph=False)
        self.folded = folding.Folded(traced.get_concrete_function())

        def start() -> dict[str, tf.Tensor]:
            return _named(model.start(size))

        def step(image: tf.Tensor, *parts: tf.Tensor) -> dict[str, tf.Tensor]:
            after: dict[str, tf.Tensor] = {}

            def run(images: tf.Tensor) -> dict[str, tf.Tensor]:
                observed = tf.nest.pack_sequence_as(structure[0], self.folded(images, *parts))
                output, new = model.conclude(images, observed, tf.nest.pack_sequence_as(spec, parts))
                after.update(_named(new))
                return maps(output, size)

            return {**network.serve(run, data, image[tf.newaxis]), **after}

        def finish(raw_size: tf.Tensor, *parts: tf.Tensor) -> dict[str, tf.Tensor]:
            output = model.finish(tf.nest.pack_sequence_as(spec, parts))
            return network.to_raw_size(maps(output, size), data, raw_size)

        def still(image: tf.Tensor) -> dict[str, tf.Tensor]:
            found = step(image, *tf.nest.flatten(model.start(size)))
            if not model.delay:
                return {name: value for name, value in found.items() if name in network.VIDEO_MAPS}
            return finish(tf.shape(image)[:2], *(found[state_name(index)] for index in range(len(state))))

        self.start = tf.function(start, input_signature=[], autograph=False)
        self.step = tf.function(step, input_signature=[frame, *state], autograph=False)
        self.still = tf.function(still, input_signature=[frame], autograph=False)
        self.finish: Any = None
        if model.delay:
            raw_size = tf.TensorSpec([2], tf.int32, name=SIZE)
            self.finish = tf.function(finish, input_signature=[raw_size, *state], autograph=False)

    def signatures(self) -> dict[str, Any]:
        """Of a SavedModel. `serving_default` takes a picture, the only frame of its video."""
        found = {"serving_default": self.still, START: self.start, STEP: self.step}
        if self.finish is not None:
            found[FINISH] = self.finish
        return {name: function.get_concrete_function() for name, function in found.items()}


class Functions:
    """The functions of a VideoNetwork, or those of a SavedModel, called alike: the state is a list of tensors."""

    def __init__(self, network_or_loaded: Any, *, delay: int):
        self._kept, self.delay = network_or_loaded, delay
        signatures = getattr(network_or_loaded, "signatures", None)
        self._named = None if isinstance(network_or_loaded, VideoNetwork) else signatures

    def specs(self) -> list[tf.TensorSpec]:
        """What the parts of a state are like."""
        if self._named is None:
            return list(self._kept.step.input_signature[1:])
        inputs = self._named[STEP].structured_input_signature[1]
        return [inputs[name] for name in sorted(inputs) if name != INPUT]

    def start(self) -> list[tf.Tensor]:
        """The state before the first frame."""
        return _flat(self._call(START, {}, []))

    def step(self, image: Any, state: Sequence[tf.Tensor]) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Maps of the frame `delay` before this one [h, w, 3] uint8, at its size; and the new state."""
        found = self._call(STEP, {INPUT: tf.constant(image)}, state)
        return {name: value for name, value in found.items() if name in network.VIDEO_MAPS}, _flat(found)

    def finish(self, size: tuple[int, int], state: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Maps of the last frame."""
        return self._call(FINISH, {SIZE: tf.constant(size)}, state)

    def _call(self, name: str, inputs: dict[str, tf.Tensor], state: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        if self._named is None:
            return getattr(self._kept, name)(*inputs.values(), *state)
        return self._named[name](**inputs, **{state_name(index): part for index, part in enumerate(state)})


def maps(output: structures.DeepLabOutput, size: tuple[int, int]) -> dict[str, tf.Tensor]:
    """What serving gives of a model's answer for a frame of `size`."""
    named = outputs.deeplab2_outputs(output)
    found = {name: named[name] for name in network.VIDEO_MAPS if name in named}
    # Where a state's parts have any size, so have the maps that come of them, as far as a graph can tell.
    return {name: tf.ensure_shape(value, [1, *size, *value.shape[3:]]) for name, value in found.items()}


def _named(state: video.State) -> dict[str, tf.Tensor]:
    return {state_name(index): part for index, part in enumerate(tf.nest.flatten(state))}


def _flat(found: dict[str, tf.Tensor]) -> list[tf.Tensor]:
    return [found[name] for name in sorted(found) if name.startswith("state_")]
