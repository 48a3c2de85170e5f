"""The networks answer as DeepLab2's do, with its checkpoints rebuilt under its own names, in every mode."""

import numpy as np
import pytest
import tensorflow as tf

from tests import shared
from tests.parity import deeplab, networks

# Allowed root mean square of bfloat16's difference, in standard deviations of the expected values.
BFLOAT16_RMS = 0.1
# What a hard assignment makes of it: a pixel that changes its cluster moves two centres, and all that follows.
BFLOAT16_RMS_AFTER_ASSIGNMENT = {"kmax_resnet50_gain2": 0.8}
BFLOAT16_UNEQUAL = 0.15
# Classes are the highest of many logits, near each other with random weights: where those logits have moved, about half
# of the pixels change theirs. The logits have the bound above.
BFLOAT16_CHANGES_CLASSES = {("kmax_resnet50_gain2", "semantic_pred")}
BEFORE_ASSIGNMENT = ("encoder_", "pixel_decoder_")

CASES = {case.name: case for case in (*networks.CASES, *deeplab.CASES)}


# Tracing the many passes of these takes longer than running them; slow tests do. That graphs of these networks give the
# same is shown at tiny sizes in tests/models and tests/backbones.
EAGER = {case.name for case in deeplab.CASES}
EAGER |= {"kmax_resnet50", "kmax_resnet50_gain2", "kmax_transformer_decoder", "max_deeplab_l_backbone", "moat0"}


# Others have the same parts.
SLOW = ("kmax_resnet50_gain2", "axial_resnet50", "resnet50_beta")
every_case = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]
)


@every_case
def test_outputs_are_those_of_deeplab2(name):
    rows = networks.measure(CASES[name], "eager" if name in EAGER else "graph", training=True)

    assert [row for row in rows if not row.share <= 1] == []
    manifest, _ = shared.case(name)
    assert {row.output for row in rows} == set(manifest["outputs"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["other", "xla"])
@pytest.mark.parametrize("name", CASES)
def test_other_modes_give_the_same(name, mode):
    if mode == "other":
        mode = "graph" if name in EAGER else "eager"
    rows = networks.measure(CASES[name], mode)

    assert [row for row in rows if not row.share <= 1] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_bfloat16_stays_near(name):
    rows = networks.measure(CASES[name], "bfloat16")

    after = BFLOAT16_RMS_AFTER_ASSIGNMENT.get(name, BFLOAT16_RMS)
    for row in rows:
        if (name, row.output) in BFLOAT16_CHANGES_CLASSES:
            continue
        # Of integers the error is a share.
        assert row.rms > 0 or row.error < BFLOAT16_UNEQUAL, row
        assert row.rms < (BFLOAT16_RMS if row.output.startswith(BEFORE_ASSIGNMENT) else after), row


@pytest.mark.slow
def test_a_lean_call_assigns_the_same_pixels():
    _, arrays = shared.case("kmax_transformer_decoder")
    model = networks.coco_model()
    features = [tf.constant(arrays[f"feature_{name}"]) for name in ("os32", "os16", "os8")]

    full = model.transformer_decoder(features, predict=True, training=False)
    lean = model.transformer_decoder(features, training=False)

    for one, other in zip(full.steps, lean.steps):
        np.testing.assert_array_equal(one.assignment, other.assignment)
