"""Thing indices and their classes, by hand."""

import pytest
import tensorflow as tf

from deeplab2_kmax.data.datasets import DATASETS
from deeplab2_kmax.data.targets import keys, masks, segments, semantic

CITYSCAPES = DATASETS["cityscapes_panoptic"]
# A road, car 2, car 1, a crowd of cars, person 1, void, and car 2 once more.
LABEL = tf.constant([[0, 13002, 13002, 13001], [13000, 11001, 255000, 13002]])


def test_instances_are_indexed_by_first_appearance():
    made = masks.make(segments.find(LABEL, CITYSCAPES), max_things=4)
    assert made[keys.THING_ID_MASK].numpy().tolist() == [[-1, 0, 0, 1], [-1, 2, -1, 0]]
    assert made[keys.THING_ID_CLASS].numpy().tolist() == [13.0, 13.0, 11.0, -1.0]


def test_more_instances_than_slots_are_an_error_with_the_sample():
    with pytest.raises(tf.errors.InvalidArgumentError, match="max_thing_id 2"):
        masks.make(segments.find(LABEL, CITYSCAPES), max_things=2, source="street.png")


def test_semantic_targets_keep_the_class_of_crowd():
    made = semantic.make(segments.find(LABEL, CITYSCAPES), small_threshold=3, small_weight=2.5)
    assert made[keys.SEMANTIC].numpy().tolist() == [[0, 13, 13, 13], [13, 11, 255, 13]]
    assert made[keys.IS_CROWD].numpy().tolist() == [[False] * 4, [True, False, False, False]]
    # Car 2 has three pixels and is not small; crowd, stuff and void never are.
    assert made[keys.SEMANTIC_WEIGHT].numpy().tolist() == [[1, 1, 1, 2.5], [1, 2.5, 1, 1]]
    assert made[keys.PANOPTIC].numpy().tolist() == LABEL.numpy().tolist()


def test_a_class_outside_the_data_set_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected 0 to 18 or 255 for void"):
        segments.find(tf.constant([[19000]]), CITYSCAPES, "street.png")


def test_a_label_without_instances_gives_empty_slots():
    made = masks.make(segments.find(tf.constant([[0, 255000]]), CITYSCAPES), max_things=2)
    assert made[keys.THING_ID_MASK].numpy().tolist() == [[-1, -1]]
    assert made[keys.THING_ID_CLASS].numpy().tolist() == [-1.0, -1.0]
