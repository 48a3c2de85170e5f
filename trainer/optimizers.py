"""Adam, AdamW and SGD with momentum, over variables that are grouped once: decayed or not, backbone or not.

AdamW is the one of "Decoupled Weight Decay Regularization" (2019, arXiv 1711.05101) as DeepLab2 (reference) applies it:
the decay is the plain learning rate times the weight, before the Adam step. The backbone may have a learning rate of
its own; one optimizer holds both, with the same result as two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deeplab2_kmax import registry
from deeplab2_kmax._keras import keras
from deeplab2_kmax.protos import trainer_pb2
from trainer import schedules

# Variables whose name ends so are decayed: not biases, norms, relative positions, cluster centres or layer scales.
DECAYED_ENDINGS = ("kernel", "weight")


class Row(NamedTuple):
    """How the solver treats one trainable variable."""

    name: str
    shape: tuple[int, ...]
    decayed: bool
    learning_rate_factor: float


def table(
    solver: trainer_pb2.SolverOptions, variables: Iterable[tuple[str, tf.Variable]], backbone: Iterable[tf.Variable]
) -> list[Row]:
    """One row for each (name, trainable variable); `backbone` holds those with the backbone's learning rate."""
    in_backbone = {variable.ref() for variable in backbone}
    decays = _decays(solver)
    return [
        Row(
            name,
            tuple(variable.shape),
            decays and is_decayed(variable),
            solver.backbone_learning_rate_multiplier if variable.ref() in in_backbone else 1.0,
        )
        for name, variable in variables
    ]


def is_decayed(variable: tf.Variable) -> bool:
    """Whether AdamW decays this variable."""
    return variable.name.split(":")[0].endswith(DECAYED_ENDINGS)


def build(
    solver: trainer_pb2.SolverOptions, variables: Sequence[tf.Variable], backbone: Sequence[tf.Variable] = ()
) -> Solver:
    """The optimizer of a solver for `variables`, its slots made.

    Raises:
        ValueError: unknown optimizer, or a norm to clip to that is not positive.
    """
    kind = registry.lookup(OPTIMIZERS, solver.optimizer, "optimizer")
    if solver.use_gradient_clipping and solver.clip_gradient_norm <= 0:
        raise ValueError(f"clip_gradient_norm must be positive, got {solver.clip_gradient_norm}.")
    multiplier = solver.backbone_learning_rate_multiplier
    optimizer = kind(
        schedules.build(solver),
        backbone_schedule=schedules.build(solver, multiplier=multiplier),
        backbone=backbone,
        weight_decay=solver.adamw_weight_decay if _decays(solver) else 0.0,
    )
    optimizer.build(list(variables))
    return optimizer


def clip(gradients: Sequence[tf.Tensor], norm: tf.Tensor, largest: float) -> list[tf.Tensor]:
    """Scales all gradients of a replica so that their global `norm` is at most `largest`."""
    return tf.clip_by_global_norm(gradients, largest, use_norm=norm)[0]


def l2_loss(factor: float, backbone: Iterable[tf.Variable]) -> tf.Tensor:
    """`factor` / 2 * sum of squares of the backbone's kernels (DeepLab2 has the option, but never adds the term)."""
    kernels = [variable for variable in backbone if variable.name.split(":")[0].endswith("kernel")]
    return factor * tf.add_n([tf.nn.l2_loss(tf.cast(kernel, tf.float32)) for kernel in kernels])


class Solver(keras.optimizers.Optimizer):
    """What the optimizers share: two schedules, the decay, and which variable takes which."""

    def __init__(self, schedule, *, backbone_schedule, backbone: Sequence[tf.Variable] = (), weight_decay: float = 0.0):
        super().__init__(name=type(self).__name__.lower(), weight_decay=None, jit_compile=False)
        self._learning_rate = self._build_learning_rate(schedule)
        self.schedule = schedule
        self.backbone_schedule = backbone_schedule
        self.backbone_learning_rate = tf.Variable(
            backbone_schedule(self.iterations), trainable=False, name="backbone_learning_rate"
        )
        self.decay = weight_decay
        self.backbone = frozenset(self._var_key(variable) for variable in backbone)

    def build(self, var_list):
        """Makes the slots of the trainable variables, in their order."""
        if getattr(self, "_built", False):
            return
        super().build(var_list)
        self._built = True
        self.slots = {
            name: [self.add_variable_from_reference(variable, name) for variable in var_list] for name in self.SLOTS
        }
        self.is_decayed = [bool(self.decay) and is_decayed(variable) for variable in var_list]

    def apply_gradients(self, grads_and_vars, **kwargs):
        """One update; called by each replica, whose gradients are summed."""
        self.backbone_learning_rate.assign(self.backbone_schedule(self.iterations))
        return super().apply_gradients(grads_and_vars, **kwargs)

    def update_step(self, gradient, variable):
        """Updates one variable in place by its gradient."""
        key = self._var_key(variable)
        index = self._index_dict[key]
        rate = tf.convert_to_tensor(self.backbone_learning_rate if key in self.backbone else self.learning_rate)
        if self.is_decayed[index]:
            variable.assign_sub(rate * self.decay * variable)
        self.descend(tf.convert_to_tensor(gradient), variable, rate, [self.slots[name][index] for name in self.SLOTS])

    def get_config(self):
        """The numbers; variables and schedules come from the solver options."""
        return {**super().get_config(), "weight_decay": self.decay}


class Adam(Solver):
    """m and v are running means of g and g^2; w -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)."""

    SLOTS = ("m", "v")
    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7
    # Keras accumulates v with 1 - b2 from float64, the kernel below from float32: their square roots differ by this.
    KERAS = float(np.sqrt((1.0 - np.float32(BETA2)) / (1.0 - BETA2)))

    def descend(self, gradient, variable, rate, slots):
        """The Adam step."""
        step = tf.cast(self.iterations + 1, tf.float32)
        m, v = slots
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.handle,
            v=v.handle,
            beta1_power=tf.pow(self.BETA1, step),
            beta2_power=tf.pow(self.BETA2, step),
            lr=rate * self.KERAS,
            beta1=self.BETA1,
            beta2=self.BETA2,
            epsilon=self.EPSILON,
            grad=gradient,
            use_locking=True,
        )


class AdamW(Adam):
    """Adam after decoupled weight decay."""

    KERAS = 1.0


class Momentum(Solver):
    """a = 0.9 a - lr * g; w += a."""

    SLOTS = ("momentum",)
    MOMENTUM = 0.9

    def descend(self, gradient, variable, rate, slots):
        """The momentum step, without Nesterov's look-ahead."""
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=slots[0].handle,
            lr=rate,
            grad=gradient,
            momentum=self.MOMENTUM,
            use_locking=True,
            use_nesterov=False,
        )


OPTIMIZERS = {"adam": Adam, "adamw": AdamW, "sgd": Momentum}


def _decays(solver: trainer_pb2.SolverOptions) -> bool:
    """Whether the solver has decoupled weight decay."""
    return solver.optimizer == "adamw"
