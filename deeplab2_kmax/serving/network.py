"""A trained model as one function for serving: pictures of any size in, maps of the same size out, weights inside.

Preprocessing and its undoing are those of evaluation. Weights become constants, so that batch norms are folded into
kernels once and for all and TensorFlow can keep kernels in the layout its CPU kernels want.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2 as session_config_pb2
from tensorflow.python.eager import wrap_function
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.grappler import tf_optimizer

from deeplab2_kmax import architectures
from deeplab2_kmax import config as configs
from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import restore
from deeplab2_kmax.data import preprocess
from deeplab2_kmax.models import outputs
from deeplab2_kmax.postprocess import mask_merging
from deeplab2_kmax.protos import config_pb2, trainer_pb2
from deeplab2_kmax.structures import MaskPrediction, MaskTransformerOutput

# Where a training checkpoint keeps the running average of the weights, if there is one.
AVERAGES = "averages"
PRECISIONS = {
    "float32": trainer_pb2.TrainerOptions.FLOAT32,
    "bfloat16": trainer_pb2.TrainerOptions.BFLOAT16,
}
# Maps of pixels; everything else a network gives stays on its own grid.
MAPS = ("panoptic_pred", "semantic_pred", "instance_pred", "semantic_scores", "instance_scores")

Network = Callable[[tf.Tensor], dict[str, tf.Tensor]]


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
    report = restore.load_initial(model, checkpoint)
    if report.missing or report.mismatched:
        lacking = [*report.missing, *report.mismatched]
        raise ValueError(
            f"{checkpoint} lacks {len(lacking)} variables of the model, for example {lacking[0]}: was it trained with "
            "this config? Nothing was exported."
        )
    _load_averages(model, checkpoint)
    return model


def freeze(
    model: keras.Model,
    config: config_pb2.ExperimentOptions,
    *,
    batch_size: int | None = 1,
    include_logits: bool = False,
) -> Network:
    """The model with its weights as constants, and its post-processing: images [B, H, W, 3] float32 -> named outputs.

    (H, W) is the crop size of `eval_dataset_options`. Outputs are MAPS; with `include_logits` all that DeepLab2 gives.
    """
    predict = freeze_predictions(model, config, batch_size=batch_size, include_logits=include_logits)
    height, width = config.eval_dataset_options.crop_size
    postprocess = mask_merging.build(config.evaluator_options, architectures.dataset_of(config).mask_classes())

    def network(images: tf.Tensor) -> dict[str, tf.Tensor]:
        prediction, semantic_logits = predict(images)
        maps = postprocess(prediction, (height, width))
        named = outputs.deeplab2_outputs(MaskTransformerOutput(prediction, semantic_logits, (), maps))
        return named if include_logits else {name: named[name] for name in MAPS}

    return network


def freeze_predictions(
    model: keras.Model,
    config: config_pb2.ExperimentOptions,
    *,
    batch_size: int | None = 1,
    include_logits: bool = False,
) -> Callable[[tf.Tensor], tuple[MaskPrediction, tf.Tensor | None]]:
    """The first half of `freeze`: images -> prediction and semantic logits.

    Without `include_logits` what only training needs is left out: pixel features are empty, semantic logits None.
    """

    def everything(images: tf.Tensor) -> list[tf.Tensor]:
        output = model(images, training=False)
        return [*output.prediction, *([] if output.semantic_logits is None else [output.semantic_logits])]

    def necessary(images: tf.Tensor) -> list[tf.Tensor]:
        prediction = model.predict_masks(images)
        return [prediction.class_logits, prediction.mask_logits]

    signature = [tf.TensorSpec([batch_size, *config.eval_dataset_options.crop_size, 3], tf.float32, name="images")]
    with _without_postprocessing(model):
        traced = tf.function(everything if include_logits else necessary, input_signature=signature, autograph=False)
        constant = convert_to_constants.convert_variables_to_constants_v2(traced.get_concrete_function())
    folded = _fold_constants(constant)

    def predict(images: tf.Tensor) -> tuple[MaskPrediction, tf.Tensor | None]:
        class_logits, mask_logits, *more = folded(images)
        pixel_features = more[0] if include_logits else tf.zeros([0])
        return MaskPrediction(class_logits, mask_logits, pixel_features), more[1] if len(more) > 1 else None

    return predict


def serve(network: Network, config: config_pb2.ExperimentOptions, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Runs a network on images [B, h, w, 3] of any size and type, values 0..255; maps come back at that size."""
    options = config.eval_dataset_options
    crop = preprocess.Sides(*options.crop_size)
    raw_size = tf.shape(images)[1:3]
    size = preprocess.resized_size(
        raw_size[0],
        raw_size[1],
        min_size=preprocess.parse_sides(options.min_resize_value, "min_resize_value"),
        max_size=preprocess.parse_sides(options.max_resize_value, "max_resize_value") or crop,
        factor=options.resize_factor,
    )
    # A side of an extremely long picture must not vanish, nor exceed the crop after rounding up to the factor.
    size = tf.clip_by_value(size, 1, tf.constant(crop, tf.int32))
    resized = tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=True)
    padding = tf.constant(crop, tf.int32) - size
    padded = tf.pad(
        resized, [[0, 0], [0, padding[0]], [0, padding[1]], [0, 0]], constant_values=tf.constant(preprocess.FILL)
    )
    padded = tf.ensure_shape(padded, [images.shape[0], crop.height, crop.width, 3])
    return {
        name: _to_raw_size(value, size, raw_size) if name in MAPS else value for name, value in network(padded).items()
    }


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Bytes of a JPEG, PNG, BMP or (the first frame of) a GIF file -> uint8 [h, w, 3]. EXIF is not read."""
    return tf.ensure_shape(tf.io.decode_image(encoded, channels=3, expand_animations=False), [None, None, 3])


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


def _to_raw_size(values: tf.Tensor, kept: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """[B, H, W] -> [B, h, w]: the kept part at the top left, by nearest neighbour; scores too, as in evaluation."""
    values = values[:, : kept[0], : kept[1], tf.newaxis]
    return tf.raw_ops.ResizeNearestNeighbor(images=values, size=size, align_corners=True)[..., 0]


@contextlib.contextmanager
def _without_postprocessing(model: keras.Model) -> Iterator[None]:
    kept, model.postprocess = model.postprocess, None
    try:
        yield
    finally:
        model.postprocess = kept


def _fold_constants(frozen: Any) -> Any:
    """The same function with the arithmetic on constants alone already done, so that loading it is quick."""
    session_config = session_config_pb2.ConfigProto()
    rewrites = session_config.graph_options.rewrite_options
    rewrites.optimizers[:] = ["constfold"]
    rewrites.min_graph_nodes = -1
    inputs, results = ([tensor.name for tensor in tensors] for tensors in (frozen.inputs, frozen.outputs))
    meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=frozen.graph.as_graph_def(), graph=frozen.graph)
    meta_graph.collection_def["train_op"].node_list.value.extend([*inputs, *results])  # what must stay
    folded = tf_optimizer.OptimizeGraph(session_config, meta_graph)
    for node in folded.node:
        # Nothing in it has side effects, and order alone would keep each weight beside what it was folded into.
        node.input[:] = [name for name in node.input if not name.startswith("^")]
    kept = tf.compat.v1.graph_util.extract_sub_graph(folded, [name.split(":")[0] for name in (*inputs, *results)])
    return wrap_function.function_from_graph_def(kept, inputs, results)
