"""A trained model as one function for serving: pictures of any size in, maps of the same size out, weights inside.

Preprocessing and its undoing are those of evaluation.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from deeplab2_kmax import architectures
from deeplab2_kmax import config as configs
from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import restore
from deeplab2_kmax.data import preprocess
from deeplab2_kmax.models import deeplab, mask_transformer, outputs
from deeplab2_kmax.protos import config_pb2, dataset_pb2, trainer_pb2
from deeplab2_kmax.serving import folding
from deeplab2_kmax.structures import MaskPrediction, MaskTransformerOutput, PanopticMaps

# Where a training checkpoint keeps the running average of the weights, if there is one.
AVERAGES = "averages"
PRECISIONS = {
    "float32": trainer_pb2.TrainerOptions.FLOAT32,
    "bfloat16": trainer_pb2.TrainerOptions.BFLOAT16,
}
# Maps of pixels; everything else a network gives stays on its own grid.
MAPS = (
    *("panoptic_pred", "semantic_pred", "instance_pred", "semantic_scores", "instance_scores"),
    "instance_center_pred",
)
# Of models of video.
VIDEO_MAPS = (*MAPS, "depth_pred")
_BILINEAR = ("semantic_probs", "offset_map", "depth_pred")
_MORE_MAPS = ("center_heatmap", *_BILINEAR)  # with `include_logits`


def load_model(
    config: config_pb2.ExperimentOptions,
    checkpoint: str | os.PathLike[str] | None,
    *,
    precision: str = "float32",
) -> keras.Model:
    """Builds the model of a resolved config and loads a checkpoint into it, ours or DeepLab2's.

    If the checkpoint holds a running average of the weights, that is what is loaded.

    Args:
        config: as `load_config` returns it.
        checkpoint: prefix, or a folder, of which the newest is taken. None: random weights.
        precision: "float32", or "bfloat16" for layers that compute in bfloat16.

    Raises:
        ValueError: the config cannot be exported, or a variable is missing in the checkpoint.
    """
    configs.check(config, mode="export")
    config = _with_precision(config, precision)
    with architectures.precision(config.trainer_options.precision):
        model = architectures.build_model(config)
        model.build_variables()
    if checkpoint is None:
        return model
    # Nothing less than the whole model will do, so that of a backbone alone is not asked.
    report = restore.load_initial(model, checkpoint, allow_partial_backbone=True)
    lacking = [*report.missing, *report.mismatched]
    if lacking:
        raise ValueError(
            f"{checkpoint} lacks {len(lacking)} variables of the model, which has "
            f"{len(lacking) + len(report.loaded)}, for example {lacking[0]}: was it trained with this config?"
        )
    _load_averages(model, checkpoint)
    return model


class Network(tf.Module):
    """A model with its weights folded, and its post-processing: images [B, H, W, 3] float32 -> named outputs.

    (H, W) is the crop size of `eval_dataset_options`. Outputs are those of MAPS that the model has; with
    `include_logits` all that DeepLab2 gives. It holds copies of the weights.
    """

    def __init__(
        self,
        model: keras.Model,
        config: config_pb2.ExperimentOptions,
        *,
        batch_size: int | None = 1,
        include_logits: bool = False,
    ):
        super().__init__(name="network")
        self.config = config
        self._include_logits = include_logits
        self._size = preprocess.Sides(*config.eval_dataset_options.crop_size)
        self._postprocess = model.postprocess
        predict: Callable[[tf.Tensor], dict[str, tf.Tensor]] = model.predict
        self._finish: Callable[..., Any] = deeplab.finish
        if isinstance(model, mask_transformer.MaskTransformer):
            predict = functools.partial(_everything if include_logits else _necessary, model)
            self._finish = _finish_masks
        names: list[str] = []

        def flat(images: tf.Tensor) -> list[tf.Tensor]:
            found = predict(images)
            names[:] = found
            return list(found.values())

        signature = [tf.TensorSpec([batch_size, *self._size, 3], tf.float32, name="images")]
        traced = tf.function(flat, input_signature=signature, autograph=False)
        with _without_postprocessing(model):
            self.folded = folding.Folded(traced.get_concrete_function())
        self._names = tuple(names)

    def predict(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """What post-processing takes, by DeepLab2's names.

        Without `include_logits` a mask transformer leaves out what only training needs.
        """
        return dict(zip(self._names, self.folded(images)))

    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        named = outputs.deeplab2_outputs(self._finish(self.predict(images), self._size, self._postprocess))
        return named if self._include_logits else {name: named[name] for name in MAPS if name in named}


def serve(
    network: Callable[[tf.Tensor], dict[str, tf.Tensor]], options: dataset_pb2.DatasetOptions, images: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Runs a network on images [B, h, w, 3] of any size and type, values 0..255; maps come back at that size.

    `options` are the `eval_dataset_options`.
    """
    crop = preprocess.Sides(*options.crop_size)
    # A SavedModel's function takes any shape: its client reads of a wrong one here, not in some operation behind.
    images = tf.ensure_shape(images, images.shape)
    raw_size = tf.shape(images)[1:3]
    size = _kept(options, raw_size)
    resized = tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=True)
    padding = tf.constant(crop, tf.int32) - size
    padded = tf.pad(
        resized, [[0, 0], [0, padding[0]], [0, padding[1]], [0, 0]], constant_values=tf.constant(preprocess.FILL)
    )
    padded = tf.ensure_shape(padded, [images.shape[0], crop.height, crop.width, 3])
    return to_raw_size(network(padded), options, raw_size)


def to_raw_size(
    maps: dict[str, tf.Tensor], options: dataset_pb2.DatasetOptions, raw_size: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The maps of a network for images that `serve` gave it, back at their size [2], (h, w)."""
    crop, size = preprocess.Sides(*options.crop_size), _kept(options, raw_size)
    return {name: _to_raw_size(name, value, crop, size, raw_size) for name, value in maps.items()}


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Bytes of a JPEG, PNG, BMP or (the first frame of) a GIF file -> uint8 [h, w, 3]. EXIF is not read."""
    return tf.ensure_shape(tf.io.decode_image(encoded, channels=3, expand_animations=False), [None, None, 3])


def _kept(options: dataset_pb2.DatasetOptions, raw_size: tf.Tensor) -> tf.Tensor:
    """The size [2] of the part of the crop that is no padding."""
    crop = preprocess.Sides(*options.crop_size)
    size = preprocess.resized_size(
        raw_size[0],
        raw_size[1],
        min_size=preprocess.parse_sides(options.min_resize_value, "min_resize_value"),
        max_size=preprocess.parse_sides(options.max_resize_value, "max_resize_value") or crop,
        factor=options.resize_factor,
    )
    # A side of an extremely long picture must not vanish, nor exceed the crop after rounding up to the factor.
    return tf.clip_by_value(size, 1, tf.constant(crop, tf.int32))


def _with_precision(config: config_pb2.ExperimentOptions, precision: str) -> config_pb2.ExperimentOptions:
    if precision not in PRECISIONS:
        raise ValueError(f"Unknown precision {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    changed = config_pb2.ExperimentOptions()
    changed.CopyFrom(config)
    changed.trainer_options.precision = PRECISIONS[precision]
    return changed


def _load_averages(model: keras.Model, checkpoint: str | os.PathLike[str]) -> None:
    reader = tf.train.load_checkpoint(os.fspath(checkpoint))
    keys = reader.get_variable_to_shape_map()
    for name, variable in restore.variable_paths(model).items():
        key = f"{AVERAGES}/{name}/.ATTRIBUTES/VARIABLE_VALUE"
        if key in keys:  # statistics of batch norms are averages already and have no second one
            variable.assign(reader.get_tensor(key))


def _to_raw_size(name: str, values: tf.Tensor, crop: preprocess.Sides, kept: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """[B, H, W, ...] -> [B, h, w, ...]: the kept part at the top left, scores by nearest neighbour too, as DeepLab2.

    What is no map of the crop's size, or one that DeepLab2 leaves alone, stays as it is.
    """
    if name not in (*MAPS, *_MORE_MAPS) or tuple(values.shape[1:3]) != crop:
        return values
    values = values[:, : kept[0], : kept[1]]
    if name in _BILINEAR:
        return tf.raw_ops.ResizeBilinear(images=values, size=size, align_corners=True)
    return tf.raw_ops.ResizeNearestNeighbor(images=values[..., tf.newaxis], size=size, align_corners=True)[..., 0]


def _everything(model: mask_transformer.MaskTransformer, images: tf.Tensor) -> dict[str, tf.Tensor]:
    return outputs.deeplab2_outputs(model(images, training=False))


def _necessary(model: mask_transformer.MaskTransformer, images: tf.Tensor) -> dict[str, tf.Tensor]:
    prediction = model.predict_masks(images)
    return {outputs.CLASS_LOGITS: prediction.class_logits, outputs.MASK_LOGITS: prediction.mask_logits}


def _finish_masks(
    named: dict[str, tf.Tensor], size: preprocess.Sides, postprocess: Callable[..., PanopticMaps]
) -> MaskTransformerOutput:
    features = named.get(outputs.PIXEL_FEATURES, tf.zeros([0]))
    prediction = MaskPrediction(named[outputs.CLASS_LOGITS], named[outputs.MASK_LOGITS], features)
    return MaskTransformerOutput(
        prediction,
        named.get("semantic_logits"),
        maps=postprocess(prediction, size),
        semantic_probabilities=named.get("semantic_probs"),
    )


@contextlib.contextmanager
def _without_postprocessing(model: keras.Model) -> Iterator[None]:
    kept, model.postprocess = model.postprocess, None
    try:
        yield
    finally:
        model.postprocess = kept
