"""Matching and all loss terms against DeepLab2, through the public functions."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.losses import mask_targets, mask_transformer, sampling
from deeplab2_kmax.matching import hungarian, similarity
from deeplab2_kmax.protos import model_pb2, trainer_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction, MaskTransformerOutput
from tests import shared

MATRICES = ("square", "wide", "tall", "rank1", "void_wide", "void_tall")


def assign(costs, num_rows, solver):
    return hungarian.linear_sum_assignment(costs, num_rows, solver=solver)


# Name -> how the assignment is run.
RUNS = {
    "host": functools.partial(assign, solver=hungarian.Solver.HOST),
    "host_in_function": tf.function(functools.partial(assign, solver=hungarian.Solver.HOST)),
    "in_graph": functools.partial(assign, solver=hungarian.Solver.IN_GRAPH),
    "xla": tf.function(functools.partial(assign, solver=hungarian.Solver.AUTO), jit_compile=True),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", MATRICES)
def test_hungarian(name, run):
    _, arrays = shared.case("hungarian")
    costs = arrays[f"{name}_cost"]
    real = arrays.get(f"{name}_real_rows", np.ones(costs.shape[:2])) > 0
    order = np.argsort(~real, axis=1, kind="stable")  # Real rows first.
    compact = np.take_along_axis(costs, order[..., None], axis=1)

    slots = np.asarray(RUNS[run](tf.constant(compact), tf.constant(real.sum(axis=1), tf.int32)))

    found = np.full_like(slots, -1)
    np.put_along_axis(found, order, slots, axis=1)
    np.testing.assert_array_equal(found, arrays[f"{name}_assignment"])
    total = [sum(costs[b, r, c] for r, c in enumerate(found[b]) if c >= 0) for b in range(len(costs))]
    np.testing.assert_allclose(total, arrays[f"{name}_total_cost"], atol=1e-4)


def setting(prefix):
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


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize("prefix", ["a_", "b_", "c_"])
def test_max_deeplab_loss(prefix, in_function):
    loss, output, batch, _, data = setting(prefix)
    run = tf.function(loss) if in_function else loss

    terms = run(output, batch)

    expected = {key[len("loss/") :]: value for key, value in data.items() if key.startswith("loss/")}
    assert set(terms) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_max_deeplab_loss_compiled_by_xla():
    loss, output, batch, _, data = setting("a_")

    terms = tf.function(loss, jit_compile=True)(output, batch)

    np.testing.assert_allclose(terms["total_loss"], data["loss/total_loss"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["a_", "b_", "c_"])
def test_matching(prefix):
    _, output, batch, classes, data = setting(prefix)
    prediction = output.prediction
    height, width = prediction.mask_logits.shape[1:3]
    flat = prediction._replace(mask_logits=tf.reshape(prediction.mask_logits, [2, height * width, -1]))
    probabilities = tf.nn.softmax(flat.mask_logits)

    truth = mask_targets.prepare(batch, height, width, classes)
    match = mask_targets.match(flat, probabilities, truth)

    np.testing.assert_array_equal(truth.is_real, data["mask_gt_non_void"] > 0)
    np.testing.assert_array_equal(match.row_slots, data["matched_slot"])
    dice = similarity.dice(probabilities, truth.rows, truth.areas, truth.labelled)
    np.testing.assert_allclose(dice, data["mask_similarity"], rtol=1e-4, atol=1e-5)
    void_ratio = similarity.void_ratio(probabilities, truth.labelled)
    np.testing.assert_allclose(void_ratio, data["mask_void_ratio"], rtol=1e-4, atol=1e-5)


def test_sampled_pixels():
    _, output, batch, classes, data = setting("b_")
    manifest, _ = shared.case("max_deeplab_loss")
    options = manifest["settings"]["b_"]
    truth = mask_targets.prepare(batch, *output.prediction.mask_logits.shape[1:3], classes)

    for loss, expected in (("instance_discrimination", "sampled_pixels"), ("semantic", "semantic_sampled_pixels")):
        drawn = sampling.draw_pixels(
            truth.inverse_areas,
            truth.labelled,
            tf.constant(data["uniform_noise"]),
            num_samples=options[f"{loss}_sample_k"],
            temperature=options[f"{loss}_sample_temperature"],
        )
        np.testing.assert_array_equal(np.sort(drawn, axis=1), data[expected])
