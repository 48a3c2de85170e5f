"""Matching and all loss terms against DeepLab2, through the public functions."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.losses import mask_targets, sampling
from deeplab2_kmax.matching import similarity
from tests import shared
from tests.parity import losses


@pytest.mark.parametrize("solver", losses.SOLVERS)
@pytest.mark.parametrize("matrices", losses.MATRICES)
def test_hungarian(matrices, solver):
    assert [row for row in losses.measure_hungarian(matrices, solver) if not row.share <= 1] == []


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("prefix", losses.SETTINGS)
def test_max_deeplab_loss(prefix, mode):
    assert [row for row in losses.measure_loss(prefix, mode) if not row.share <= 1] == []


def test_max_deeplab_loss_compiled_by_xla():
    assert [row for row in losses.measure_loss("a_", "xla") if not row.share <= 1] == []


@pytest.mark.parametrize("prefix", losses.SETTINGS)
def test_matching(prefix):
    _, output, batch, classes, data = losses.setting(prefix)
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
    _, output, batch, classes, data = losses.setting("b_")
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
