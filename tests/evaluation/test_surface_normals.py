import numpy as np
import pytest
import tensorflow as tf

from evaluation import surface_normals


def at(angles):
    """Normals [1, N, 3] at angles to the x axis, in degrees, of any length."""
    angles = np.radians(angles)
    return np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=-1)[np.newaxis] * 3.0


def result(y_true, y_pred):
    metric = surface_normals.SurfaceNormalErrors()
    metric.update_state(y_true, y_pred)
    return {key: float(value) for key, value in metric.result().items()}


def test_by_hand():
    found = result(at([0.0] * 4), at([0.0, 10.0, 20.0, 90.0]))
    np.testing.assert_allclose([found["mean"], found["rmse"]], [30, np.sqrt(8600 / 4)])
    np.testing.assert_allclose(found["median"], 15, atol=0.01)
    assert (found["below_11_25"], found["below_22_5"], found["below_30"]) == (0.5, 0.75, 0.75)
    assert result(at([0.0]), at([180.0]))["mean"] == 180


def test_the_median_is_that_of_numpy():
    angles = np.random.default_rng(0).gamma(2.0, 8.0, 5001).clip(0, 180)
    for count in (1, 2, 100, 5001):
        found = result(at(np.zeros(count)), at(angles[:count]))
        np.testing.assert_allclose(found["median"], np.median(angles[:count]), atol=0.005)


def test_unknown_normals_do_not_count():
    y_true = at([0.0, 0.0])
    y_true[0, 1] = 0
    assert result(y_true, at([5.0, 90.0]))["n_pixels"] == 1
    assert not any(result(0 * y_true, at([5.0, 90.0])).values())


def test_predictions_without_a_direction():
    found = result(np.concatenate([at([0.0])] * 2)[:, np.newaxis], np.stack([at([0.0]), at([0.0]) * 0]))
    assert found["not_finite"] == 1 and found["n_pixels"] == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        surface_normals.SurfaceNormalErrors().update_state(at([0.0]), at([0.0]) * np.nan, strict=True)


def test_bad_shapes():
    with pytest.raises(ValueError, match="3 numbers"):
        result(np.zeros((2, 2, 4)), np.zeros((2, 2, 4)))
