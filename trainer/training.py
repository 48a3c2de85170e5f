"""The inner loop of training: a compiled loop of steps, each a pure function of the weights, the seed and the step.

A step whose loss or gradients are not finite is not applied and ends the run with `NonFiniteLoss`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import orbit
import tensorflow as tf
from absl import logging

from deeplab2_kmax._keras import keras
from deeplab2_kmax.protos import trainer_pb2
from trainer import averages as averages_lib
from trainer import optimizers

GRADIENT_NORM = "gradient_norm"
L2 = "l2_loss"
TOTAL = "total_loss"
# Most terms a step may have: their means travel in one vector, whose length must be known before the first step.
MAX_TERMS = 128

Loss = Callable[..., Mapping[str, tf.Tensor]]  # (output, targets, seed=...) -> name -> [B]


# Models and losses have no Python control flow over tensors; rewriting them all would take most of the tracing time.
_plain = tf.autograph.experimental.do_not_convert


class NonFiniteLoss(RuntimeError):
    """A step gave NaN or infinite numbers; names its terms and samples."""

    def __init__(self, step: int, terms: Mapping[str, float], sample_ids: Sequence[str]):
        bad = [name for name, value in terms.items() if not tf.math.is_finite(value)]
        self.step, self.terms, self.sample_ids = step, bad, list(sample_ids)
        values = ", ".join(f"{name} = {terms[name]}" for name in bad)
        super().__init__(
            f"Step {step} is not finite: {values}. The step was not applied and nothing was saved after it. "
            f"Samples of its batch: {', '.join(sample_ids) or 'unknown'}. Look at these samples, lower the learning "
            "rate, lengthen the warm-up or clip the gradients; then rerun, which goes on from the last checkpoint."
        )


class Trainer(orbit.AbstractTrainer):
    """Orbit's trainer: `train(n)` makes n steps and returns the means of the losses over them."""

    def __init__(
        self,
        *,
        model: keras.Model,
        loss: Loss,
        optimizer: optimizers.Solver,
        solver: trainer_pb2.SolverOptions,
        dataset: tf.data.Dataset,
        strategy: tf.distribute.Strategy,
        global_step: tf.Variable,
        averages: averages_lib.Averages | None = None,
        backbone: Sequence[tf.Variable] = (),
        seed: int = 0,
        sample_ids: Callable[[int], Sequence[str]] = lambda step: (),
    ):
        """Keeps what a step needs.

        Args:
            model: (images [B, H, W, 3], training=..., seed=...) -> output; its variables exist.
            loss: see `Loss`; must give a `total_loss`.
            optimizer: built for the model's trainable variables.
            solver: clipping, accumulation, L2.
            dataset: one batch per replica; it starts where `global_step` says.
            strategy: the one that everything was made under.
            global_step: int64, the number of finished steps.
            averages: running averages of the weights, if wanted.
            backbone: the variables that L2 is taken of.
            seed: of the random numbers of drop path and sampled losses.
            sample_ids: step -> the names of its samples, asked only when a step has failed.
        """
        self._model, self._loss, self._optimizer, self._solver = model, loss, optimizer, solver
        self._dataset, self._iterator = dataset, None
        self._strategy, self.global_step, self._averages = strategy, global_step, averages
        self._backbone = tuple(backbone)
        self._seed = seed
        self._sample_ids = sample_ids
        self._variables = list(model.trainable_variables)
        self._accumulation = max(1, solver.gradient_accumulation_steps)
        self._names: list[str] = []
        self._unreached: set[int] = set()
        self._stop = tf.Variable(False, trainable=False, name="stop")
        self._failed = tf.Variable(False, trainable=False, name="failed")
        self._last = tf.Variable(tf.zeros([MAX_TERMS]), trainable=False, name="last_terms")
        self._sums = tf.Variable(tf.zeros([MAX_TERMS]), trainable=False, name="term_sums")
        self._count = tf.Variable(0.0, trainable=False, name="term_count")
        self._accumulators = []
        if self._accumulation > 1:
            with strategy.scope():
                self._accumulators = [_accumulator(variable.shape) for variable in self._variables]
                self._replica_terms = _accumulator([MAX_TERMS])
        self._loop = tf.function(self._steps)

    def train(self, num_steps: tf.Tensor) -> dict[str, tf.Tensor]:
        """Makes up to `num_steps` steps; fewer after `stop`.

        Raises:
            NonFiniteLoss: a step was not finite.
        """
        if self._iterator is None:
            self._iterator = iter(self._dataset)
        self._sums.assign(tf.zeros_like(self._sums))
        self._count.assign(0.0)
        self._loop(self._iterator, tf.convert_to_tensor(num_steps))
        if self._failed.numpy():
            step = int(self.global_step.numpy())
            raise NonFiniteLoss(step, dict(zip(self._names, self._last.numpy().tolist())), self._sample_ids(step))
        rates = {"learning_rate": self._optimizer.schedule(self.global_step)}
        if self._solver.HasField("backbone_learning_rate_multiplier"):
            rates["backbone_learning_rate"] = self._optimizer.backbone_schedule(self.global_step)
        return {**self.means(), **rates}

    def means(self) -> dict[str, tf.Tensor]:
        """The means of the terms over the steps of the present loop so far, by the names they are logged under."""
        means = (self._sums / tf.maximum(self._count, 1.0)).numpy().tolist()
        return {name if name == GRADIENT_NORM else f"losses/train_{name}": m for name, m in zip(self._names, means)}

    def stop(self) -> None:
        """Ends the running loop after its present step; may be called from another thread."""
        self._stop.assign(True)

    @property
    def is_stopped(self) -> bool:
        """Whether the loop was ended by `stop`, here or on another machine."""
        return bool(self._stop.numpy())

    def _steps(self, iterator, num_steps):
        step, go_on = 0, True
        while step < num_steps and go_on:
            go_on = self._step(iterator)
            step += 1

    def _step(self, iterator) -> tf.Tensor:
        """One step, outside of the replicas; returns whether to go on."""
        seed = _fold([self._seed, 0], self.global_step)
        stop = tf.cast(self._stop, tf.float32)
        if self._accumulation == 1:
            terms, gradients = self._strategy.run(self._differentiate, args=(next(iterator), seed))
        else:
            self._strategy.run(self._clear)
            for index in tf.range(self._accumulation):
                self._strategy.run(self._accumulate, args=(next(iterator), _fold(seed, index)))
            terms, gradients = self._strategy.run(self._accumulated)
        terms, gradients = self._strategy.run(self._finish, args=(terms, gradients, stop))
        terms = self._strategy.reduce(tf.distribute.ReduceOp.MEAN, terms, axis=None)
        stop = terms[-1] > 0.0  # on any machine
        finite = tf.reduce_all(tf.math.is_finite(terms))

        def advance():
            self._strategy.run(self._apply, args=(gradients,))
            if self._averages is not None:
                self._averages.update(self.global_step)
            self.global_step.assign_add(1)
            self._sums.assign_add(terms)
            self._count.assign_add(1.0)
            return tf.constant(0)

        def fail():
            self._failed.assign(True)
            self._last.assign(terms)
            return tf.constant(0)

        tf.cond(finite, advance, fail)
        # Never back to False: `stop` may have been called since it was read.
        tf.cond(stop, lambda: self._stop.assign(True), lambda: self._stop)
        return finite & ~stop

    @_plain
    def _differentiate(self, batch, seed):
        """One replica's terms [MAX_TERMS] and gradients for its part of a batch."""
        seed = _fold(seed, tf.distribute.get_replica_context().replica_id_in_sync_group)
        parts = self._strategy.num_replicas_in_sync * self._accumulation
        with tf.GradientTape() as tape:
            output = self._model(batch["image"], training=True, seed=_fold(seed, 0))
            losses = self._loss(output, batch, seed=_fold(seed, 1))
            means = {name: tf.reduce_mean(tf.cast(values, tf.float32)) for name, values in losses.items()}
            if self._solver.weight_decay and self._solver.optimizer != "adamw":
                means[L2] = optimizers.l2_loss(self._solver.weight_decay, self._backbone)
                means[TOTAL] += means[L2]
            objective = means[TOTAL] / parts
        gradients = tape.gradient(objective, self._variables)
        self._unreached = {index for index, gradient in enumerate(gradients) if gradient is None}
        if self._unreached and not self._names:
            names = [self._variables[index].name for index in sorted(self._unreached)]
            logging.warning("%d variables get no gradient and stay as they are: %s", len(names), ", ".join(names))
        self._names = [*means, GRADIENT_NORM]
        if len(self._names) >= MAX_TERMS:
            raise ValueError(f"A step has {len(self._names)} terms, but at most {MAX_TERMS - 1} are kept.")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
        terms = tf.stack(list(means.values()))
        return tf.pad(terms, [[0, MAX_TERMS - len(means)]]), gradients

    def _clear(self):
        for accumulator in self._accumulators:
            accumulator.assign(tf.zeros_like(accumulator))
        self._replica_terms.assign(tf.zeros([MAX_TERMS]))

    def _accumulate(self, batch, seed):
        terms, gradients = self._differentiate(batch, seed)
        for accumulator, gradient in zip(self._reached(self._accumulators), gradients):
            accumulator.assign_add(gradient)
        self._replica_terms.assign_add(terms / self._accumulation)

    def _accumulated(self):
        gradients = [accumulator.read_value() for accumulator in self._reached(self._accumulators)]
        return self._replica_terms.read_value(), gradients

    @_plain
    def _finish(self, terms, gradients, stop):
        """Adds the norm of a replica's gradients and the wish to stop to its terms; clips the gradients."""
        norm = tf.linalg.global_norm(gradients)
        place = self._names.index(GRADIENT_NORM)
        terms = tf.concat([terms[:place], [norm], terms[place + 1 : -1], [stop]], axis=0)
        if self._solver.use_gradient_clipping:
            gradients = optimizers.clip(gradients, norm, self._solver.clip_gradient_norm)
        return terms, gradients

    @_plain
    def _apply(self, gradients):
        self._optimizer.apply_gradients(zip(gradients, self._reached(self._variables)))

    def _reached(self, values):
        return [value for index, value in enumerate(values) if index not in self._unreached]


def _accumulator(shape) -> tf.Variable:
    """A variable in which each replica sums for itself."""
    return tf.Variable(
        tf.zeros(shape),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _fold(seed, data) -> tf.Tensor:
    """A new seed [2] from a seed and a number."""
    return tf.random.experimental.stateless_fold_in(tf.convert_to_tensor(seed, tf.int32), tf.cast(data, tf.int32))
