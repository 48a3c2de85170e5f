"""What models of video share: their answer for a frame depends on the frames before, through a state of plain tensors.

The state is a value, not something that the model keeps: whoever runs the model holds it, starts it anew, saves it, or
runs several videos side by side.
"""

from __future__ import annotations

from typing import Any, ClassVar

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.models import deeplab

# A NamedTuple of tensors, its type is the model's own. It has the same size after a thousand frames as after ten.
State = Any


class VideoModel(deeplab.DeepLab):
    """A DeepLab whose label maps carry ids that belong to one object through all frames of a video.

    Called with the frames of a training sample on the channels, as the data pipeline makes them, it gives maps of
    pixels, like any other DeepLab. Videos go through `start` and then, frame by frame, `step`; or, record by record of
    a data set, `step_record`. All of them run in graphs.
    """

    # Frames that must be known beyond the one an answer is for. `step` answers for the frame so many steps before; its
    # first answers after `start` are for no frame and mean nothing.
    delay: ClassVar[int] = 0

    def start(self, size: deeplab.Size) -> State:
        """The state before the first frame of a video with frames of `size` (H, W)."""
        raise NotImplementedError(f"{type(self).__name__} does not define start().")

    def state_spec(self, size: deeplab.Size) -> State:
        """The state's tf.TensorSpecs, with None where a side changes from frame to frame, for tracing `step`."""
        raise NotImplementedError(f"{type(self).__name__} does not define state_spec().")

    def step(self, frame: tf.Tensor, state: State) -> tuple[structures.DeepLabOutput, State]:
        """Takes the next frame [1, H, W, 3], values 0..255, and answers for the one `delay` frames before it.

        Returns:
            The answer, with `maps` if the model has a post-processing, their ids those of tracks; and the new state.
        """
        frame = tf.cast(frame, tf.float32)
        return self.conclude(frame, self.observe(frame, state), state)

    def observe(self, frame: tf.Tensor, state: State) -> Any:
        """What the network sees in the next frame [1, H, W, 3] float32: nested tensors of the model's own.

        Of a step, only this reads weights; an export folds them.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define observe().")

    def conclude(self, frame: tf.Tensor, observed: Any, state: State) -> tuple[structures.DeepLabOutput, State]:
        """The rest of a step, from what `observe` gave for the same frame and state."""
        raise NotImplementedError(f"{type(self).__name__} does not define conclude().")

    def finish(self, state: State) -> structures.DeepLabOutput:
        """The answer for the last frame of a video, of models with a delay (of one frame); it reads no weights."""
        raise NotImplementedError(f"{type(self).__name__} does not define finish().")

    def step_record(self, images: tf.Tensor, state: State) -> tuple[structures.DeepLabOutput, State]:
        """The same from a record [1, H, W, 6] of a frame and its neighbour, as evaluation reads it: no delay."""
        raise NotImplementedError(f"{type(self).__name__} does not define step_record().")
