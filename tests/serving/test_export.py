"""Exported models do what the model in memory does, and bad exports are refused."""

import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import config as configs
from deeplab2_kmax.models import outputs
from deeplab2_kmax.serving import classes, export, network


def in_memory(model, config, picture):
    def run(images):
        return outputs.deeplab2_outputs(model(images, training=False))

    return {name: value.numpy() for name, value in network.serve(run, config, picture[np.newaxis]).items()}


def test_reloaded_model_equals_the_one_in_memory(exported, model, config, picture):
    loaded = tf.saved_model.load(str(exported.path))
    got = loaded.signatures["serving_default"](input_tensor=tf.constant(picture))
    expected = in_memory(model, config, picture)
    assert sorted(got) == sorted(network.MAPS)
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


def test_only_stock_operations_and_no_variables(exported):
    graph = tf.compat.v1.saved_model.loader_impl.parse_saved_model(str(exported.path)).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    used = {node.op for node in nodes} - {f.signature.name for f in graph.library.function}
    assert not [op for op in used if op.startswith("_") or "PyFunc" in op]
    assert "FusedBatchNormV3" not in used, "batch norms are folded"
    assert not [node for node in nodes if node.op == "ReadVariableOp"]


def test_what_travels_with_the_model(exported, config):
    table, content = classes.read(exported.path)
    assert table.dataset == "synthetic_panoptic"
    assert table.label_divisor == 1000
    assert content["precision"] == "float32"
    assert "kmax_resnet50" in content["config"]


def test_logits_and_features_on_request(config, checkpoint, model, picture, tmp_path):
    path = export.export(config, checkpoint, tmp_path / "model", include_logits=True).path
    got = tf.saved_model.load(str(path)).signatures["serving_default"](input_tensor=tf.constant(picture))
    expected = in_memory(model, config, picture)
    assert sorted(got) == sorted(expected)
    for name in set(expected) - set(network.MAPS):
        scale = np.std(expected[name])
        np.testing.assert_allclose(got[name], expected[name], atol=2e-3 * scale, err_msg=name)


def test_encoded_and_batched_input(config, checkpoint, exported, picture, tmp_path):
    plain = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    path = export.export(config, checkpoint, tmp_path / "encoded", input_type="encoded_image").path
    got = tf.saved_model.load(str(path)).signatures["serving_default"](input_tensor=tf.io.encode_png(picture))
    one = plain(input_tensor=tf.constant(picture))["panoptic_pred"]
    np.testing.assert_array_equal(got["panoptic_pred"], one)

    path = export.export(config, checkpoint, tmp_path / "batched", batched=True).path
    pair = np.stack([picture, picture[:, ::-1]])
    got = tf.saved_model.load(str(path)).signatures["serving_default"](input_tensor=tf.constant(pair))
    other = plain(input_tensor=tf.constant(pair[1]))["panoptic_pred"]
    assert np.mean(got["panoptic_pred"] == tf.concat([one, other], 0)) > 0.99


def test_bfloat16_is_close(config, checkpoint, model, picture, tmp_path):
    path = export.export(config, checkpoint, tmp_path / "model", precision="bfloat16", include_logits=True).path
    got = tf.saved_model.load(str(path)).signatures["serving_default"](input_tensor=tf.constant(picture))
    expected = in_memory(model, config, picture)
    for name in ("transformer_class_logits", "pixel_space_normalized_feature"):
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
