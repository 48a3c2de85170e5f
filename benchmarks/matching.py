"""Times the matching of masks to slots, and the whole kMaX-DeepLab loss: `python benchmarks/matching.py`.

Matching: one image with 15 masks that exist, among 181 rows (COCO's 128 instances and 53 stuff classes), 128 slots.
Loss: one 641x641 crop at stride 4 with six auxiliary outputs and COCO's options, forwards and backwards.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from deeplab2_kmax.losses import mask_targets, mask_transformer
from deeplab2_kmax.matching import hungarian
from deeplab2_kmax.protos import model_pb2, trainer_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction, MaskTransformerOutput

MASKS, SLOTS, INSTANCES = 15, 128, 128
CLASSES = MaskClasses(tuple(range(1, 81)), tuple(range(81, 134)), ignore_label=0, label_divisor=256)


def run(repeats: int = 20) -> dict[str, float]:
    """Medians in milliseconds per image."""
    return {**_matching(repeats), **_loss(max(repeats // 4, 3))}


def _median_ms(function: Callable[[], object], repeats: int) -> float:
    function()  # Traces and compiles.
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        tf.nest.map_structure(lambda tensor: tensor.numpy(), function())
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times), 3)


def _matching(repeats: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    # Dice x class probability with one slot that fits each mask well, others a bit: like in mid-training.
    costs = -(rng.random((1, INSTANCES + len(CLASSES.stuff_ids), SLOTS), np.float32) ** 4)
    costs, num_rows = tf.constant(costs), tf.constant([MASKS])
    results = {}
    for name, solver, compiled in (
        ("host", hungarian.Solver.HOST, False),
        ("graph", hungarian.Solver.IN_GRAPH, False),
        ("xla", hungarian.Solver.IN_GRAPH, True),
    ):

        def solve(solver=solver):
            return hungarian.linear_sum_assignment(costs, num_rows, solver=solver)

        results[f"matching_{name}_ms"] = _median_ms(tf.function(solve, jit_compile=compiled), repeats)
    return results


def _loss(repeats: int, size: int = 641, stride: int = 4) -> dict[str, float]:
    side = (size - 1) // stride + 1
    targets = _targets(size)
    prediction = _prediction(side, seed=0)
    semantic_logits = tf.random.stateless_normal([1, side, side, 134], [0, 9])
    auxiliary = tuple(_prediction(side, seed=index + 1) for index in range(6))
    options = trainer_pb2.LossOptions()
    options.semantic_loss.weight = 1.0
    options.pq_style_loss.weight = 3.0
    options.mask_id_cross_entropy_loss.weight = 0.3
    options.instance_discrimination_loss.weight = 1.0
    model_options = model_pb2.ModelOptions.MaXDeepLabOptions(
        instance_discrimination_sample_k=4096, instance_discrimination_sample_temperature=1.5
    )
    loss = mask_transformer.MaskTransformerLoss(options, model_options, CLASSES)

    @tf.function
    def match():
        truth = mask_targets.prepare(targets, side, side, CLASSES)
        flat = prediction._replace(mask_logits=tf.reshape(prediction.mask_logits, [1, side * side, SLOTS]))
        return mask_targets.match(flat, tf.nn.softmax(flat.mask_logits), truth)

    def total(prediction, semantic_logits, auxiliary):
        output = MaskTransformerOutput(prediction, semantic_logits, auxiliary, None)
        return tf.reduce_sum(loss(output, targets)[mask_transformer.TOTAL])

    @tf.function
    def forward_backward(*outputs):
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            value = total(*outputs)
        return value, tape.gradient(value, outputs)

    outputs = (prediction, semantic_logits, auxiliary)
    forward = tf.function(total)
    return {
        "targets_and_matching_ms": _median_ms(match, repeats),
        "loss_forward_ms": _median_ms(lambda: forward(*outputs), repeats),
        "loss_forward_backward_ms": _median_ms(lambda: forward_backward(*outputs)[0], repeats),
    }


def _targets(size: int) -> dict[str, tf.Tensor]:
    """An image cut into 15 vertical strips: 10 instances, 5 stuff classes; a void frame."""
    strips = np.broadcast_to(np.arange(size) * MASKS // size, (size, size))
    semantic = np.where(strips < 10, strips + 1, strips + 80)
    semantic[:20] = 0
    thing_ids = np.where((strips < 10) & (semantic > 0), strips, -1)
    classes = np.full(INSTANCES, -1)
    classes[:10] = np.arange(10) + 1
    return {
        "semantic_gt": tf.constant(semantic[None], tf.int32),
        "thing_id_mask_gt": tf.constant(thing_ids[None], tf.int32),
        "thing_id_class_gt": tf.constant(classes[None], tf.int32),
        "semantic_loss_weight": tf.ones([1, size, size]),
    }


def _prediction(side: int, *, seed: int) -> MaskPrediction:
    features = tf.random.stateless_normal([1, side, side, 128], [seed, 2])
    return MaskPrediction(
        class_logits=tf.random.stateless_normal([1, SLOTS, CLASSES.num_outputs], [seed, 0]),
        mask_logits=tf.random.stateless_normal([1, side, side, SLOTS], [seed, 1]),
        pixel_features=tf.math.l2_normalize(features, axis=-1),
    )


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
