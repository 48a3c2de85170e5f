"""Several data sets in one stream: shares, class maps, order."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import mixture, pipeline
from deeplab2_kmax.data.datasets import DATASETS
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.protos import dataset_pb2
from tests.data import test_pipeline as plain

COCO, CITYSCAPES, SYNTHETIC = (
    DATASETS[name] for name in ("coco_panoptic", "cityscapes_panoptic", "synthetic_panoptic")
)


def pairs(**classes):
    return [dataset_pb2.DatasetOptions.ClassMapOptions(source_class=a, target_class=b) for a, b in classes.items()]


def test_shares_are_exact_to_a_thousandth_and_never_nothing():
    assert mixture.shares([1, 1]) == [500, 500]
    assert mixture.shares([2, 1]) == [667, 333]
    assert mixture.shares([1]) == [1000]
    assert mixture.shares([1e6, 1, 1]) == [998, 1, 1]
    assert sum(mixture.shares([0.3, 0.2, 7, 1e-9])) == 1000


def test_every_block_has_its_shares_and_every_sample_of_a_data_set_comes_once():
    schedule = mixture.Schedule([3, 1])
    seed = tf.constant([5, 6], tf.int64)
    at = tf.function(lambda position: schedule.at(position, seed))
    found = [tuple(int(value) for value in at(tf.constant(position, tf.int64))) for position in range(2000)]
    for block in (found[:1000], found[1000:]):
        assert collections.Counter(part for part, _ in block) == {0: 750, 1: 250}
    # In order: an epoch of a data set ends before its next one begins.
    assert [number for part, number in found if part == 0] == list(range(1500))
    assert [number for part, number in found if part == 1] == list(range(500))
    assert [part for part, _ in found[:1000]] != [part for part, _ in found[1000:]]


def test_classes_go_where_they_are_listed_or_to_the_same_name():
    made = mixture.class_map(pairs(bus="car", terrain="void"), SYNTHETIC, CITYSCAPES, "mixture[0]")
    names = {SYNTHETIC.class_names[a]: (CITYSCAPES.class_names + ("",) * 300)[b] for a, b in made.items() if a < 9}
    assert names["road"] == "road" and names["bus"] == "car" and names["terrain"] == "" and made[255] == 255
    made = mixture.class_map(pairs(person="person", **{"*": "0"}), COCO, CITYSCAPES, "mixture[0]")
    person = COCO.class_names.index("person")
    assert made[person] == 11 and made[0] == 255
    assert made[COCO.class_names.index("zebra")] == 0 and made[COCO.class_names.index("car")] == 13
    with pytest.raises(ValueError, match="Did you mean: person"):
        mixture.class_map(pairs(persn="person"), COCO, CITYSCAPES, "mixture[0]")


def test_labels_are_rewritten_with_new_instance_numbers():
    # Two things become cars, both with an instance 1; a thing becomes stuff; a crowd stays one; void stays void.
    classes = {0: 255, 1: 13, 2: 13, 3: 2, 4: 7}
    rewriter = mixture.Classes([mixture.Source(CITYSCAPES, (), 1, {0: 0, 255: 255}),
                                mixture.Source(COCO, (), 1, classes)], CITYSCAPES)  # fmt: skip
    label = tf.constant([[257, 513, 258], [769, 256, 0], [1024, 257, 513]])[..., tf.newaxis]
    made = rewriter.rewrite(label, tf.constant(1))[..., 0]
    assert made.numpy().tolist() == [[13001, 13002, 13003], [2000, 13000, 255000], [7000, 13001, 13002]]
    same = rewriter.rewrite(tf.constant([[[255000]]]), tf.constant(0))
    assert int(same[0, 0, 0]) == 255000
    with pytest.raises(tf.errors.InvalidArgumentError, match="(?s)here.*does not"):
        rewriter.rewrite(tf.constant([[[9 * 256]]]), tf.constant(1), "here")


@pytest.fixture
def mixed(tmp_path):
    coco_label = np.full([20, 30], 119 * 256, np.int32)
    coco_label[3:8, 3:20] = COCO.class_names.index("car") * 256 + 4
    plain.write(tmp_path, [plain.example(number) for number in range(5)], prefix="street")
    plain.write(tmp_path, [plain.example(100 + number, label=coco_label) for number in range(3)], prefix="coco")
    parts = [
        {"dataset": "cityscapes_panoptic", "file_pattern": [str(tmp_path / "street-*")], "weight": 3},
        {"dataset": "coco_panoptic", "file_pattern": [str(tmp_path / "coco-*")],
         "class_map": [{"source_class": "*", "target_class": "road"}]},
    ]  # fmt: skip
    return tmp_path, {"file_pattern": ["not read"], "mixture": parts}


def test_a_mixed_stream(mixed):
    folder, changes = mixed
    batches = plain.training(folder, 60, changes)
    numbers = plain.numbers(batches)
    assert set(numbers) == {0, 1, 2, 3, 4, 100, 101, 102}
    assert np.mean(np.array(numbers) < 100) == pytest.approx(0.75, abs=0.09)
    for batch in batches[:10]:
        assert set(np.unique(batch[keys.PANOPTIC])) <= {0, 13001, 13002, 255000}
    # Each data set goes through its own epochs.
    street = [number for number in numbers if number < 100]
    assert all(sorted(street[start : start + 5]) == [0, 1, 2, 3, 4] for start in range(0, 150, 5))
    plain.assert_same(batches[7:9], plain.training(folder, 2, changes, start_batch=7))
    parts = [plain.training(folder, 3, changes, num_shards=2, shard=shard) for shard in range(2)]
    joined = [{key: np.concatenate([part[step][key] for part in parts]) for key in batches[0]} for step in range(3)]
    plain.assert_same(batches[:3], joined)


def test_mixtures_paste_from_each_other(mixed):
    folder, changes = mixed
    paste = {"panoptic_copy_paste": {"panoptic_copy_paste_scale": 1, "panoptic_copy_paste_thing_option": "all"}}
    found = set()
    for batch in plain.training(folder, 3, {**changes, "augmentations": paste}):
        found |= set(np.unique(batch[keys.PANOPTIC]).tolist())
    assert {13001, 13998} <= found


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mixture": [{"dataset": "coco", "file_pattern": ["x"]}]}, "Did you mean"),
        ({"mixture": [{"dataset": "coco_panoptic", "weight": 0}]}, r"mixture\[0\].weight: expected a positive number"),
        ({"mixture": [{"dataset": "wod_pvps_image_panoptic_seg_multicam"}]}, "several cameras"),
    ],
)
def test_bad_mixtures_are_errors(mixed, changes, message):
    folder, good = mixed
    with pytest.raises(ValueError, match=message):
        plain.training(folder, 1, {**good, **changes})


def test_mixtures_are_for_training(mixed):
    folder, changes = mixed
    options = plain.options_for(folder, **changes, crop_size=[33, 33])
    with pytest.raises(ValueError, match="evaluation takes one data set"):
        pipeline.build_dataset(options, dataset=CITYSCAPES, training=False)
