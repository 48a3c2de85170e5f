"""From a picture file to a prediction, through an exported model and without one."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import datasets
from deeplab2_kmax.serving.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(exported):
    return Predictor(exported.path)


def test_a_picture_gives_maps_of_its_own_size(predictor, image_file, picture):
    result = predictor(image_file)
    assert result.panoptic.shape == result.semantic.shape == (50, 90)
    assert result.panoptic.dtype == np.int32
    np.testing.assert_array_equal(result.image, picture)
    assert result.segments and sum(s["area"] for s in result.segments) <= 50 * 90
    assert {s["id"] for s in result.segments} <= set(np.unique(result.panoptic).tolist())
    assert result.draw().shape == (50, 90, 3)
    np.testing.assert_array_equal(predictor(picture).panoptic, result.panoptic)
    np.testing.assert_array_equal(predictor(image_file.read_bytes()).panoptic, result.panoptic)


def test_the_names_of_own_classes_need_no_class_file(exported, dataset, picture, monkeypatch):
    """The export has them: on the machine that predicts there is no class file."""
    monkeypatch.setattr(datasets, "lookup", None)
    monkeypatch.setattr(datasets, "read", None)
    result = Predictor(exported.path)(picture)
    names = {segment["name"] for segment in result.segments}
    assert names and names <= set(dataset.class_names)


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (200, 2), (66, 65)])
def test_pictures_of_any_size(predictor, size):
    picture = np.random.RandomState(0).randint(0, 256, (*size, 3)).astype(np.uint8)
    assert predictor(picture).panoptic.shape == size


def test_without_an_export_the_same(config, checkpoint, predictor, picture):
    direct = Predictor.from_config(config, checkpoint)
    np.testing.assert_array_equal(direct(picture).panoptic, predictor(picture).panoptic)


def test_too_large_and_broken_pictures(exported, picture, tmp_path):
    predictor = Predictor(exported.path, pixel_limit=1000)
    with pytest.raises(ValueError, match="the limit is 0.001"):
        predictor(picture)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    with pytest.raises(ValueError, match="broken.jpg"):
        predictor(tmp_path / "broken.jpg")


def test_folders_that_are_no_model(tmp_path):
    with pytest.raises(ValueError, match="is no SavedModel"):
        Predictor(tmp_path)
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([], name="x")])
    tf.saved_model.save(module, str(tmp_path / "other"), signatures=module.f.get_concrete_function())
    with pytest.raises(ValueError, match="says nothing about its classes"):
        Predictor(tmp_path / "other")
    with pytest.raises(ValueError, match="expected an input input_tensor"):
        Predictor(tmp_path / "other", dataset="coco_panoptic")


def test_damaged_exports(exported, tmp_path):
    folder = shutil.copytree(exported.path, tmp_path / "copy")
    (data,) = (folder / "variables").glob("*.data-*")
    content = (folder / "saved_model.pb").read_bytes()
    for path, left in ((data, b"cut"), (folder / "saved_model.pb", content[: len(content) // 2])):
        path.write_bytes(left)
        with pytest.raises(ValueError, match="copy: the SavedModel is damaged, copy or export it again") as caught:
            Predictor(folder)
        assert "\n" not in str(caught.value)


def test_arrays_that_an_exported_function_does_not_take(exported):
    function = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    for wrong in ([5, 6], [1, 5, 6, 3], [5, 6, 4]):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"is not compatible with expected shape \[1,\?,\?,3\]"
        ):
            function(input_tensor=tf.zeros(wrong, tf.uint8))
