"""Records that cannot be read, several cameras, the data service."""

import io
import logging

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab2_kmax.data import pipeline, reader
from deeplab2_kmax.data.datasets import DATASETS
from deeplab2_kmax.data.targets import keys
from tests.data import test_pipeline as plain


@pytest.fixture
def many(tmp_path):
    """200 records; number 3 has a flipped bit, number 150 a broken image."""
    examples = [plain.example(number) for number in range(200)]
    broken = tf.train.Example.FromString(examples[150])
    broken.features.feature["image/encoded"].bytes_list.value[0] = b"broken"
    examples[150] = broken.SerializeToString()
    paths = plain.write(tmp_path, examples)
    data = bytearray(paths[0].read_bytes())
    data[sum(len(one) + 16 for one in examples[:3]) + 100] ^= 1
    paths[0].write_bytes(data)
    return tmp_path


def test_corrupt_records_are_counted_named_and_left_out(many, caplog):
    with caplog.at_level(logging.WARNING, logger="absl"):
        batches = plain.evaluation(many, {"skip_corrupt": True})
    assert plain.numbers(batches) == [number for number in range(200) if number not in (3, 150)]
    (line,) = [record.getMessage() for record in caplog.records if "skip_corrupt" in record.getMessage()]
    assert line.startswith("skip_corrupt: 2 of 200 records are left out")
    assert "train-00000-of-00002.tfrecord, record 3;" in line and "00001-of-00002.tfrecord, record 50" in line
    # The order of training is a function of what is left: resuming meets the very batches.
    changes = {"skip_corrupt": True, "batch_size": 2}
    batches = plain.training(many, 100, changes)
    assert sorted(plain.numbers(batches[:99])) == [number for number in range(200) if number not in (3, 150)]
    plain.assert_same(batches[50:52], plain.training(many, 2, changes, start_batch=50))


def test_more_corrupt_records_than_the_budget_are_an_error(many):
    with pytest.raises(
        ValueError, match=r"2 of 200 records cannot be read, more than .* 0.005 allows \(1\): .*record 3"
    ):
        plain.training(many, 1, {"skip_corrupt": True, "skip_corrupt_budget": 0.005})
    with pytest.raises(ValueError, match="skip_corrupt_budget 1: expected 0 or more"):
        plain.training(many, 1, {"skip_corrupt": True, "skip_corrupt_budget": 1})


def test_without_skip_corrupt_the_first_of_them_stops_the_run(many):
    with pytest.raises(tf.errors.InvalidArgumentError, match="record 3.*is corrupt"):
        plain.evaluation(many)


def test_records_are_read_for_corruption_once_in_a_program(many, monkeypatch):
    plain.training(many, 1, {"skip_corrupt": True})
    monkeypatch.setattr(reader.Reader, "read", None)  # a second search would fail

    options = plain.options_for(many, skip_corrupt=True)
    made = pipeline.plan.make(options, plain.CITYSCAPES, training=True)
    parts = pipeline.mixture.sources(options, plain.CITYSCAPES)
    assert reader.Reader(parts, made, video=False).skip_corrupt(0.01) == 2


# Two frames, cameras.

KITTI, MULTICAM = DATASETS["kitti_step"], DATASETS["wod_pvps_image_panoptic_seg_multicam"]


def frame(number, label, other, which):
    pixels = io.BytesIO()
    Image.fromarray(np.full([*label.shape, 3], 100 + number, np.uint8)).save(pixels, format="PNG")
    more = {f"{which}_image": pixels.getvalue(), f"{which}_label": other}
    return plain.example(number, label=label, sequence_id="0001", frame_id=f"{number:06d}", **more)


def test_both_frames_go_through_the_same_draws(tmp_path):
    """The other frame's colour says how both were changed; its label is the first one's, so all targets agree."""
    label = np.zeros([40, 60], np.int32)
    label[5:20, 10:30] = 13001
    label[25:35, 35:55] = 11002
    rng = np.random.default_rng(0)
    pixels = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, [40, 60, 3], np.uint8)).save(pixels, format="PNG")
    image = pixels.getvalue()
    one = plain.records.encode_example(image, label, filename="image1", prev_image=image, prev_label=label)
    plain.write(tmp_path, [one], shards=1)
    changes = {
        "use_two_frames": True,
        "augmentations": {
            **plain.EVERYTHING["augmentations"],
            "panoptic_copy_paste": {},
            "color_jitter": {"probability": 1, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        },
    }
    options = plain.options_for(tmp_path, **changes)
    targets = ["semantic", "centers", "motion", "tracks"]
    stream = pipeline.build_dataset(options, dataset=KITTI, training=True, targets=targets)
    for batch in stream.take(4).as_numpy_iterator():
        assert batch[keys.IMAGE].shape == (4, 17, 25, 7)
        np.testing.assert_array_equal(batch[keys.IMAGE][..., :3], batch[keys.IMAGE][..., 3:6])
        np.testing.assert_array_equal(batch[keys.PANOPTIC], batch[keys.OTHER_PANOPTIC])
        np.testing.assert_array_equal(batch[keys.THING_ID_MASK], batch[keys.OTHER_THING_ID_MASK])
        assert batch[keys.IMAGE][..., 6].min() >= 0 and batch[keys.IMAGE][..., 6].max() <= 1
    assert np.std(batch[keys.IMAGE][..., 0]) > 0 and batch[keys.FRAME_OFFSET].shape == (4, 17, 25, 2)


def test_next_frames_in_evaluation(tmp_path):
    now, after = np.full([20, 30], 13001, np.int32), np.full([20, 30], 11000, np.int32)
    plain.write(tmp_path, [frame(7, now, after, "next")], shards=1)
    options = plain.options_for(tmp_path, crop_size=[33, 33], batch_size=1, use_next_frame=True)
    stream = pipeline.build_dataset(options, dataset=KITTI, training=False, targets=["semantic", "next_offsets"])
    (batch,) = list(stream.as_numpy_iterator())
    assert batch[keys.IMAGE][0, 0, 0].tolist() == [7, 7, 7, 107, 107, 107]
    assert batch[keys.NEXT_IMAGE][0, 0, 0].tolist() == [107, 107, 107]
    assert np.all(batch[keys.NEXT_PANOPTIC_RAW] == 11000) and batch[keys.NEXT_PANOPTIC_RAW].shape == (1, 20, 30)
    assert batch[keys.RESIZED_IMAGE].shape == (1, 20, 30, 3)
    assert batch[keys.SEQUENCE_ID].tolist() == [b"0001"] and batch[keys.FRAME_ID].tolist() == [b"000007"]


def test_depth_and_normals_follow_the_crop(tmp_path):
    depth = np.arange(600, dtype=np.int32).reshape(20, 30) * 256
    normals = np.tile(np.float32([0.6, 0.0, -0.8]), [20, 30, 1])
    label = np.zeros([20, 30], np.int32)
    plain.write(tmp_path, [plain.example(1, label, depth=depth, normals=normals, label_format="zlib")], shards=1)
    changes = {"augmentations": {"min_scale_factor": 2, "max_scale_factor": 2}, "crop_size": [57, 57], "batch_size": 8}
    stream = pipeline.build_dataset(
        plain.options_for(tmp_path, **changes), dataset=DATASETS["synthetic_dvps"], training=True,
        targets=["semantic", "depth", "normals"],
    )  # fmt: skip
    (batch,) = list(stream.take(1).as_numpy_iterator())
    inside = batch[keys.PANOPTIC] != 255000
    assert inside.sum() == 8 * 40 * 57  # 20 x 30 became 40 x 60, cut to 40 x 57
    metres = batch[keys.DEPTH][..., 0]
    # Twice as large is half as far: row r of the raw map holds 30 r + column.
    assert np.all(metres[~inside] == 0) and metres.max() == 599 / 2
    signs = np.sign(batch[keys.NORMALS][..., 0])
    expected = np.float32([0.6, 0, -1.6]) / np.linalg.norm([0.6, 1.6])
    for row in range(8):
        rises = metres[row][inside[row]].reshape(40, 57)[0]
        mirrored = rises[0] > rises[-1]
        assert np.all(signs[row][inside[row]] == (-1 if mirrored else 1))
        np.testing.assert_allclose(
            np.abs(batch[keys.NORMALS][row][inside[row]]), np.broadcast_to(np.abs(expected), [40 * 57, 3]), atol=3e-3
        )
    assert {bool(value) for value in (signs.max(axis=(1, 2)) == 1)} == {True, False}


def camera_example(number, cameras):
    """A record of several cameras: camera k sees an image of red 10 * number + k, 20 rows high, 30 + k columns wide."""
    example = tf.train.Example()
    feature = example.features.feature
    for text, value in (("image/filename", f"image{number}"), ("video/sequence_id", "5"), ("video/frame_id", "9")):
        feature[text].bytes_list.value.append(value.encode())
    for k, name in enumerate(cameras):
        pixels = io.BytesIO()
        Image.fromarray(np.full([20, 30 + k, 3], 10 * number + k, np.uint8)).save(pixels, format="PNG")
        feature[f"image/encoded/{name}"].bytes_list.value.append(pixels.getvalue())
        feature[f"image/height/{name}"].int64_list.value.append(20)
        feature[f"image/width/{name}"].int64_list.value.append(30 + k)
        label = np.full([20, 30 + k], k * 100000, np.int32)
        feature[f"image/segmentation/class/encoded/{name}"].bytes_list.value.append(label.tobytes())
    return example.SerializeToString()


@pytest.mark.parametrize("chosen", [[], ["front", "side_left"]])
def test_every_camera_of_a_record_is_a_sample(tmp_path, chosen):
    names = list(MULTICAM.camera_names)
    plain.write(tmp_path, [camera_example(number, names) for number in range(3)], shards=1)
    batches = plain.evaluation(tmp_path, {"cameras_to_use": chosen, "crop_size": [49, 49]}, dataset=MULTICAM)
    cameras = chosen or names
    seen = [
        (batch[keys.SAMPLE_ID][0].decode(), int(batch[keys.IMAGE][0, 0, 0, 0]), batch[keys.SIZE_RAW][0].tolist())
        for batch in batches
    ]
    assert seen == [
        (f"train-00000-of-00001.tfrecord:{n}:image{n}:{name}", 10 * n + names.index(name), [20, 30 + names.index(name)])
        for name in cameras
        for n in range(3)
    ]
    assert batches[0][keys.SEQUENCE_ID].tolist() == [f"5/{cameras[0]}".encode()]
    assert batches[0][keys.FRAME_ID].tolist() == [b"9"]
    assert np.all(batches[3][keys.SEMANTIC_RAW] == names.index(cameras[1]))
    # These records say nothing of overlaps between cameras.
    assert batches[3][keys.NUM_CAMERAS_RAW].tolist() == np.ones([1, 20, 30 + names.index(cameras[1])]).tolist()
    options = plain.options_for(tmp_path, cameras_to_use=chosen, crop_size=[17, 25])
    stream = pipeline.build_dataset(options, dataset=MULTICAM, training=True)
    trained = [name for batch in stream.take(3) for name in batch[keys.SAMPLE_ID].numpy().tolist()]
    assert len({*trained}) == min(12, 3 * len(cameras))


def test_a_camera_that_is_missing_is_named(tmp_path):
    plain.write(tmp_path, [camera_example(0, ["front"])], shards=1)
    with pytest.raises(ValueError, match="record 0, camera side_left.*image/encoded is missing"):
        plain.evaluation(tmp_path, {"cameras_to_use": ["side_left"]}, dataset=MULTICAM)


def test_pngs_of_classes_are_labels_without_instances(tmp_path):
    classes = np.full([20, 30], 7, np.uint8)
    classes[:5], classes[5:9] = 13, 255
    pixels = io.BytesIO()
    Image.fromarray(classes).save(pixels, format="PNG")
    image = io.BytesIO()
    Image.fromarray(np.zeros([20, 30, 3], np.uint8)).save(image, format="PNG")
    plain.write(
        tmp_path, [plain.records.encode_example(image.getvalue(), filename="image1", class_png=pixels.getvalue())], 1
    )
    (batch,) = plain.evaluation(tmp_path)
    np.testing.assert_array_equal(batch[keys.PANOPTIC_RAW][0], classes.astype(int) * 1000)
    assert batch[keys.IS_CROWD_RAW][0, :5].all() and not batch[keys.IS_CROWD_RAW][0, 5:].any()
