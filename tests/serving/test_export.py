"""Exported models do what the model in memory does, and bad exports are refused."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from deeplab2_kmax import config as configs
from deeplab2_kmax.models import outputs
from deeplab2_kmax.serving import classes, export, network, predictor
from tests import shared


def in_memory(model, config, picture):
    def run(images):
        return outputs.deeplab2_outputs(model(images, training=False))

    return {
        name: value.numpy()
        for name, value in network.serve(run, config.eval_dataset_options, picture[np.newaxis]).items()
    }


def test_reloaded_model_equals_the_one_in_memory(exported, model, config, picture):
    loaded = tf.saved_model.load(str(exported.path))
    got = loaded.signatures["serving_default"](input_tensor=tf.constant(picture))
    expected = in_memory(model, config, picture)
    assert sorted(got) == sorted(set(network.MAPS) - {"instance_center_pred"})
    for name, value in got.items():
        assert value.shape == (1, 50, 90)
        if value.dtype.is_integer:
            assert np.mean(value == expected[name]) > 0.995, name
        else:
            np.testing.assert_allclose(np.mean(value), np.mean(expected[name]), atol=1e-3)
    assert len(np.unique(got["panoptic_pred"])) > 2, "the example must not be empty"

    floats = loaded.signatures[export.FLOAT_SIGNATURE](input_tensor=tf.constant(picture, tf.float32))
    np.testing.assert_array_equal(floats["panoptic_pred"], got["panoptic_pred"])


def test_the_report_says_what_was_compared(exported):
    text = str(exported)
    assert "input input_tensor: uint8 [?, ?, 3]" in text
    assert "output panoptic_pred: int32 [1, ?, ?]" in text
    assert "panoptic_pred: " in exported.differences[2] and "% of the pixels are the same" in exported.differences[2]


def test_only_stock_operations_and_folded_norms(exported):
    saved = saved_model_pb2.SavedModel.FromString((exported.path / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    used = {node.op for function in functions for node in function.node_def}
    used -= {function.signature.name for function in functions}
    assert not [op for op in used if op.startswith("_") or "PyFunc" in op]
    for function in functions:
        norms = [node for node in function.node_def if node.op == "FusedBatchNormV3"]
        assert len(norms) in (0, 5), "only those of the test's backbone, which are not joined to its convolutions"


def test_what_travels_with_the_model(exported, dataset):
    table, content = classes.read(exported.path)
    assert table == classes.ClassTable.of(dataset) and table.names[0] == "my road"
    assert content["precision"] == "float32"
    assert "kmax_tiny" in content["config"]


@pytest.mark.slow
def test_batches_logits_and_features_on_request(config, checkpoint, exported, model, picture, tmp_path):
    path = export.export(config, checkpoint, tmp_path / "model", batched=True, include_logits=True).path
    pair = np.stack([picture, picture[:, ::-1]])
    got = tf.saved_model.load(str(path)).signatures["serving_default"](input_tensor=tf.constant(pair))
    plain = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    for image, panoptic in zip(pair, got["panoptic_pred"]):
        assert np.mean(plain(input_tensor=tf.constant(image))["panoptic_pred"][0] == panoptic) > 0.99
    expected = in_memory(model, config, picture)
    assert sorted(got) == sorted(expected)
    for name in set(expected) - set(network.MAPS):
        far = np.abs(got[name][:1] - expected[name])
        assert far.mean() < 2e-3 * np.std(expected[name]), name


def test_encoded_input(model, config, exported, picture):
    served = network.Network(model, config, batch_size=1)
    signature = export._signatures(served, config, "encoded_image", batched=False)["serving_default"]
    got = signature(tf.io.encode_png(picture))
    plain = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    np.testing.assert_array_equal(got["panoptic_pred"], plain(input_tensor=tf.constant(picture))["panoptic_pred"])


@pytest.mark.slow
def test_encoded_input_in_a_clean_process(config, checkpoint, exported, picture, tmp_path):
    path = export.export(config, checkpoint, tmp_path / "encoded", input_type="encoded_image").path
    got = tf.saved_model.load(str(path)).signatures["serving_default"](input_tensor=tf.io.encode_png(picture))
    plain = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    np.testing.assert_array_equal(got["panoptic_pred"], plain(input_tensor=tf.constant(picture))["panoptic_pred"])


@pytest.mark.slow
def test_bfloat16_is_close(config, checkpoint, model, picture, tmp_path):
    path = export.export(config, checkpoint, tmp_path / "model", precision="bfloat16", include_logits=True).path
    got = tf.saved_model.load(str(path)).signatures["serving_default"](input_tensor=tf.constant(picture))
    expected = in_memory(model, config, picture)
    # Not the classes: where masks are nearly alike, a pixel's cluster can change and with it everything after.
    for name in ("semantic_logits", "pixel_space_normalized_feature"):
        correlation = np.corrcoef(got[name].numpy().ravel(), expected[name].ravel())[0, 1]
        assert correlation > 0.98, name
    assert got["transformer_class_logits"].dtype == tf.float32
    assert classes.read(path)[1]["precision"] == "bfloat16"


def test_average_weights_are_what_is_exported(config, model, tmp_path):
    root = tf.train.Checkpoint(model=model)
    bias = tf.Variable(model.mask_predictor.class_head.bias + 3.0)
    root.averages = tf.Module()
    root.averages.mask_predictor = tf.Module()
    root.averages.mask_predictor.class_head = tf.Module()
    root.averages.mask_predictor.class_head.bias = bias
    prefix = root.write(str(tmp_path / "ckpt"))
    loaded = network.load_model(config, prefix)
    np.testing.assert_array_equal(loaded.mask_predictor.class_head.bias, bias)
    np.testing.assert_array_equal(loaded.mask_predictor.class_head.kernel, model.mask_predictor.class_head.kernel)


def test_a_checkpoint_that_lacks_a_variable(config, model, tmp_path):
    prefix = str(tmp_path / "ckpt")
    tf.train.Checkpoint(backbone=model.backbone, pixel_decoder=model.pixel_decoder).write(prefix)
    with pytest.raises(ValueError, match="lacks .* variables of the model"):
        export.export(config, prefix, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_what_does_not_go_together(config, checkpoint, tmp_path):
    with pytest.raises(ValueError, match="random weights are asked for"):
        export.export(config, None, tmp_path / "model")
    with pytest.raises(ValueError, match="random weights are asked for"):
        export.export(config, checkpoint, tmp_path / "model", random_weights=True)
    with pytest.raises(ValueError, match="sizes differ"):
        export.export(config, checkpoint, tmp_path / "model", batched=True, input_type="encoded_image")
    with pytest.raises(ValueError, match="Unknown input type 'image'"):
        export.export(config, checkpoint, tmp_path / "model", input_type="image")
    with pytest.raises(ValueError, match="Unknown precision"):
        export.export(config, checkpoint, tmp_path / "model", precision="float16")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("important")
    with pytest.raises(ValueError, match="holds other files"):
        export.export(config, checkpoint, tmp_path / "taken")
    without = configs.config_pb2.ExperimentOptions()
    without.CopyFrom(config)
    del without.eval_dataset_options.crop_size[:]
    with pytest.raises(ValueError, match="crop_size"):
        export.export(without, checkpoint, tmp_path / "model")


def test_a_description_that_is_not_ours(tmp_path):
    with pytest.raises(ValueError, match="says nothing about its classes"):
        classes.read(tmp_path)
    path = tmp_path / classes.FILE
    path.parent.mkdir()
    path.write_text(json.dumps({"classes": {"names": []}}))
    with pytest.raises(ValueError, match="expected a file that deeplab2_kmax's export wrote"):
        classes.read(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["panoptic_deeplab", "deeplab_v3_plus"])
def test_models_of_pixels(name, tmp_path, picture):
    override = "eval_dataset_options { crop_size: [65, 65] min_resize_value: [65, 65] max_resize_value: [65, 65] }"
    passes = "evaluator_options { eval_scales: [1, 1.5] add_flipped_images: true }"
    config = configs.load(shared.ROOT / f"configs/tiny/{name}_synthetic.textproto", [override, passes])
    path = export.export(config, None, tmp_path / "model", random_weights=True, include_logits=True).path
    got = tf.saved_model.load(str(path)).signatures["serving_default"](input_tensor=tf.constant(picture))
    assert tuple(got["semantic_probs"].shape) == (1, 50, 90, 9)
    assert ("instance_center_pred" in got) == ("offset_map" in got) == (name == "panoptic_deeplab")
    prediction = predictor.Predictor(path)(picture)
    np.testing.assert_array_equal(prediction.semantic, got["semantic_pred"][0])
    assert prediction.panoptic.shape == (50, 90)
    assert {segment["class_id"] for segment in prediction.segments} <= set(range(9))
