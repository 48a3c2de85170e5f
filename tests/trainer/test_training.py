"""The compiled step on a tiny model."""

import numpy as np
import pytest
import tensorflow as tf

from tests import replicas
from tests.trainer import fakes
from trainer import training


def one_device():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def test_one_sgd_step_by_hand():
    trainer, model, _ = fakes.make(one_device(), fakes.batches(2), optimizer="sgd", base_learning_rate=0.1)
    images, numbers = fakes.arrays(2)
    with tf.GradientTape() as tape:
        square = tf.reduce_mean(tf.square(model(images) - numbers))
        total = 1.5 * square
    gradients = tape.gradient(total, model.trainable_variables)
    expected = [variable - 0.1 * gradient for variable, gradient in zip(model.trainable_variables, gradients)]
    logs = trainer.train(tf.constant(1))
    for variable, value in zip(model.trainable_variables, expected):
        np.testing.assert_allclose(variable.numpy(), value.numpy(), rtol=1e-5, atol=1e-7)
    assert int(trainer.global_step) == 1
    assert logs["losses/train_square_loss"] == pytest.approx(float(square), rel=1e-5)
    assert logs["losses/train_total_loss"] == pytest.approx(1.5 * float(square), rel=1e-5)
    assert logs["gradient_norm"] == pytest.approx(float(tf.linalg.global_norm(gradients)), rel=1e-4)
    assert float(logs["learning_rate"]) == pytest.approx(0.1)


def test_loss_falls_and_is_averaged_over_the_loop():
    trainer, _, _ = fakes.make(one_device(), fakes.batches(4), optimizer="adam")
    first = trainer.train(tf.constant(5))["losses/train_total_loss"]
    trainer.train(tf.constant(30))
    assert trainer.train(tf.constant(5))["losses/train_total_loss"] < first
    assert int(trainer.global_step) == 40


@pytest.mark.parametrize("options", [{}, {"use_gradient_clipping": True, "clip_gradient_norm": 0.01}])
def test_accumulation_is_a_big_batch(options):
    big, big_model, _ = fakes.make(one_device(), fakes.batches(4), optimizer="sgd", **options)
    small, small_model, _ = fakes.make(
        one_device(), fakes.batches(2), optimizer="sgd", gradient_accumulation_steps=2, **options
    )
    big_logs, small_logs = big.train(tf.constant(3)), small.train(tf.constant(3))
    np.testing.assert_allclose(fakes.weights(small_model), fakes.weights(big_model), rtol=1e-5, atol=1e-7)
    assert int(small.global_step) == 3
    for name in ("losses/train_total_loss", "gradient_norm"):
        assert small_logs[name] == pytest.approx(big_logs[name], rel=1e-4)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_mirrored_is_one_big_batch(accumulation):
    strategy = replicas.two()
    images, numbers = fakes.arrays(12)
    dataset = fakes.endless({"image": images, "number": numbers})
    dataset = strategy.distribute_datasets_from_function(lambda context: dataset.batch(2, drop_remainder=True))
    options = {"optimizer": "adamw", "adamw_weight_decay": 0.05, "gradient_accumulation_steps": accumulation}
    mirrored, mirrored_model, averages = fakes.make(strategy, dataset, ema_decay=0.9, **options)
    single, single_model, single_averages = fakes.make(one_device(), fakes.batches(4), ema_decay=0.9, **options)
    mirrored.train(tf.constant(3))
    single.train(tf.constant(3))
    np.testing.assert_allclose(fakes.weights(mirrored_model), fakes.weights(single_model), rtol=1e-4, atol=1e-6)
    with averages.in_use(), single_averages.in_use():
        np.testing.assert_allclose(fakes.weights(mirrored_model), fakes.weights(single_model), rtol=1e-4, atol=1e-6)


def test_random_numbers_follow_the_step():
    straight, straight_model, _ = fakes.make(one_device(), fakes.batches(2), drop_rate=0.5)
    straight.train(tf.constant(4))
    tf.random.set_seed(99)
    first, first_model, _ = fakes.make(one_device(), fakes.batches(2), drop_rate=0.5)
    first.train(tf.constant(2))
    first.train(tf.constant(2))
    np.testing.assert_array_equal(fakes.weights(first_model), fakes.weights(straight_model))
    other, other_model, _ = fakes.make(one_device(), fakes.batches(2), drop_rate=0.5)
    other._seed = 1
    other.train(tf.constant(4))
    assert np.abs(fakes.weights(other_model) - fakes.weights(straight_model)).max() > 1e-4


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_nan_is_not_applied_and_is_named(optimizer):
    trainer, model, averages = fakes.make(
        one_device(), fakes.batches(2, spoil=7), optimizer=optimizer, ema_decay=0.9
    )  # sample 7 is in the batch of step 3
    good, good_model, _ = fakes.make(one_device(), fakes.batches(2), optimizer=optimizer)
    good.train(tf.constant(3))
    with pytest.raises(training.NonFiniteLoss) as error:
        trainer.train(tf.constant(6))
    assert error.value.step == 3
    assert error.value.terms == ["square_loss", "half_loss", "total_loss", "gradient_norm"]
    assert error.value.sample_ids == ["sample 3"]
    assert "sample 3" in str(error.value) and "square_loss = nan" in str(error.value)
    assert int(trainer.global_step) == 3
    np.testing.assert_array_equal(fakes.weights(model), fakes.weights(good_model))
    with averages.in_use():
        assert np.isfinite(fakes.weights(model)).all()


def test_nan_on_one_of_two_replicas():
    strategy = replicas.two()
    images, numbers = fakes.arrays(12)
    numbers[7] = np.inf
    dataset = fakes.endless({"image": images, "number": numbers})
    dataset = strategy.distribute_datasets_from_function(lambda context: dataset.batch(2, drop_remainder=True))
    trainer, model, _ = fakes.make(strategy, dataset)
    with pytest.raises(training.NonFiniteLoss, match="Step 1 is not finite"):
        trainer.train(tf.constant(6))
    assert np.isfinite(fakes.weights(model)).all()


def test_stop_ends_the_loop():
    trainer, _, _ = fakes.make(one_device(), fakes.batches(2))
    trainer.train(tf.constant(2))
    trainer.stop()
    trainer.train(tf.constant(1000))
    assert int(trainer.global_step) == 3
    assert trainer.is_stopped


def test_l2_loss_is_added():
    trainer, model, _ = fakes.make(one_device(), fakes.batches(2), optimizer="sgd", weight_decay=0.1)
    expected = 0.05 * np.square(model.backbone.kernel.numpy()).sum()
    logs = trainer.train(tf.constant(1))
    assert logs["losses/train_l2_loss"] == pytest.approx(expected, rel=1e-5)
    total = 1.5 * logs["losses/train_square_loss"] + logs["losses/train_l2_loss"]
    assert logs["losses/train_total_loss"] == pytest.approx(total, rel=1e-5)


def test_averages_by_hand():
    trainer, model, averages = fakes.make(one_device(), fakes.batches(2), ema_decay=0.9)
    start = fakes.weights(model)
    trainer.train(tf.constant(1))
    after = fakes.weights(model)
    with averages.in_use():
        # After step 0 of 10 the decay is min(0.9, 1 / 10).
        np.testing.assert_allclose(fakes.weights(model), 0.1 * start + 0.9 * after, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fakes.weights(model), after)
