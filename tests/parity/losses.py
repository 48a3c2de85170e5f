"""The parity cases of matching and losses: how each is run and measured."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.losses import mask_transformer
from deeplab2_kmax.matching import hungarian
from deeplab2_kmax.protos import model_pb2, trainer_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction, MaskTransformerOutput
from tests import shared
from tests.parity import networks

MATRICES = ("square", "wide", "tall", "rank1", "void_wide", "void_tall")
SETTINGS = ("a_", "b_", "c_")


def _assign(costs: tf.Tensor, num_rows: tf.Tensor, solver: hungarian.Solver) -> tf.Tensor:
    return hungarian.linear_sum_assignment(costs, num_rows, solver=solver)


# Name -> how the assignment is run.
SOLVERS = {
    "eager": functools.partial(_assign, solver=hungarian.Solver.HOST),
    "graph": tf.function(functools.partial(_assign, solver=hungarian.Solver.HOST)),
    "in_graph": functools.partial(_assign, solver=hungarian.Solver.IN_GRAPH),
    "xla": tf.function(functools.partial(_assign, solver=hungarian.Solver.AUTO), jit_compile=True),
}


def measure_hungarian(matrices: str, solver: str) -> list[networks.Row]:
    """One row for the assignment and one for its cost; `matrices` is one of MATRICES, `solver` one of SOLVERS."""
    _, arrays = shared.case("hungarian")
    costs = arrays[f"{matrices}_cost"]
    real = arrays.get(f"{matrices}_real_rows", np.ones(costs.shape[:2])) > 0
    order = np.argsort(~real, axis=1, kind="stable")  # Real rows first.
    compact = np.take_along_axis(costs, order[..., None], axis=1)

    slots = np.asarray(SOLVERS[solver](tf.constant(compact), tf.constant(real.sum(axis=1), tf.int32)))

    found = np.full_like(slots, -1)
    np.put_along_axis(found, order, slots, axis=1)
    total = np.array([sum(costs[b, r, c] for r, c in enumerate(found[b]) if c >= 0) for b in range(len(costs))])
    unequal = float(np.mean(found != arrays[f"{matrices}_assignment"]))
    return [
        networks.Row(f"{matrices}_assignment", unequal, 0.0),
        networks.compare(f"{matrices}_total_cost", total, arrays[f"{matrices}_total_cost"], rtol=0.0, atol=1e-4),
    ]


def measure_loss(prefix: str, mode: str) -> list[networks.Row]:
    """One row per loss term of a setting, `prefix` is one of SETTINGS, `mode` one of networks.MODES but bfloat16."""
    loss, output, batch, _, data = setting(prefix)
    terms = (loss if mode == "eager" else tf.function(loss, jit_compile=mode == "xla"))(output, batch)
    expected = {key.removeprefix("loss/"): value for key, value in data.items() if key.startswith("loss/")}
    if set(terms) != set(expected):
        raise AssertionError(f"Expected the terms {sorted(expected)}, but got {sorted(terms)}.")
    return [
        networks.compare(prefix + name, np.asarray(terms[name]), value, rtol=1e-4, atol=1e-5)
        for name, value in expected.items()
    ]


def setting(prefix: str) -> tuple[Any, ...]:
    """The loss, the model's output and the batch of one setting, and everything expected of them."""
    manifest, arrays = shared.case("max_deeplab_loss")
    options = manifest["settings"][prefix]
    data = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
    things = options["thing_class_ids"]
    others = set(range(options["num_classes"])) - set(things) - {options["ignore_label"]}
    classes = MaskClasses(tuple(things), tuple(sorted(others)), options["ignore_label"], 256)
    model_options = model_pb2.ModelOptions.MaXDeepLabOptions(
        **{key: options[key] for key in options if "sample_" in key}
    )
    loss = mask_transformer.MaskTransformerLoss(
        text_format.Parse(options["loss_options"], trainer_pb2.LossOptions()),
        model_options,
        classes,
        noise=lambda *_: tf.constant(data["uniform_noise"]),
    )

    def prediction(name):
        keys = ("transformer_class_logits", "pixel_space_mask_logits", "pixel_space_normalized_feature")
        return MaskPrediction(*(tf.constant(data[name + key]) for key in keys))

    auxiliary = tuple(prediction(f"aux{index}_") for index in range(options["auxiliary_output_number"]))
    output = MaskTransformerOutput(prediction(""), tf.constant(data["semantic_logits"]), auxiliary, None)
    batch = {key: tf.constant(data[key]) for key in data if key.endswith("_gt") or key == "semantic_loss_weight"}
    return loss, output, batch, classes, data
