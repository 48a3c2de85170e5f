"""ReMaX as a training option of kMaX-DeepLab: heads that training alone uses, and an inference that is the same."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.checkpoints import restore
from deeplab2_kmax.losses import mask_transformer
from deeplab2_kmax.protos import trainer_pb2
from deeplab2_kmax.serving import folding
from tests.models import small
from tests.models.test_cmt_deeplab import LOSSES, batch
from tests.models.test_kmax_deeplab import images, policy, randomize

ALL = "max_deeplab { remax { remask_blocks: [0, 2, 3] } }"  # block 3 is the final prediction
HEADS = ("transformer_decoder/blocks/0/semantic_head/", "transformer_decoder/blocks/2/semantic_head/")
HEADS += ("final_semantic_head/",)


@pytest.fixture(scope="module")
def model():
    built = small.build(ALL)
    randomize(built)
    return built


@pytest.fixture(scope="module")
def plain():
    return small.build()


def test_training_gives_semantic_logits_of_the_relaxed_blocks(model):
    output = model(images(), training=True)
    shapes = [None if x is None else tuple(x.shape) for x in output.block_semantic_logits]
    assert shapes == [(2, 2, 3, 5), None, (2, 5, 9, 5), (2, 9, 17, 5)]
    assert model(images(), training=False).block_semantic_logits == ()


def test_only_the_heads_are_added(model, plain):
    plain, relaxed = restore.variable_paths(plain), restore.variable_paths(model)
    assert {name for name in relaxed if name.startswith(HEADS)} == set(relaxed) - set(plain)
    assert set(plain) < set(relaxed)
    assert {name.split("/semantic_head/")[0] for name in relaxed if "blocks" in name and "/semantic_head/" in name} == {
        "transformer_decoder/blocks/0",
        "transformer_decoder/blocks/2",
    }


@pytest.mark.parametrize("changes", ["", "remask: false"])
def test_without_remask_nothing_is_added(changes, plain):
    """Also the default, the first four of six blocks, where there are only three."""
    plain = restore.variable_paths(plain)
    relaxed = restore.variable_paths(small.build(f"max_deeplab {{ remax {{ {changes} }} }}"))
    added = {name.split("/")[2] for name in set(relaxed) - set(plain)}
    assert added == (set() if changes else {"0", "1", "2"})


def test_inference_is_the_same_graph_and_reads_no_variable_of_a_head(model, plain):
    def traced(built):
        spec = tf.TensorSpec([1, 65, 65, 3])
        found = tf.function(built.predict_masks, input_signature=[spec], autograph=False).get_concrete_function()
        operations = [node.op for node in found.graph.as_graph_def().node]
        return operations, found.variables, folding.Folded(found)

    theirs = restore.variable_paths(model)
    for name, variable in restore.variable_paths(plain).items():
        variable.assign(theirs[name])
    operations, variables, folded = traced(model)
    expected, plain_variables, plain_folded = traced(plain)
    assert operations == expected
    names = {variable.ref(): name for name, variable in theirs.items()}
    used = {names[variable.ref()] for variable in variables}
    assert len(variables) == len(plain_variables) and not [name for name in used if name.startswith(HEADS)]
    picture = images(65, 65, 1)
    for left, right in zip(*(tf.function(f, autograph=False)(picture) for f in (folded, plain_folded))):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    "precision, recompute, graph",
    [
        ("float32", "false", False),
        pytest.param("float32", "false", True, marks=pytest.mark.slow),
        pytest.param("float32", "true", True, marks=pytest.mark.slow),
        pytest.param("mixed_bfloat16", "false", True, marks=pytest.mark.slow),
    ],
)
def test_gradients_reach_every_variable(precision, recompute, graph):
    with policy(precision):
        model = small.build(f"{ALL} ".replace("remax", f"kmax {{ recompute_transformer_decoder: {recompute} }} remax"))
    randomize(model)
    loss = mask_transformer.MaskTransformerLoss(
        text_format.Parse(LOSSES, trainer_pb2.LossOptions()), small.options(ALL).max_deeplab, small.CLASSES
    )

    def step():
        with tf.GradientTape() as tape:
            terms = loss(model(images(), training=True, seed=tf.constant([1, 2])), batch())
        return terms, tape.gradient(terms["total_loss"], model.trainable_variables)

    terms, gradients = (tf.function(step) if graph else step)()
    semantic = {name for name in terms if name.endswith("semantic_loss")}
    assert semantic == {"semantic_loss", "aux_0semantic_loss", "aux_2semantic_loss", "aux_3semantic_loss"}
    assert np.isfinite(terms["total_loss"]).all()
    for variable, gradient in zip(model.trainable_variables, gradients):
        assert gradient is not None and np.isfinite(gradient).all(), variable.name


@pytest.mark.parametrize(
    "changes, message", [("remask_blocks: 4", "are 0 to 3, but got"), ("remask_blocks: -1", "0 to 3")]
)
def test_blocks_that_do_not_exist(changes, message):
    with pytest.raises(ValueError, match=message):
        small.build(f"max_deeplab {{ remax {{ {changes} }} }}")


def test_remask_needs_the_sizes_of_a_semantic_head():
    with pytest.raises(ValueError, match="remask needs max_deeplab.auxiliary_semantic_head"):
        small.build("max_deeplab { auxiliary_semantic_head { output_channels: 0 } remax {} }")
