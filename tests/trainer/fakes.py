"""A tiny model, loss and data set with the interfaces of the real ones."""

import numpy as np
import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import drop_path
from deeplab2_kmax.protos import trainer_pb2
from trainer import averages as averages_lib
from trainer import optimizers, training


class Model(keras.Model):
    """Images [B, H, W, 3] -> numbers [B]; `drop_rate` makes it random in training."""

    def __init__(self, drop_rate: float = 0.0):
        super().__init__()
        self.backbone = keras.layers.Conv2D(4, 3, name="stem")
        self.drop = drop_path.Dropout(drop_rate)
        self.head = keras.layers.Dense(1, name="head")

    def call(self, images, training=False, seed=None):
        x = tf.nn.relu(self.backbone(images / 255.0))
        with drop_path.seeded(seed):
            return self.head(self.drop(tf.reduce_mean(x, axis=(1, 2)), training=training))[:, 0]


def loss(output, targets, *, seed=None):
    del seed
    square = tf.square(output - targets["number"])
    return {"square_loss": square, "half_loss": 0.5 * square, "total_loss": 1.5 * square}


def arrays(count: int):
    """`count` images [8, 8, 3] and numbers."""
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, [count, 8, 8, 3]).astype(np.float32)
    return images, (images.mean(axis=(1, 2, 3)) / 100.0).astype(np.float32)


def batches(batch_size: int, *, count: int = 12, start_batch: int = 0, spoil: int | None = None) -> tf.data.Dataset:
    """Batches that go round and round; `spoil` is the index of a number that is NaN."""
    images, numbers = arrays(count)
    if spoil is not None:
        numbers[spoil] = np.nan
    dataset = endless({"image": images, "number": numbers})
    return dataset.skip(start_batch * batch_size).batch(batch_size, drop_remainder=True)


def endless(values: dict[str, np.ndarray]) -> tf.data.Dataset:
    """The slices of the values, round and round."""
    options = tf.data.Options()
    # With a tuner at work, dropping an iterator that is not at its end can wait for the tuner's next look.
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices(values).repeat().with_options(options)


def make(strategy, dataset, *, drop_rate: float = 0.0, seed: int = 0, ema_decay: float = 0.0, **solver_options):
    """A trainer over the tiny model, its model and averages."""
    solver = trainer_pb2.SolverOptions(
        **{"base_learning_rate": 0.01, "poly_learning_power": 0.0, "ema_decay": ema_decay, **solver_options}
    )
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = Model(drop_rate)
        model(tf.zeros([1, 8, 8, 3]))
        step = tf.Variable(
            0, dtype=tf.int64, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA, name="step"
        )
        backbone = model.backbone.trainable_variables
        optimizer = optimizers.build(solver, model.trainable_variables, backbone)
        averages = None
        if ema_decay:
            variables = {variable.name.split(":")[0]: variable for variable in model.trainable_variables}
            averages = averages_lib.Averages(variables, decay=ema_decay, strategy=strategy)
    trainer = training.Trainer(
        model=model,
        loss=loss,
        optimizer=optimizer,
        solver=solver,
        dataset=dataset,
        strategy=strategy,
        global_step=step,
        averages=averages,
        backbone=backbone,
        seed=seed,
        sample_ids=lambda step: [f"sample {step}"],
    )
    return trainer, model, averages


def weights(model):
    """All weights of a model, flat."""
    return np.concatenate([variable.numpy().ravel() for variable in model.variables])
