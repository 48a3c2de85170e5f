"""Whole samples without randomness against the parity case and the reference's test data."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab2_kmax.data import plan, samples
from deeplab2_kmax.data.datasets import DATASETS
from deeplab2_kmax.data.targets import keys, video
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
    "two_frames_eval": ("kitti_step", {"crop_size": [97, 129], "use_two_frames": True, **SMALL}),
    "two_frames_train": ("kitti_step", {"crop_size": [88, 126], "use_two_frames": True, **SMALL}),
    "next_frame_depth_eval": ("cityscapes_dvps", {"crop_size": [97, 129], "use_next_frame": True}),
}
TARGETS = {
    "two_frames_eval": ["semantic", "centers", "motion"],
    "two_frames_train": ["semantic", "centers", "motion"],
    "next_frame_depth_eval": ["semantic", "centers", "next_offsets", "depth"],
}


def make(name, arrays, training=False, seed=0):
    dataset, options = SETTINGS[name]
    source = {"cityscapes_train_flip": "cityscapes_train", "two_frames_train": "two_frames_eval"}.get(name, name)
    prefix = f"{source}/in/"
    record = {key[len(prefix) :]: tf.constant(value) for key, value in arrays.items() if key.startswith(prefix)}
    if "image" not in record:  # the case says: that of two_frames_eval
        record["image"] = tf.constant(arrays["two_frames_eval/in/image"])
    for key in ("image", "prev_image", "next_image"):
        if key in record:
            record[key] = tf.cast(record[key], tf.uint8)
    record["height"], record["width"] = tf.unstack(tf.shape(record["image"])[:2])
    record[keys.SAMPLE_ID] = tf.constant("file:0:name")
    record[keys.IMAGE_NAME] = tf.constant("name")
    options = dataset_pb2.DatasetOptions(**options)
    targets = TARGETS.get(name, ["semantic", "masks", "centers"])
    made_plan = plan.make(options, DATASETS[dataset], training=training, targets=targets)
    if not training:
        return samples.evaluation_sample(record, made_plan)
    return samples.training_sample(lambda stream: record, tf.constant([seed, 0]), made_plan)


def compare(made, arrays, name):
    prefix = f"{name}/out/"
    expected = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
    assert len(expected) >= 2
    for key, value in expected.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(made[key], value, atol=1e-4 if "image" in key else 1e-5, err_msg=key)
        else:
            np.testing.assert_array_equal(made[key], value, err_msg=key)


@pytest.mark.parametrize("name", ["cityscapes_eval", "coco_eval", "two_frames_eval", "next_frame_depth_eval"])
def test_evaluation_samples_equal_the_reference(name):
    _, arrays = shared.case("sample_generator")
    made = make(name, arrays)
    compare(made, arrays, name)
    if name == "next_frame_depth_eval":
        np.testing.assert_array_equal(made[keys.IMAGE][:88, :126, :3], arrays["two_frames_eval/in/image"])
        np.testing.assert_array_equal(made[keys.IMAGE][:88, :126, 3:], arrays[f"{name}/in/next_image"])
        np.testing.assert_array_equal(made[keys.NEXT_IMAGE], made[keys.IMAGE][..., 3:])
        np.testing.assert_array_equal(made[keys.NEXT_PANOPTIC_RAW], arrays[f"{name}/in/next_label"][..., 0])


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


def test_two_frames_equal_the_reference_in_training(monkeypatch):
    monkeypatch.setattr(video, "NOISE", 0.0)
    monkeypatch.setattr(video, "FALSE_POSITIVES", 0.0)
    _, arrays = shared.case("sample_generator")
    for seed in range(20):
        made = make("two_frames_train", arrays, training=True, seed=seed)
        if np.array_equal(made[keys.IMAGE][..., :3], arrays["two_frames_eval/in/image"]):  # not mirrored
            break
    np.testing.assert_array_equal(made[keys.IMAGE][..., 3:6], arrays["two_frames_eval/in/prev_image"])
    np.testing.assert_allclose(made[keys.IMAGE][..., 6], arrays["two_frames_train/out/image"], atol=1e-5)
    np.testing.assert_array_equal(made[keys.FRAME_OFFSET], arrays["two_frames_train/out/frame_offset_gt"])


def test_semantic_targets_alone():
    manifest, arrays = shared.case("sample_generator")
    image, label = arrays["cityscapes_eval/in/image"].astype(np.uint8), arrays["cityscapes_eval/in/label"][..., 0]
    made_plan = plan.make(
        dataset_pb2.DatasetOptions(crop_size=[97, 129], **SMALL), DATASETS["cityscapes_panoptic"], training=False
    )
    made = samples.evaluation_sample(record_of(image, label), made_plan)
    expected = manifest["settings"]["semantic_only"].rsplit("produced: ", 1)[1].split(", ")
    assert set(expected) <= set(made)
    assert keys.THING_ID_MASK not in made and keys.THING_ID_CLASS not in made
    for key in expected:
        np.testing.assert_allclose(made[key], arrays[f"cityscapes_eval/out/{key}"], atol=1e-4, err_msg=key)


def test_the_reference_scene_gives_its_evaluation_targets():
    image, label = reference_scene()
    expected = np.load(shared.path("data", "reference_testdata", "data", "eval_targets.npz"))
    options = dataset_pb2.DatasetOptions(crop_size=[800, 800], thing_id_mask_annotations=True)
    made_plan = plan.make(options, DATASETS["cityscapes_panoptic"], training=False)
    made = samples.evaluation_sample(record_of(image, label), made_plan)
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
    made_plan = plan.make(options, DATASETS["cityscapes_panoptic"], training=False)
    made = samples.evaluation_sample(record_of(image, label), made_plan)
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
        ({"use_two_frames": True, "use_next_frame": True}, "one other frame"),
        ({"cameras_to_use": ["front"]}, "it has one without a name"),
        ({"sigma": -1}, "sigma: expected a positive number"),
        (
            {"use_two_frames": True, "augmentations": {"panoptic_copy_paste": {"panoptic_copy_paste_scale": 1}}},
            "single images",
        ),
        ({"augmentations": {"color_jitter": {"hue": 0.7}}}, "color_jitter.hue: expected 0 to 0.5, found 0.7"),
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
        plan.make(options, DATASETS["cityscapes_panoptic"], training=True)


def test_targets_that_the_data_cannot_give_are_errors():
    options = dataset_pb2.DatasetOptions(crop_size=[65, 65])
    cityscapes, dvps = DATASETS["cityscapes_panoptic"], DATASETS["cityscapes_dvps"]
    with pytest.raises(ValueError, match="Unknown targets boxes"):
        plan.make(options, cityscapes, training=True, targets=["masks", "boxes"])
    with pytest.raises(ValueError, match="'motion' targets, which need use_two_frames"):
        plan.make(options, cityscapes, training=True, targets=["motion"])
    with pytest.raises(ValueError, match="'depth' targets, which need a data set with depth"):
        plan.make(options, cityscapes, training=True, targets=["depth"])
    options.min_resize_value.append(65)
    with pytest.raises(ValueError, match="would change depth"):
        plan.make(options, dvps, training=True, targets=["depth"])
    multicam = DATASETS["wod_pvps_image_panoptic_seg_multicam"]
    assert plan.make(options, multicam, training=True).cameras == multicam.camera_names
