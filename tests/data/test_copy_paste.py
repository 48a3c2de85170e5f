"""Panoptic copy-paste: the parity case, the options, and what labels may come out."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import copy_paste
from deeplab2_kmax.data.copy_paste import Options
from deeplab2_kmax.data.datasets import DATASETS
from tests import shared

CITYSCAPES = DATASETS["cityscapes_panoptic"]


@pytest.mark.parametrize(
    "options", [("all", "none", "none"), ("all", "all", "none"), ("none", "all", "all"), ("all", "all", "all"),
                ("none", "none", "all")]
)  # fmt: skip
def test_choices_without_a_draw_equal_the_reference(options):
    _, arrays = shared.case("sample_generator")
    image, label = copy_paste.paste(
        tf.constant(arrays["cityscapes_train/in/image"], tf.float32),
        tf.constant(arrays["cityscapes_train/in/label"]),
        tf.constant(arrays["copy_paste/in/paste_image"]),
        tf.constant(arrays["copy_paste/in/paste_label"]),
        dataset=CITYSCAPES,
        options=Options(*options),
        seed=tf.constant([1, 2]),
    )
    name = "copy_paste/out/" + "_".join(options)
    np.testing.assert_array_equal(image[::2, ::2], arrays[f"{name}/image"])
    np.testing.assert_array_equal(label, arrays[f"{name}/label"])


def paste_row(pasted, options, seed=0, base=None):
    """Pastes a row of labels onto another; the image tells where the pixels came from (0 base, 1 pasted)."""
    base = [0] * len(pasted) if base is None else base
    image, label = copy_paste.paste(
        tf.zeros([1, len(pasted), 3]),
        tf.constant(base)[tf.newaxis, :, tf.newaxis],
        tf.ones([1, len(pasted), 3]),
        tf.constant(pasted)[tf.newaxis, :, tf.newaxis],
        dataset=CITYSCAPES,
        options=options,
        seed=tf.constant([5, seed]),
    )
    return label[0, :, 0].numpy().tolist(), image[0, :, 0].numpy().astype(int).tolist()


def test_pasted_instances_are_numbered_from_above():
    label, taken = paste_row([11001, 13002, 13000, 2000, 255001, 255000], Options("all", "all", "all"))
    assert label == [11998, 13997, 13000, 2000, 0, 255000]
    assert taken == [1, 1, 1, 1, 0, 1]


def test_a_random_draw_takes_every_number_of_segments_and_never_padding():
    pasted = [11001, 2000, 8000, 255001]
    counts = set()
    for seed in range(80):
        _, taken = paste_row(pasted, Options("random", "random", "none"), seed)
        assert taken[3] == 0
        counts.add(tuple(taken[:3]))
    # All eight subsets of three segments come up.
    assert len(counts) == 8


def test_things_all_stuff_random_void_none_is_the_published_choice():
    kept = [paste_row([11001, 2000, 255000], Options("all", "random", "none"), seed)[1] for seed in range(20)]
    assert {row[0] for row in kept} == {1} and {row[1] for row in kept} == {0, 1} and {row[2] for row in kept} == {0}


def test_too_large_instance_numbers_are_an_error():
    for base, pasted in (([11500], [0]), ([0], [11500])):
        with pytest.raises(tf.errors.InvalidArgumentError, match="below label_divisor // 2 = 500"):
            paste_row(pasted, Options(), base=base)


def test_unknown_choice_is_an_error():
    with pytest.raises(ValueError, match="panoptic_copy_paste_stuff_option 'some'"):
        Options(stuff="some").check()
