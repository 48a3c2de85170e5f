import math

import numpy as np
import pytest
import tensorflow as tf

from evaluation import depth


def result(y_true, y_pred, **options):
    metric = depth.DepthErrors(**options)
    metric.update_state(np.array(y_true, np.float32), np.array(y_pred, np.float32))
    return {key: float(value) for key, value in metric.result().items()}


def test_by_hand():
    found = result([[1, 2, 0]], [[2, 2, 5]])
    expected = {"abs_rel": 0.5, "sq_rel_kitti": 0.5, "sq_rel_eigen": 0.5, "rmse": math.sqrt(0.5), "mae": 0.5}
    expected |= {"log10": math.log10(2) / 2, "rmse_log": math.log(2) / math.sqrt(2), "log_mae": math.log(2) / 2}
    expected |= {"silog": 50 * math.log(2), "irmse": 500 / math.sqrt(2), "imae": 250}
    expected |= {"delta1": 0.5, "delta2": 0.5, "delta3": 0.5, "n_images": 1, "n_pixels": 2}
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-12, err_msg=key)


def test_the_limit_of_delta_is_strict():
    assert result([[1, 1]], [[1.25, 1.2]])["delta1"] == 0.5


def test_two_averages():
    found = result([[[1, 1, 1]], [[1, 0, 0]]], [[[2, 2, 2]], [[1, 9, 9]]])
    assert found["abs_rel"] == 0.5 and found["abs_rel_pooled"] == 0.75


def test_images_without_depth_are_skipped():
    found = result([[[0, 0]], [[1, 1]]], [[[3, 3]], [[2, 2]]])
    assert found["abs_rel"] == 1 and found["n_images"] == 1
    assert not any(result([[0, 0]], [[1, 1]]).values())


def test_near_perfect_predictions_have_a_logarithmic_error_of_zero():
    found = result(np.full((50, 50), 7.3), np.full((50, 50), 7.3) * 1.1)
    assert abs(found["silog"]) < 1e-4


def test_predictions_are_clipped():
    assert result([[1]], [[0]], min_depth=0.5)["abs_rel"] == 0.5
    found = result([[1, 4, 5]], [[9, 4, 5]], max_depth=4)
    assert found["n_pixels"] == 2 and found["mae"] == 1.5


def test_crops():
    ones = np.ones((480, 640))
    assert result(ones, ones, crop="nyu")["n_pixels"] == 426 * 560
    ones = np.ones((375, 1242))
    assert result(ones, ones, crop="garg")["n_pixels"] == (371 - 153) * (1197 - 44)
    assert result(ones, ones, crop="eigen")["n_pixels"] == (342 - 124) * (1197 - 44)


def test_predictions_that_are_not_finite():
    found = result([[[1, 1]], [[1, 0]]], [[[math.nan, 1]], [[1, math.nan]]])
    assert found["not_finite"] == 1 and found["n_images"] == 1 and found["delta1"] == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        depth.DepthErrors().update_state([[1.0]], [[math.inf]], strict=True)


def test_bad_arguments():
    with pytest.raises(ValueError, match="crop to be one of garg, eigen, nyu"):
        depth.DepthErrors(crop="kitti")
    with pytest.raises(ValueError, match="0 < min_depth < max_depth"):
        depth.DepthErrors(min_depth=2, max_depth=1)
