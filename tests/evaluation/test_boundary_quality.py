import numpy as np
import pytest
import tensorflow as tf

from evaluation import boundary_quality, panoptic_quality


def eroded(mask, width):
    """The mask without what lies within `width` of its outside, in a square; outside of the map is outside."""
    padded = np.pad(mask, width)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * width + 1, 2 * width + 1))
    return windows.all(axis=(2, 3))


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (80, 90)])
def test_interior_is_the_erosion_of_every_segment(mode, size):
    values = np.random.default_rng(0).integers(0, 3, (20, 30)).repeat(5, 0).repeat(5, 1)[: size[0], : size[1]]
    for width in (1, 2, 5):
        inner = tf.function(lambda each, width=width: boundary_quality.interior(each, width))
        if mode == "xla":
            inner = tf.function(inner, jit_compile=True)
        expected = sum(eroded(values == value, width) for value in range(3)) > 0
        found = boundary_quality.interior(tf.constant(values), width) if mode == "eager" else inner(tf.constant(values))
        np.testing.assert_array_equal(found, expected)


def test_width_is_a_rounded_share_of_the_diagonal():
    assert boundary_quality.boundary_width(tf.zeros([480, 640]), 0.02) == 16
    assert boundary_quality.boundary_width(tf.zeros([3, 4]), 0.02) == 1
    assert boundary_quality.boundary_width(tf.zeros([3, 4]), 0.5) == 2  # 2.5 to even
    dynamic = tf.function(
        lambda each: boundary_quality.boundary_width(each, 0.5), input_signature=[tf.TensorSpec([None, None])]
    )
    assert dynamic(tf.zeros([3, 4])) == 2


def test_by_hand():
    # A square of 40 pixels, the prediction 1 pixel smaller all around, boundaries 1 pixel wide: the squares' share
    # nothing, those of the ground the 236 pixels of the map's border of 236 + 164 + 156.
    y_true = np.full((60, 60), 20, np.int32)
    y_pred = y_true.copy()
    y_true[10:50, 10:50], y_pred[11:49, 11:49] = 1, 1
    plain = panoptic_quality.PanopticQuality(3, 255, 10, [0, 1])
    boundary = boundary_quality.BoundaryQuality(3, 255, 10, [0, 1], dilation_ratio=0.01)
    wide = boundary_quality.BoundaryQuality(3, 255, 10, [0, 1], dilation_ratio=0.9)
    for metric in (plain, boundary, wide):
        metric.update_state(y_true, y_pred)
    assert plain.result()["tp"].numpy().tolist() == [1, 0, 1]
    assert boundary.result()["tp"].numpy().tolist() == [0, 0, 0]
    assert boundary.result()["fp"].numpy().tolist() == boundary.result()["fn"].numpy().tolist() == [1, 0, 1]
    # Boundaries wider than the segments are the segments.
    np.testing.assert_allclose(wide.result()["iou"], plain.result()["iou"])


def test_bad_ratio():
    with pytest.raises(ValueError, match=r"dilation_ratio in \(0, 1\)"):
        boundary_quality.BoundaryQuality(3, 255, 10, [0], dilation_ratio=0)
