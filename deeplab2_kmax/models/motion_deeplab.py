"""Motion-DeepLab: Panoptic-DeepLab that also sees the frame before, and tells where instances were in it.

STEP: Segmenting and Tracking Every Pixel (2021, arXiv 2102.11859). Differences from DeepLab2: options of decoder and
heads are those of Panoptic-DeepLab; several passes are possible; a video begins where `start` is called, not where two
frames are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import shapes
from deeplab2_kmax.models import building, deeplab, panoptic_deeplab, video
from deeplab2_kmax.models import passes as multiple
from deeplab2_kmax.protos import model_pb2

FRAME_OFFSETS = "frame_offset_map"


class State(NamedTuple):
    """What a video is carried on with."""

    seen: tf.Tensor  # [] bool, whether there was a frame
    frame: tf.Tensor  # [1, H, W, 3] float32, the last frame
    heatmap: tf.Tensor  # [1, H, W, 1] float32, its centres
    tracks: Any  # of the post-processing: Tracks; () without one


def build(options: model_pb2.ModelOptions, kit: building.Kit, *, passes: Sequence[multiple.Pass]) -> MotionDeepLab:
    """Builds the model that `options.motion_deeplab` and `options.decoder` describe around a backbone.

    Raises:
        ValueError: an option has no meaning here.
    """
    shared, own = kit.shared("relu"), options.motion_deeplab
    return MotionDeepLab(
        **panoptic_deeplab.branches(own, options.decoder, **shared),
        motion_head=panoptic_deeplab.head(own.motion_head, **shared),
        backbone=kit.backbone,
        passes=passes,
        postprocess=kit.postprocess,
    )


class MotionDeepLab(video.VideoModel, panoptic_deeplab.PanopticDeepLab):
    """Frames, those before them and heat maps of the centres there [B, H, W, 7] -> DeepLabOutput of the frames.

    Colours are 0..255, heat maps 0..1; in inference they may be left out, [B, H, W, 6]: no centre is known then. Label
    maps of a call are those of single frames. A video's frames go one by one through `start` and `step`, which give
    them the ids of tracks.
    """

    channels: ClassVar[int] = 7
    postprocess: Any

    def __init__(self, *, motion_head: keras.layers.Layer, name: str = "motion_deeplab", **parts: Any):
        """Keeps its parts.

        Args:
            motion_head: reads the instance decoder's features.
            name: of the model.
            **parts: those of PanopticDeepLab, with instances; `postprocess` is a center_tracking.CenterTracking.
        """
        super().__init__(name=name, **parts)
        self.motion_head = motion_head

    def instance_maps(self, instance: tf.Tensor, training: bool | None) -> dict[str, tf.Tensor]:
        return {
            **super().instance_maps(instance, training),
            FRAME_OFFSETS: self.motion_head(instance, training=training),
        }

    def start(self, size: deeplab.Size) -> State:
        tracks = () if self.postprocess is None else self.postprocess.start()
        return State(tf.constant(False), tf.zeros([1, *size, 3]), tf.zeros([1, *size, 1]), tracks)

    def state_spec(self, size: deeplab.Size) -> State:
        height, width = (tf.get_static_value(side) for side in size)
        return State(
            seen=tf.TensorSpec([], tf.bool),
            frame=tf.TensorSpec([1, height, width, 3], tf.float32),
            heatmap=tf.TensorSpec([1, height, width, 1], tf.float32),
            tracks=() if self.postprocess is None else self.postprocess.spec(),
        )

    def observe(self, frame: tf.Tensor, state: State) -> dict[str, tf.Tensor]:
        """What `predict` gives. The first frame is its own previous one."""
        return self._predict(frame, tf.where(state.seen, state.frame, frame), state)

    def conclude(
        self, frame: tf.Tensor, observed: dict[str, tf.Tensor], state: State
    ) -> tuple[structures.DeepLabOutput, State]:
        height, width = shapes.of(frame)[1:3]
        output = deeplab.finish(observed, (height, width), self.postprocess)
        following = state._replace(seen=tf.constant(True), frame=frame)
        if output.maps is None:  # without label maps there are no instances to follow
            return output, following
        maps: Any = output.maps
        tracked = self.postprocess.track(maps.panoptic, output.frame_offset_map, state.tracks)
        return output._replace(maps=maps._replace(panoptic=tracked.panoptic)), following._replace(
            heatmap=tracked.heatmap[..., tf.newaxis], tracks=tracked.tracks
        )

    def step_record(self, images: tf.Tensor, state: State) -> tuple[structures.DeepLabOutput, State]:
        """As `step`, from a frame and the one before it [1, H, W, 6]; equal ones begin no new video."""
        frame, previous = tf.split(tf.cast(images, tf.float32), 2, axis=-1)
        return self.conclude(frame, self._predict(frame, previous, state), state)

    @building.plain_python
    def _network(self, images: tf.Tensor, training: bool, pool_scale: float = 1.0) -> dict[str, tf.Tensor]:
        if images.shape[-1] == self.channels - 1:
            images = tf.pad(images, [[0, 0], [0, 0], [0, 0], [0, 1]])
        # The heat map is scaled like a colour, as in DeepLab2, whose weights expect it so.
        return super()._network(images, training, pool_scale)

    def _predict(self, frame: tf.Tensor, previous: tf.Tensor, state: State) -> dict[str, tf.Tensor]:
        return self.predict(tf.concat([frame, previous, state.heatmap], axis=-1))
