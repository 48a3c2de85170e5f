"""Whole samples without randomness against the parity case and the reference's test data."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab2_kmax.data import samples
from deeplab2_kmax.data.datasets import DATASETS
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.protos import dataset_pb2
from tests import shared

SMALL = {"increase_small_instance_weights": True, "small_instance_threshold": 300, "small_instance_weight": 3}
SETTINGS = {
    "cityscapes_train": ("cityscapes_panoptic", {"crop_size": [97, 129], "max_thing_id": 32, **SMALL}),
    "cityscapes_train_flip": ("cityscapes_panoptic", {"crop_size": [97, 129], "max_thing_id": 32, **SMALL}),
    "cityscapes_eval": ("cityscapes_panoptic", {"crop_size": [97, 129], "max_thing_id": 32, **SMALL}),
    "coco_eval": (
        "coco_panoptic",
        {"crop_size": [97, 97], "min_resize_value": [97], "max_resize_value": [97], "max_thing_id": 16},
    ),
    "coco_train": (
        "coco_panoptic",
        {"crop_size": [97, 97], "min_resize_value": [97], "max_resize_value": [97], "max_thing_id": 16},
    ),
    "two_frames_eval": ("kitti_step", {"crop_size": [97, 129], **SMALL}),
    "next_frame_depth_eval": ("cityscapes_dvps", {"crop_size": [97, 129]}),
}
# Keys of other tasks (centres, video, depth) in the case.
OTHER_TASKS = ("center", "regression", "frame_offset", "depth")


def make(name, arrays, image=None, label=None, training=False, seed=0):
    dataset, options = SETTINGS[name]
    source = name if f"{name}/in/label" in arrays else name.replace("_flip", "")
    image = arrays[f"{source}/in/image"] if image is None else image
    label = arrays[f"{source}/in/label"] if label is None else label
    record = {
        "image": tf.constant(image, tf.uint8),
        "label": tf.constant(label),
        "height": tf.constant(image.shape[0]),
        "width": tf.constant(image.shape[1]),
        keys.SAMPLE_ID: tf.constant("file:0:name"),
        keys.IMAGE_NAME: tf.constant("name"),
    }
    options = dataset_pb2.DatasetOptions(thing_id_mask_annotations=True, **options)
    plan = samples.plan(options, DATASETS[dataset], training=training)
    if not training:
        return samples.evaluation_sample(record, plan)
    return samples.training_sample(lambda stream: record, tf.constant([seed, 0]), plan)


def compare(made, arrays, name):
    compared = 0
    for key, expected in arrays.items():
        key = key[len(f"{name}/out/") :] if key.startswith(f"{name}/out/") else None
        if key is None or any(word in key for word in OTHER_TASKS):
            continue
        value = made[key].numpy()
        if expected.dtype == np.float32:
            np.testing.assert_allclose(value, expected[..., : value.shape[-1]], atol=1e-4, err_msg=key)
        else:
            np.testing.assert_array_equal(value, expected, err_msg=key)
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("name", ["cityscapes_eval", "coco_eval", "two_frames_eval"])
def test_evaluation_samples_equal_the_reference(name):
    _, arrays = shared.case("sample_generator")
    compare(make(name, arrays), arrays, name)


def test_void_of_another_number_equals_the_reference():
    _, arrays = shared.case("sample_generator")
    made = make("next_frame_depth_eval", arrays, image=arrays["two_frames_eval/in/image"])
    compare(made, arrays, "next_frame_depth_eval")


@pytest.mark.parametrize("name", ["cityscapes_train", "cityscapes_train_flip", "coco_train"])
def test_training_samples_equal_the_reference(name):
    """Crop and scale leave no choice here, and some seed flips as the case does."""
    _, arrays = shared.case("sample_generator")
    expected = arrays[f"{name}/out/image"]
    for seed in range(20):
        made = make(name, arrays, training=True, seed=seed)
        if np.allclose(made[keys.IMAGE], expected, atol=1e-4):
            break
    compare(made, arrays, name)


def test_semantic_targets_alone():
    manifest, arrays = shared.case("sample_generator")
    image, label = arrays["cityscapes_eval/in/image"].astype(np.uint8), arrays["cityscapes_eval/in/label"][..., 0]
    plan = samples.plan(
        dataset_pb2.DatasetOptions(crop_size=[97, 129], **SMALL), DATASETS["cityscapes_panoptic"], training=False
    )
    made = samples.evaluation_sample(record_of(image, label), plan)
    expected = manifest["settings"]["semantic_only"].rsplit("produced: ", 1)[1].split(", ")
    assert set(expected) <= set(made)
    assert keys.THING_ID_MASK not in made and keys.THING_ID_CLASS not in made
    for key in expected:
        np.testing.assert_allclose(made[key], arrays[f"cityscapes_eval/out/{key}"], atol=1e-4, err_msg=key)


def test_the_reference_scene_gives_its_evaluation_targets():
    image, label = reference_scene()
    expected = np.load(shared.path("data", "reference_testdata", "data", "eval_targets.npz"))
    options = dataset_pb2.DatasetOptions(crop_size=[800, 800], thing_id_mask_annotations=True)
    plan = samples.plan(options, DATASETS["cityscapes_panoptic"], training=False)
    made = samples.evaluation_sample(record_of(image, label), plan)
    for key in expected:
        np.testing.assert_array_equal(made[key], expected[key], err_msg=key)


def test_the_reference_scene_gives_its_training_targets():
    image, label = reference_scene()
    expected = np.load(shared.path("data", "reference_testdata", "data", "train_targets.npz"))
    # The random draw of the file: crop at (4, 22), then a flip.
    image, label = image[4 : 4 + 769, 22 : 22 + 769][:, ::-1], label[4 : 4 + 769, 22 : 22 + 769][:, ::-1]
    options = dataset_pb2.DatasetOptions(
        crop_size=[769, 769],
        thing_id_mask_annotations=True,
        increase_small_instance_weights=True,
    )
    plan = samples.plan(options, DATASETS["cityscapes_panoptic"], training=False)
    made = samples.evaluation_sample(record_of(image, label), plan)
    np.testing.assert_array_equal(made[keys.IMAGE], expected["image_uint8"])
    for key in (keys.SEMANTIC, keys.PANOPTIC, keys.IS_CROWD, keys.THING_ID_MASK, keys.THING_ID_CLASS):
        np.testing.assert_array_equal(made[key], expected[key], err_msg=key)
    weights = (made[keys.SEMANTIC_WEIGHT].numpy() * 85).astype(np.uint8)
    np.testing.assert_array_equal(weights, expected["semantic_loss_weight_x85_uint8"])


def reference_scene():
    folder = shared.path("data", "reference_testdata", "data")
    image = np.asarray(Image.open(folder / "leftImg8bit" / "dummy_000000_000000_leftImg8bit.png").convert("RGB"))
    coded = np.asarray(Image.open(folder / "dummy_gt_for_vps.png").convert("RGB")).astype(np.int32)
    return image, coded[..., 0] + 256 * coded[..., 1] + 65536 * coded[..., 2]


def record_of(image, label):
    return {
        "image": tf.constant(image),
        "label": tf.constant(label[..., np.newaxis]),
        "height": tf.constant(image.shape[0]),
        "width": tf.constant(image.shape[1]),
        keys.SAMPLE_ID: tf.constant("file:0:name"),
        keys.IMAGE_NAME: tf.constant("name"),
    }


@pytest.mark.parametrize(
    "options, message",
    [
        ({"use_two_frames": True}, "use_two_frames is not supported yet"),
        ({"use_next_frame": True}, "use_next_frame is not supported yet"),
        ({"cameras_to_use": ["front"]}, "Multi-camera"),
        ({"crop_size": [65]}, "crop_size: expected height and width"),
        ({"max_resize_value": [97]}, "larger than crop_size"),
        ({"max_thing_id": 0}, "max_thing_id"),
        ({"decode_groundtruth_label": False}, "Training needs labels"),
        ({"augmentations": {"autoaugment_policy_name": "simple"}}, "autoaugment policy"),
        ({"augmentations": {"min_scale_factor": 2}}, "expected 0 < min <= max"),
        (
            {
                "augmentations": {
                    "panoptic_copy_paste": {
                        "panoptic_copy_paste_scale": 1,
                        "panoptic_copy_paste_thing_option": "most",
                    }
                }
            },
            "panoptic_copy_paste_thing_option 'most'",
        ),
    ],
)
def test_bad_options_are_errors(options, message):
    options = dataset_pb2.DatasetOptions(**{"crop_size": [65, 65], **options})
    with pytest.raises(ValueError, match=message):
        samples.plan(options, DATASETS["cityscapes_panoptic"], training=True)


def test_unsupported_targets_and_cameras_are_errors():
    options = dataset_pb2.DatasetOptions(crop_size=[65, 65])
    with pytest.raises(ValueError, match="Targets centers are not supported yet"):
        samples.plan(options, DATASETS["cityscapes_panoptic"], training=True, targets=["masks", "centers"])
    with pytest.raises(ValueError, match="Multi-camera"):
        samples.plan(options, DATASETS["wod_pvps_image_panoptic_seg_multicam"], training=True)
