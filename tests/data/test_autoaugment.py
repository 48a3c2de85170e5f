"""Colour operations against the parity case, and the policies that draw them."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import autoaugment
from tests import shared

CASES = [
    "AutoContrast/0", "Equalize/0", "Invert/0", "Posterize/2.5", "Posterize/5", "Posterize/10", "Solarize/1.4",
    "Solarize/7", "Solarize/5", "Color/1.8", "Color/9", "Color/3", "Color/10", "Contrast/2", "Contrast/10",
    "Contrast/5", "Brightness/2", "Brightness/10", "Brightness/1.4", "Brightness/7", "Sharpness/0.2", "Sharpness/1",
    "Sharpness/1.4", "Sharpness/7", "Sharpness/1.8", "Sharpness/9",
]  # fmt: skip


def test_no_case_is_left_out():
    _, arrays = shared.case("autoaugment_ops")
    assert set(CASES) == {key for key in arrays if key[0].isupper()}


@pytest.mark.parametrize("name", CASES)
def test_operations_equal_the_reference(name):
    _, arrays = shared.case("autoaugment_ops")
    operation, level = name.split("/")
    result = autoaugment.apply(tf.constant(arrays["image"], tf.uint8), operation, float(level))
    assert result.dtype == tf.uint8
    difference = np.abs(result.numpy().astype(int) - arrays[name])
    assert difference.max() <= (1 if operation in ("Color", "Contrast", "Sharpness") else 0)
    assert difference.mean() < 0.01


@pytest.mark.parametrize("name", ["dark/AutoContrast", "dark/Equalize", "flat/AutoContrast", "flat/Equalize"])
def test_operations_on_dark_and_flat_images_equal_the_reference(name):
    _, arrays = shared.case("autoaugment_ops")
    image, operation = name.split("/")
    result = autoaugment.apply(tf.constant(arrays[image], tf.uint8), operation, 0)
    np.testing.assert_array_equal(result, arrays[name])


def test_contrast_depends_on_the_number_of_pixels():
    _, arrays = shared.case("autoaugment_ops")
    big = np.zeros([288, 320, 3], np.uint8)
    big[::4, ::4] = arrays["big"]
    result = autoaugment.apply(tf.constant(big), "Contrast", 2)[::4, ::4]
    assert np.abs(result.numpy().astype(int) - arrays["big/Contrast"]).max() <= 1


def test_policies_draw_by_seed():
    made = autoaugment.policy("simple_classification_policy")
    policy = tf.function(lambda image, seed: made.apply(image, made.draw(seed)), autograph=False)
    image = tf.constant(np.random.default_rng(0).integers(0, 256, [8, 9, 3]), tf.uint8)
    results = [policy(image, seed=tf.constant([3, number])).numpy() for number in range(200)]
    np.testing.assert_array_equal(results[5], policy(image, seed=tf.constant([3, 5])))
    changed = np.mean([not np.array_equal(result, image) for result in results])
    # Chances that a pair changes something: 0.52, 0.2, 0.36, 0.68, 0.36; their mean is 0.424.
    assert 0.32 < changed < 0.53


def test_levels_of_the_scaled_policy():
    scaled = autoaugment.POLICIES["simple_classification_policy_magnitude_scale_0.2"]
    assert [name for name, _, _ in scaled[0]] == ["Sharpness", "Brightness"]
    np.testing.assert_allclose([level for _, _, level in scaled[0]], [1.4, 2.0])
    assert [chance for _, chance, _ in scaled[0]] == [0.4, 0.2]


def test_unknown_policy_gives_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean: simple_classification_policy"):
        autoaugment.policy("simple_clasification_policy")


def test_a_window_with_a_margin_comes_out_as_in_the_whole_image():
    """Whatever is drawn, unless the operation looks at the whole image; then the policy says so."""
    made = autoaugment.policy("simple_classification_policy")
    image = tf.constant(np.random.default_rng(0).integers(0, 256, [40, 50, 3]), tf.uint8)
    margin, whole_needed = made.MARGIN, 0

    @tf.function(autograph=False)
    def both(seed):
        drawn = made.draw(seed)
        window = made.apply(image[10 - margin : 30 + margin, : 25 + margin], drawn, num_pixels=tf.constant(2000))
        return made.needs_whole(drawn), made.apply(image, drawn)[10:30, :25], window[margin:-margin, :-margin]

    for number in range(150):
        needs_whole, expected, window = both(tf.constant([4, number]))
        if needs_whole:
            whole_needed += 1
        else:
            np.testing.assert_array_equal(window, expected)
    assert 5 < whole_needed < 60  # 0.16 of them on average


def test_levels_beyond_the_range_of_grey_change_nothing():
    image = tf.constant(np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2))
    np.testing.assert_array_equal(autoaugment.apply(image, "Solarize", 10), image)
    np.testing.assert_array_equal(autoaugment.apply(image, "Solarize", 0), 255 - image)
