"""Two frames side by side, on maps small enough to check by hand."""

import numpy as np
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.postprocess import center_grouping, two_frames

CLASSES = structures.MaskClasses(thing_ids=(1,), stuff_ids=(0,), ignore_label=255, label_divisor=100)
VOID = 25500
SIZE = (2, 6)


def frame(classes, centers, targets):
    """Maps of a frame; `targets` [H, W] are the columns (of row 0) to which pixels point."""
    heat = np.zeros([*SIZE, 1], np.float32)
    heat[0, centers] = 1.0
    return {
        "semantic_logits": tf.one_hot(tf.constant([classes]), 2),
        "center_heatmap": tf.constant(heat[np.newaxis]),
        "offset_map": offsets(targets),
    }


def offsets(targets):
    rows, columns = np.indices(SIZE)
    return tf.constant(np.stack([-rows, np.array(targets) - columns], axis=-1)[np.newaxis], tf.float32)


# An object moves by three pixels, another one comes in at the left.
CURRENT = frame([[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]], [1], [[1] * 6] * 2)
FOLLOWING = frame([[1, 0, 0, 0, 1, 1], [1, 0, 0, 0, 1, 1]], [0, 4], [[0, 0, 0, 4, 4, 4]] * 2)
POINTS_BACK = offsets([[1] * 6] * 2)
RULES = center_grouping.Rules(nms_kernel=3)


def lists(maps):
    return maps[0].numpy().tolist()


def test_an_object_has_one_id_in_both_frames():
    pair = two_frames.TwoFrames(RULES, CLASSES).together(CURRENT, FOLLOWING, POINTS_BACK, SIZE)
    assert lists(pair.panoptic) == [[0, 101, 101, 0, 0, 0]] * 2
    # The second object has no centre in the first frame: it joins the nearest one, the only there is.
    assert lists(pair.concat_next_panoptic) == [[101, 0, 0, 0, 101, 101]] * 2
    assert lists(pair.instance) == [[0, 1, 1, 0, 0, 0]] * 2
    assert pair.next_panoptic is None


def test_the_following_frame_alone_finds_what_is_new():
    pair = two_frames.TwoFrames(RULES, CLASSES)(CURRENT, FOLLOWING, POINTS_BACK, SIZE)
    # Alone there are two instances; the larger one (four of six pixels) is the object that moved, the other is new.
    assert lists(pair.next_panoptic) == [[151, 0, 0, 0, 101, 101]] * 2


def test_areas_of_stuff_count_in_both_frames_together():
    maps = two_frames.TwoFrames(RULES._replace(stuff_area=9), CLASSES)
    pair = maps(CURRENT, FOLLOWING, POINTS_BACK, SIZE)
    assert VOID not in pair.panoptic.numpy()  # 14 pixels in the two, 6 in the following one alone
    assert lists(pair.next_panoptic)[0][1] == VOID


def test_a_batch_is_its_pairs():
    postprocess = two_frames.TwoFrames(RULES, CLASSES)
    stacked = [
        {name: tf.concat([one[name], two[name]], axis=0) for name in one}
        for one, two in ((CURRENT, FOLLOWING), (FOLLOWING, CURRENT))
    ]
    whole = postprocess(*stacked, tf.concat([POINTS_BACK] * 2, axis=0), SIZE)
    each = [postprocess(*pair, POINTS_BACK, SIZE) for pair in ((CURRENT, FOLLOWING), (FOLLOWING, CURRENT))]
    for name, values in whole._asdict().items():
        np.testing.assert_array_equal(values, tf.concat([getattr(one, name) for one in each], axis=0), err_msg=name)
