"""ViP-DeepLab (2020, arXiv 2012.05258): Panoptic-DeepLab that points to the centres of the frame before, and depth.

Differences from the paper, as in DeepLab2: one ASPP in the branch of the next frame, not a cascade of them. From
DeepLab2: every frame of a video goes through the network once; ids hold for whole videos, not for two frames; in
training both frames are one batch for the backbone's norms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from deeplab2_kmax import labels, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import depth
from deeplab2_kmax.layers import shapes
from deeplab2_kmax.models import building, deeplab, panoptic_deeplab, video
from deeplab2_kmax.models import passes as multiple
from deeplab2_kmax.protos import model_pb2

PLAIN = (multiple.Pass(),)
NEXT_OFFSETS, DEPTH = "next_offset_map", "depth_pred"


# (pass, features of its images) -> what ASPP reads of the frames before, and the features of the frames compared.
Compare = Callable[[int, structures.Pyramid], tuple[tf.Tensor, structures.Pyramid]]


class State(NamedTuple):
    """What a video is carried on with. h w are those of the network's features, C their channels."""

    seen: tf.Tensor  # [] bool, whether there was a frame
    frame: tf.Tensor  # [1, H, W, 3] float32, the last frame
    features: tuple[tf.Tensor, ...]  # [1, h, w, C] of every pass: what the next frame is compared with
    maps: dict[str, tf.Tensor]  # of the last frame by itself, [1, ?, ?, C]
    panoptic: tf.Tensor  # [1, H, W] int32, the last frame with the video's ids, as segmented with the one before
    given: tf.Tensor  # [K] int32, where every class looks for its next free id


class Look(NamedTuple):
    """What the network says of some frames, on its own grid or, as means over several passes, at their size."""

    maps: dict[str, tf.Tensor]  # of every frame by itself
    next_offsets: tf.Tensor  # from these frames to those before
    features: tuple[tf.Tensor, ...]  # of every pass


def build(options: model_pb2.ModelOptions, kit: building.Kit, *, passes: Sequence[multiple.Pass]) -> ViPDeepLab:
    """Builds the model that `options.vip_deeplab` and `options.decoder` describe around a backbone.

    Raises:
        ValueError: an option has no meaning here.
    """
    shared, own = kit.shared("relu"), options.vip_deeplab
    depth_head = None
    if own.HasField("depth_head"):
        depth_head = depth.DepthHead(
            own.depth_head.head_channels,
            lowest=own.depth_head.min_value_after_activation,
            highest=own.depth_head.max_value_after_activation,
            conv_type=own.depth_head.head_conv_type,
            **shared,
        )
    return ViPDeepLab(
        **panoptic_deeplab.branches(own, options.decoder, **shared),
        next_decoder=panoptic_deeplab.instance_decoder(own, options.decoder, **shared),
        next_offset_head=panoptic_deeplab.head(own.instance.next_regression_head, **shared),
        depth_head=depth_head,
        classes=kit.classes,
        backbone=kit.backbone,
        passes=passes,
        postprocess=kit.postprocess,
    )


class ViPDeepLab(video.VideoModel, panoptic_deeplab.PanopticDeepLab):
    """Frames and the ones after them [B, H, W, 6], values 0..255 -> DeepLabOutput of the first ones, with PairMaps.

    A video's frames go one by one through `start`, `step` and `finish`. A frame is segmented together with the one
    after it, so the answer is about the frame before the one that is given.
    """

    channels: ClassVar[int] = 6
    delay: ClassVar[int] = 1
    postprocess: Any  # a two_frames.TwoFrames, or None

    def __init__(
        self,
        *,
        next_decoder: Any,
        next_offset_head: keras.layers.Layer,
        classes: structures.MaskClasses,
        depth_head: keras.layers.Layer | None = None,
        name: str = "vip_deeplab",
        **parts: Any,
    ):
        """Keeps its parts.

        Args:
            next_decoder: reads the features of two frames.
            next_offset_head: reads that decoder's.
            classes: what the ids of a video mean.
            depth_head: reads the semantic decoder's features; None: no depth.
            name: of the model.
            **parts: those of PanopticDeepLab, with instances; `postprocess` is a two_frames.TwoFrames.
        """
        super().__init__(name=name, **parts)
        self.next_decoder = next_decoder
        self.next_offset_head = next_offset_head
        self.depth_head: Any = depth_head
        self.classes = classes

    def call(
        self, images: tf.Tensor, training: bool | None = False, seed: tf.Tensor | None = None
    ) -> structures.DeepLabOutput:
        """Maps of the first frames; inference with post-processing adds PairMaps. `seed` as DeepLab's."""
        if training:
            return super().call(images, training=training, seed=seed)
        count, height, width = shapes.of(images)[:3]
        look = self._look(_frames(images), lambda _, features: self._halves(features))
        first = {name: values[:count] for name, values in look.maps.items()}
        following = {name: values[count:] for name, values in look.maps.items()}
        return self._answer(first, following, look.next_offsets, (height, width), self.postprocess)

    def semantic_maps(self, semantic: tf.Tensor, training: bool | None) -> dict[str, tf.Tensor]:
        maps = super().semantic_maps(semantic, training)
        if self.depth_head is not None:
            maps[DEPTH] = self.depth_head(semantic, training=training)
        return maps

    def start(self, size: deeplab.Size) -> State:
        spec = self.state_spec(size)
        empty = tf.nest.map_structure(lambda one: tf.zeros([side or 0 for side in one.shape], one.dtype), spec)
        void = labels.pack(self.classes.ignore_label, 0, self.classes.label_divisor)
        return empty._replace(panoptic=tf.fill([1, *size], void))

    def state_spec(self, size: deeplab.Size) -> State:
        features, maps = self._specs
        if self.passes != PLAIN:
            maps = {**maps, deeplab.PROBABILITIES: maps[deeplab.LOGITS]}
        return State(
            seen=tf.TensorSpec([], tf.bool),
            frame=tf.TensorSpec([1, None, None, 3], tf.float32),
            features=(features,) * len(self.passes),
            maps=maps,
            panoptic=tf.TensorSpec([1, *(tf.get_static_value(side) for side in size)], tf.int32),
            given=tf.TensorSpec([max(self.classes.thing_ids, default=0) + 1], tf.int32),
        )

    def observe(self, frame: tf.Tensor, state: State) -> Look:
        def compare(number: int, features: structures.Pyramid) -> tuple[tf.Tensor, structures.Pyramid]:
            # The first frame is compared with itself.
            return _or_own(state.features[number], self._compared(features)), features

        return self._look(frame, compare)

    def conclude(self, frame: tf.Tensor, observed: Look, state: State) -> tuple[structures.DeepLabOutput, State]:
        before = {name: _either(state.seen, state.maps[name], values) for name, values in observed.maps.items()}
        output, following = self._advance(frame, before, observed, state)
        return output, following._replace(
            panoptic=tf.where(state.seen, following.panoptic, state.panoptic),
            given=tf.where(state.seen, following.given, state.given),
        )

    def finish(self, state: State) -> structures.DeepLabOutput:
        """The answer for the last frame. It is segmented alone, and has no `next_offset_map`."""
        height, width = shapes.of(state.frame)[1:3]
        if self.postprocess is None:
            return deeplab.finish(state.maps, (height, width))
        output = deeplab.finish(state.maps, (height, width), self.postprocess.alone)
        maps: Any = output.maps
        panoptic, _, _ = self.postprocess.track(state.panoptic, maps.panoptic, maps.panoptic, state.given)
        return output._replace(maps=maps._replace(panoptic=panoptic))

    def step_record(self, images: tf.Tensor, state: State) -> tuple[structures.DeepLabOutput, State]:
        """As `step`, from a frame and the one after it [1, H, W, 6]; the answer is about the first of them.

        A frame that was the second one of the last record does not go through the network again.
        """
        frame, following = tf.split(tf.cast(images, tf.float32), 2, axis=-1)

        def alone() -> tuple[tuple[tf.Tensor, ...], dict[str, tf.Tensor]]:
            look = self._look(frame, lambda _, features: (self._compared(features), features))
            return look.features, look.maps

        same_size = tf.reduce_all(tf.shape(frame) == tf.shape(state.frame))
        same = tf.cond(same_size, lambda: tf.reduce_all(frame == state.frame), lambda: tf.constant(False))
        kept, before = tf.cond(state.seen & same, lambda: (tuple(state.features), dict(state.maps)), alone)

        def compare(number: int, features: structures.Pyramid) -> tuple[tf.Tensor, structures.Pyramid]:
            return tf.ensure_shape(kept[number], self._compared(features).shape), features

        look = self._look(following, compare)
        before = {name: tf.ensure_shape(before[name], values.shape) for name, values in look.maps.items()}
        return self._advance(following, before, look, state)

    @functools.cached_property
    def _specs(self) -> tuple[tf.TensorSpec, dict[str, tf.TensorSpec]]:
        """Features and maps of one frame of any size, in one plain pass."""
        passes, self.passes = self.passes, PLAIN
        try:
            with tf.init_scope():
                look = self._look(tf.zeros([2, 65, 65, 3]), lambda _, features: self._halves(features))
        finally:
            self.passes = passes
        return tf.nest.map_structure(
            lambda one: tf.TensorSpec([1, None, None, one.shape[-1]], one.dtype), (look.features[0], look.maps)
        )

    @building.plain_python
    def _network(self, images: tf.Tensor, training: bool, pool_scale: float = 1.0) -> dict[str, tf.Tensor]:
        """The maps of the first frames of pairs [B, H, W, 6], and of what points back to them."""
        features = self.backbone(building.normalize(_frames(images)), training=training)
        compared, following = self._halves(features)
        count = shapes.of(compared)[0]
        first = structures.Pyramid(*(level[:count] for level in features))
        maps = self.decode(first, training=training, pool_scale=pool_scale)
        maps[NEXT_OFFSETS] = self._point_back(compared, following, training, pool_scale)
        return maps

    @building.plain_python
    def _look(self, frames: tf.Tensor, compare: Compare) -> Look:
        """Sends frames [B, H, W, 3] through the network once, in every pass."""
        kept: list[tf.Tensor] = []

        def network(images: tf.Tensor, scale: float) -> dict[str, tf.Tensor]:
            features = self.backbone(building.normalize(images), training=False)
            maps = self.decode(features, training=False, pool_scale=scale)
            before, following = compare(len(kept), features)
            kept.append(self._compared(features))
            return {**maps, NEXT_OFFSETS: self._point_back(before, following, False, scale)}

        if self.passes == PLAIN:
            maps = network(frames, 1.0)
        else:
            maps = multiple.average(
                network,
                frames,
                self.passes,
                finish=lambda found: {**found, deeplab.PROBABILITIES: tf.nn.softmax(found[deeplab.LOGITS])},
            )
        next_offsets = maps.pop(NEXT_OFFSETS)
        return Look(maps, next_offsets, tuple(kept))

    def _point_back(
        self, before: tf.Tensor, following: structures.Pyramid, training: bool | None, pool_scale: float
    ) -> tf.Tensor:
        """Offsets on the following frames; `before` are what `_compared` has of the frames before them."""
        both = tf.concat([before, self._compared(following)], axis=-1)
        x = self.next_decoder(following, training=training, pool_scale=pool_scale, high=both)
        return self.next_offset_head(x, training=training)

    def _compared(self, features: structures.Pyramid) -> tf.Tensor:
        return getattr(features, self.next_decoder.feature)

    def _halves(self, features: structures.Pyramid) -> tuple[tf.Tensor, structures.Pyramid]:
        """Of first and following frames one behind the other in a batch."""
        count = shapes.of(self._compared(features))[0] // 2
        return self._compared(features)[:count], structures.Pyramid(*(level[count:] for level in features))

    def _answer(
        self,
        first: dict[str, tf.Tensor],
        following: dict[str, tf.Tensor],
        next_offsets: tf.Tensor,
        size: deeplab.Size,
        label: Callable[..., structures.PairMaps] | None,
    ) -> structures.DeepLabOutput:
        """What there is to say about the first frames; `label` is a call of TwoFrames, or None."""
        needed = (deeplab.HEATMAP, deeplab.OFFSETS, deeplab.PROBABILITIES)
        others = {name: multiple.resize_map(name, following[name], size) for name in needed if name in following}
        others[deeplab.LOGITS] = following[deeplab.LOGITS]

        def postprocess(given: deeplab.Maps, size: deeplab.Size) -> structures.PairMaps:
            assert label is not None
            return label(given, others, given[NEXT_OFFSETS], size)

        return deeplab.finish({**first, NEXT_OFFSETS: next_offsets}, size, None if label is None else postprocess)

    def _advance(
        self, frame: tf.Tensor, before: dict[str, tf.Tensor], look: Look, state: State
    ) -> tuple[structures.DeepLabOutput, State]:
        """The answer about the frame before, whose maps are `before`, and the state after this one."""
        height, width = shapes.of(frame)[1:3]
        label = None if self.postprocess is None else self.postprocess.together
        output = self._answer(before, look.maps, look.next_offsets, (height, width), label)
        following = State(tf.constant(True), frame, look.features, look.maps, state.panoptic, state.given)
        maps: Any = output.maps
        if maps is None:
            return output, following
        current, after, given = self.postprocess.track(
            state.panoptic, maps.panoptic, maps.concat_next_panoptic, state.given
        )
        maps = maps._replace(panoptic=current, concat_next_panoptic=after)
        return output._replace(maps=maps), following._replace(panoptic=after, given=given)


def _frames(images: tf.Tensor) -> tf.Tensor:
    """Pairs [B, H, W, 6] -> first frames, then the following ones, [2 B, H, W, 3]."""
    return tf.concat(tf.split(images, 2, axis=-1), axis=0)


def _or_own(kept: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """`kept` [1, h, w, C], or `own` where that is empty: without a condition, which an export could not fold."""
    rows = tf.reshape(kept, [-1, own.shape[-1]])
    filled = tf.concat([rows, tf.reshape(own, [-1, own.shape[-1]])[tf.shape(rows)[0] :]], axis=0)
    return tf.ensure_shape(tf.reshape(filled, tf.shape(own)), own.shape)


def _either(condition: tf.Tensor, kept: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """`kept`, which may be empty where the condition does not hold, or `own`."""
    return tf.ensure_shape(tf.cond(condition, lambda: kept, lambda: own), own.shape)
