"""What the devices compute in an evaluation: one batch for each replica, maps at the network's size, loss terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from deeplab2_kmax import labels, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.layers import shapes
from deeplab2_kmax.models import mask_transformer, outputs, passes
from deeplab2_kmax.postprocess import mask_semantics
from deeplab2_kmax.protos import evaluator_pb2
from trainer import distribution, training

Batch = Mapping[str, tf.Tensor]  # images and their targets, keys of data/targets/keys.py
Maps = Mapping[str, tf.Tensor]  # by DeepLab2's names, [B, H, W, ...]
Semantic = Callable[[tf.Tensor, structures.MaskPrediction], tf.Tensor]

NEAREST = (  # how maps come back to raw size
    *("panoptic_pred", "semantic_pred", "instance_pred", "semantic_scores", "instance_scores"),
    *("next_panoptic_pred", "concat_next_panoptic_pred", "center_heatmap"),
)
BILINEAR = ("depth_pred", "normals_pred")
_ON_HOST = (  # beside strings
    *(keys.SIZE_RAW, keys.SIZE_RESIZED, keys.RESIZED_IMAGE, keys.SEMANTIC_RAW, keys.PANOPTIC_RAW, keys.IS_CROWD_RAW),
    *(keys.NEXT_PANOPTIC_RAW, keys.DEPTH_RAW, keys.NORMALS_RAW, keys.NUM_CAMERAS_RAW),
)


class Inference:
    """Runs a model on batches, one for each replica of this machine at a time."""

    def __init__(
        self,
        model: keras.Model,
        loss: training.Loss | None,
        strategy: tf.distribute.Strategy,
        *,
        label_divisor: int,
        semantic: Semantic | None = None,
        compiled: bool = True,
    ):
        """Keeps what it needs.

        Args:
            model: made with post-processing.
            loss: its terms come with the maps; None: no terms.
            strategy: the one that the model was made under.
            label_divisor: of panoptic maps.
            semantic: takes the place of the model's own semantic map.
            compiled: whether the model runs as a graph.
        """
        self._model, self._loss, self._strategy, self._semantic = model, loss, strategy, semantic
        self._label_divisor = label_divisor
        # Several machines evaluate all images each: simple, and no machine waits for another's last image.
        self.num_replicas = strategy.num_replicas_in_sync // distribution.num_machines()
        self._run = tf.function(self._run_each, autograph=False) if compiled else self._run_each
        self._rows = 0  # images of a batch; the last one is filled up to it

    def reset(self) -> None:
        """Images have no order here: see video_inference.py."""

    def __call__(self, batches: list[Batch]) -> list[tuple[Maps, Mapping[str, tf.Tensor]]]:
        """The maps and the loss terms [B] of each batch."""
        counts = [batch[keys.IMAGE].shape[0] for batch in batches]
        self._rows = max(self._rows, *counts)
        inputs = [for_device(batch, self._rows) for batch in batches]
        if self._strategy.num_replicas_in_sync == 1:
            each = inputs[0]
        else:
            # Replicas without a batch of their own repeat the first one; `zip` leaves their answers out.
            each = self._strategy.experimental_distribute_values_from_function(
                lambda context: inputs[context.replica_id_in_sync_group % self.num_replicas % len(inputs)]
            )
        found = self._run(each)
        local = [
            {name: self._strategy.experimental_local_results(value) for name, value in values.items()}
            for values in found
        ]
        maps, terms = (
            [{name: value[index][:count] for name, value in values.items()} for index, count in enumerate(counts)]
            for values in local
        )
        return list(zip(maps, terms))

    def _run_each(self, each):
        return self._strategy.run(self._run_one, args=(each,))

    def _run_one(self, batch):
        """One replica's part, without auxiliary outputs."""
        images = batch[keys.IMAGE]
        output = self._model(images, training=False)
        semantic = None if self._semantic is None else self._semantic(images, output.prediction)
        return answer(output, batch, self._loss, label_divisor=self._label_divisor, semantic=semantic)


def answer(
    output: structures.MaskTransformerOutput | structures.DeepLabOutput,
    batch: Batch,
    loss: training.Loss | None,
    *,
    label_divisor: int,
    semantic: tf.Tensor | None = None,
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """What leaves the device: the maps of an output, and its loss terms; `semantic` replaces its own map."""
    named = outputs.deeplab2_outputs(output)
    if semantic is not None:
        named["semantic_pred"] = semantic
    if "semantic_scores" not in named and {"semantic_probs", "panoptic_pred"} <= named.keys():
        named["semantic_scores"] = _class_scores(named["semantic_probs"], named["panoptic_pred"], label_divisor)
    maps = {name: named[name] for name in (*NEAREST, *BILINEAR) if name in named}
    if loss is None:
        return maps, {}
    if getattr(output, "auxiliary", ()):
        output = output._replace(auxiliary=())
    return maps, dict(loss(output, batch))


def semantic_of_passes(
    model: keras.Model, options: evaluator_pb2.EvaluatorOptions, classes: structures.MaskClasses
) -> Semantic | None:
    """The semantic map of a mask transformer over the scales and mirrorings that `options` ask for.

    The class probabilities of the passes are averaged on the grid of the plain pass's masks. None: one plain pass, or
    a model of pixels, which averages all its maps itself.
    """
    wanted = passes.make(options.eval_scales, add_mirrored=options.add_flipped_images)
    others = [one for one in wanted if one != passes.Pass()]
    if not others or not isinstance(model, mask_transformer.MaskTransformer):
        return None

    def network(images: tf.Tensor, scale: float) -> dict[str, tf.Tensor]:
        del scale
        return {"semantic_probs": mask_semantics.probabilities(model.predict_masks(images))}

    def semantic(images: tf.Tensor, plain: structures.MaskPrediction) -> tf.Tensor:
        grid, size = shapes.of(plain.mask_logits)[1:3], shapes.of(images)[1:3]
        # The plain pass is there already.
        total = passes.average(network, images, others, size=(grid[0], grid[1]))["semantic_probs"] * len(others)
        if len(others) < len(wanted):
            total += mask_semantics.probabilities(plain) * (len(wanted) - len(others))
        return mask_semantics.most_probable(total / len(wanted), (size[0], size[1]), classes=classes)

    return semantic


def _class_scores(probabilities: tf.Tensor, panoptic: tf.Tensor, label_divisor: int) -> tf.Tensor:
    """The probability of every pixel's class, 0 where that is void: [B, H, W, C], [B, H, W] -> [B, H, W]."""
    classes = labels.class_of(panoptic, label_divisor)
    known = classes < probabilities.shape[-1]
    picked = tf.gather(probabilities, tf.where(known, classes, 0), batch_dims=3)
    return tf.where(known, picked, 0.0)


def for_device(batch: Batch, rows: int) -> dict[str, tf.Tensor]:
    """What goes to the device, with the last image repeated up to `rows` of them."""
    kept = {key: value for key, value in batch.items() if value.dtype != tf.string and key not in _ON_HOST}
    missing = rows - batch[keys.IMAGE].shape[0]
    if not missing:
        return kept
    return {key: tf.concat([value, tf.repeat(value[-1:], missing, axis=0)], axis=0) for key, value in kept.items()}
