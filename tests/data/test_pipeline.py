"""Batches: content, order, resuming, sharding, and what happens to broken records."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab2_kmax.data import pipeline, records
from deeplab2_kmax.data.datasets import DATASETS
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.protos import dataset_pb2

CITYSCAPES = DATASETS["cityscapes_panoptic"]
NUM_RECORDS = 7


def example(number, label=None, size=(20, 30), **features):
    """An image whose red is its number; a road with two cars."""
    pixels = np.full([*size, 3], number, np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    if label is None:
        label = np.zeros(size, np.int32)
        label[2:6, 3:9] = 13001
        label[10:15, 8:20] = 13002
    return records.encode_example(out.getvalue(), label, filename=f"image{number}", **features)


# Every random step there is.
EVERYTHING = {
    "augmentations": {
        "min_scale_factor": 0.5,
        "max_scale_factor": 2.0,
        "scale_factor_step_size": 0.1,
        "autoaugment_policy_name": "simple_classification_policy",
        "panoptic_copy_paste": {"panoptic_copy_paste_scale": 0.5},
    }
}


def write(folder, examples, shards=2, prefix="train"):
    parts = np.array_split(np.arange(len(examples)), shards)
    paths = []
    for number, part in enumerate(parts):
        paths.append(folder / f"{prefix}-{number:05d}-of-{shards:05d}.tfrecord")
        with tf.io.TFRecordWriter(str(paths[-1])) as writer:
            for index in part:
                writer.write(examples[index])
    return paths


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, [example(number) for number in range(NUM_RECORDS)])
    return tmp_path


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """A stream without copy-paste and the like: folder, spec and first batches. Making a stream is what takes time."""
    folder = tmp_path_factory.mktemp("records")
    write(folder, [example(number) for number in range(NUM_RECORDS)])
    made = pipeline.build_dataset(options_for(folder), dataset=CITYSCAPES, training=True)
    return folder, made.element_spec, list(made.take(7).as_numpy_iterator())


def options_for(folder, **changes):
    values = {
        "file_pattern": [str(folder / "train-*")],
        "batch_size": 4,
        "crop_size": [17, 25],
        "thing_id_mask_annotations": True,
        "max_thing_id": 8,
        "augmentations": {"min_scale_factor": 0.5, "max_scale_factor": 2.0, "scale_factor_step_size": 0.1},
    }
    return dataset_pb2.DatasetOptions(**{**values, **changes})


def training(folder, count, changes=(), **arguments):
    stream = pipeline.build_dataset(
        options_for(folder, **dict(changes)), dataset=CITYSCAPES, training=True, **arguments
    )
    return list(stream.take(count).as_numpy_iterator())


def evaluation(folder, changes=(), dataset=CITYSCAPES, **arguments):
    values = {"batch_size": 1, "crop_size": [33, 33], **dict(changes)}
    stream = pipeline.build_dataset(options_for(folder, **values), dataset=dataset, training=False, **arguments)
    return list(stream.as_numpy_iterator())


def numbers(batches):
    """Which records batches were made of."""
    return [int(name.decode().rsplit("image", 1)[1]) for batch in batches for name in batch[keys.SAMPLE_ID]]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, two in zip(first, second):
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], two[key], err_msg=key)


def test_training_batches(stream):
    _, spec, (batch, *_) = stream
    shapes = {key: value.shape for key, value in batch.items()}
    assert shapes == {
        "image": (4, 17, 25, 3),
        "sample_id": (4,),
        "semantic_gt": (4, 17, 25),
        "semantic_loss_weight": (4, 17, 25),
        "is_crowd_gt": (4, 17, 25),
        "panoptic_gt": (4, 17, 25),
        "thing_id_mask_gt": (4, 17, 25),
        "thing_id_class_gt": (4, 8),
    }
    assert batch[keys.IMAGE].dtype == np.float32
    for row in range(4):
        things = batch[keys.THING_ID_CLASS][row] == 13
        assert things.sum() == batch[keys.THING_ID_MASK][row].max() + 1
    assert spec[keys.IMAGE].shape == (4, 17, 25, 3) and spec[keys.THING_ID_CLASS].shape == (4, 8)


def test_every_epoch_has_every_record_once_in_an_order_of_its_own(stream):
    order = numbers(stream[2])
    epochs = [order[start : start + NUM_RECORDS] for start in range(0, 28, NUM_RECORDS)]
    assert all(sorted(epoch) == list(range(NUM_RECORDS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_seed_decides_everything(stream):
    folder, _, first = stream
    assert numbers(first[:3]) != numbers(training(folder, 3, seed=2))
    assert numbers(first[:3]) != numbers(training(folder, 3, seed=2**40))


def test_resuming_gives_the_very_batches(folder):
    """Also with another number of samples in the making: only seed and position decide."""
    straight = training(folder, 6, EVERYTHING, seed=3)
    assert_same(straight[4:], training(folder, 2, EVERYTHING, seed=3, start_batch=4, num_parallel_calls=1))


def test_shards_and_replicas_cut_one_global_batch(stream):
    folder, _, whole = stream
    # The second shard is resumed.
    parts = [training(folder, 3, num_shards=2), training(folder, 2, num_shards=2, shard=1, start_batch=1)]
    parts[0] = parts[0][1:]
    joined = [{key: np.concatenate([part[step][key] for part in parts]) for key in whole[0]} for step in range(2)]
    assert_same(whole[1:3], joined)
    pieces = training(folder, 4, replicas=2, start_batch=1)
    joined = [
        {key: np.concatenate([pieces[2 * step][key], pieces[2 * step + 1][key]]) for key in whole[0]}
        for step in range(2)
    ]
    assert_same(whole[1:3], joined)


def test_one_record_is_enough(tmp_path):
    write(tmp_path, [example(5)], shards=1)
    assert numbers(training(tmp_path, 1)) == [5] * 4


def test_evaluation_is_in_order_once_and_at_both_sizes(folder):
    batches = evaluation(folder)
    assert numbers(batches) == list(range(NUM_RECORDS))
    batch = batches[3]
    assert batch[keys.IMAGE].shape == (1, 33, 33, 3) and batch[keys.SEMANTIC].shape == (1, 33, 33)
    assert batch[keys.RESIZED_IMAGE].shape == (1, 20, 30, 3) and batch[keys.PANOPTIC_RAW].shape == (1, 20, 30)
    np.testing.assert_array_equal(batch[keys.IMAGE][:, :20, :30], np.full([1, 20, 30, 3], 3.0))
    assert np.all(batch[keys.IMAGE][:, 20:] == 127.5) and np.all(batch[keys.PANOPTIC][:, 20:] == 255000)
    assert batch[keys.SIZE_RAW].tolist() == [[20, 30]] and batch[keys.SIZE_RESIZED].tolist() == [[20, 30]]
    assert batch[keys.IMAGE_NAME].tolist() == [b"image3"]
    assert batch[keys.SAMPLE_ID].tolist() == [b"train-00000-of-00002.tfrecord:3:image3"]


def test_large_images_are_shrunk_to_the_crop_in_evaluation(tmp_path):
    write(tmp_path, [example(0, size=(66, 50))], shards=1)
    batch = evaluation(tmp_path)[0]
    assert batch[keys.SIZE_RESIZED].tolist() == [[33, 25]] and batch[keys.SIZE_RAW].tolist() == [[66, 50]]


def test_evaluation_batches_of_several_sizes_are_padded_and_the_last_is_partial(tmp_path):
    write(tmp_path, [example(0), example(1, size=(10, 12)), example(2)], shards=1)
    batches = evaluation(tmp_path, {"batch_size": 2})
    assert [len(batch[keys.SAMPLE_ID]) for batch in batches] == [2, 1]
    raw = batches[0][keys.PANOPTIC_RAW]
    assert raw.shape == (2, 20, 30) and batches[0][keys.SIZE_RAW].tolist() == [[20, 30], [10, 12]]
    assert np.all(raw[1, 10:] == 255000) and np.all(batches[0][keys.SEMANTIC_RAW][1, :, 12:] == 255)
    assert not batches[0][keys.IS_CROWD_RAW][1, 10:].any()
    assert_same(batches[1:], evaluation(tmp_path, {"batch_size": 2}, start_batch=1))
    assert evaluation(tmp_path, {"batch_size": 2}, start_batch=9) == []


def test_shards_of_an_evaluation_meet_every_record_once(folder):
    parts = [numbers(evaluation(folder, {"batch_size": 4}, num_shards=2, shard=shard)) for shard in range(2)]
    assert parts == [[0, 1, 4, 5], [2, 3, 6]]


def test_evaluation_without_labels(tmp_path):
    out = example(1, sequence_id="0001", frame_id="000007")
    write(tmp_path, [out], shards=1)
    batch = evaluation(tmp_path, {"decode_groundtruth_label": False}, dataset=DATASETS["kitti_step"])[0]
    assert sorted(batch) == [
        "frame_id", "image", "image_name", "resized_image", "sample_id", "sequence_id", "size_raw", "size_resized",
    ]  # fmt: skip
    assert batch["frame_id"].tolist() == [b"000007"]


def test_semantic_targets_alone(folder):
    batch = training(folder, 1, {"thing_id_mask_annotations": False})[0]
    assert keys.THING_ID_MASK not in batch and keys.SEMANTIC in batch
    batch = training(folder, 1, {"thing_id_mask_annotations": False}, targets=["masks"])[0]
    assert keys.THING_ID_MASK in batch


def test_pasted_instances_never_meet_those_of_the_image(folder):
    paste = {"scale": 1, "thing_option": "all", "stuff_option": "none"}
    paste = {f"panoptic_copy_paste_{name}": value for name, value in paste.items()}
    changes = {"augmentations": {"panoptic_copy_paste": paste}}
    found = set()
    for batch in training(folder, 5, changes):
        found.update(np.unique(batch[keys.PANOPTIC]).tolist())
    # Cars 1 and 2 of the image, and of the pasted one: 999 - 1 - and 999 - 2. Void is padding, never 255001.
    assert found <= {0, 13001, 13002, 13998, 13997, 255000} and {13997, 13998} & found


def test_a_class_outside_the_data_set_is_found_at_the_start(tmp_path):
    write(tmp_path, [example(0, label=np.full([20, 30], 19000, np.int32))], shards=1)
    with pytest.raises(ValueError, match="Bad record: .*train-00000-of-00001.tfrecord:0:image0.*expected 0 to 18"):
        training(tmp_path, 1)


def test_too_many_things_are_found_at_the_start(folder):
    with pytest.raises(ValueError, match="Bad record: .*max_thing_id 1"):
        training(folder, 1, {"max_thing_id": 1})


def test_records_without_labels_are_found_at_the_start(tmp_path):
    out = tf.train.Example.FromString(example(0))
    del out.features.feature["image/segmentation/class/encoded"]
    write(tmp_path, [out.SerializeToString()], shards=1)
    with pytest.raises(ValueError, match="Bad record: .*tfrecord, record 0.*image/segmentation/class/encoded"):
        training(tmp_path, 1)


def test_a_flipped_bit_stops_the_run_with_file_and_record(folder):
    path = folder / "train-00000-of-00002.tfrecord"
    data = bytearray(path.read_bytes())
    length = len(example(1)) + 16
    data[length + 100] ^= 1  # inside the second record
    path.write_bytes(data)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        training(folder, 3)
    assert "train-00000-of-00002.tfrecord, record 1" in str(error.value) and "is corrupt" in str(error.value)


def test_a_broken_image_stops_the_run_with_file_and_record(tmp_path):
    examples = [example(number) for number in range(NUM_RECORDS)]
    broken = tf.train.Example.FromString(examples[5])
    broken.features.feature["image/encoded"].bytes_list.value[0] = b"broken"
    examples[5] = broken.SerializeToString()
    write(tmp_path, examples)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        evaluation(tmp_path)
    assert "train-00001-of-00002.tfrecord, record 1" in str(error.value) and "not a readable" in str(error.value)


@pytest.mark.parametrize(
    "arguments, changes, message",
    [
        ({"num_shards": 3}, {}, "batch_size 4 cannot be divided over 3 input pipelines"),
        ({"num_shards": 2, "shard": 2}, {}, "shard 2 of 2"),
        ({"replicas": 8}, {}, "cannot be divided"),
        ({"start_batch": -1}, {}, "expected 0 or more"),
        ({}, {"batch_size": 0}, "batch_size 0"),
        ({}, {"file_pattern": ["/nowhere/*"]}, "No file matches"),
    ],
)
def test_bad_arguments_are_errors(folder, arguments, changes, message):
    with pytest.raises(ValueError, match=message):
        training(folder, 1, changes, **arguments)
