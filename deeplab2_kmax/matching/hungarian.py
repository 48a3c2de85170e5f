"""Minimum-cost one-to-one assignment of ground-truth rows to mask slots (the Hungarian method).

Both solvers find shortest augmenting paths (Crouse, On implementing 2D rectangular assignment algorithms, 2016).
Unlike DeepLab2, which pads every problem to a square with large constants, they work on the real rows alone: this is
faster, and small similarities early in training keep their float32 resolution.
"""

from __future__ import annotations

import enum
import importlib.util
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Solver(enum.Enum):
    """Where assignments are solved."""

    AUTO = "auto"  # HOST, but IN_GRAPH where XLA compiles, on a TPU, and where scipy is missing
    HOST = "host"  # scipy, on the CPU
    IN_GRAPH = "in_graph"  # TensorFlow ops that XLA compiles


def linear_sum_assignment(costs: tf.Tensor, num_rows: tf.Tensor, *, solver: Solver = Solver.AUTO) -> tf.Tensor:
    """Assigns the first `num_rows` rows of every cost matrix to different columns, at the least total cost.

    With more rows than columns, every column is used and the rows left over stay unmatched. No gradient passes.

    Args:
        costs: [B, R, N], R and N static; rows from `num_rows` on are never looked at. Constants added to all costs
            change nothing.
        num_rows: [B] integers, 0 <= num_rows <= R.
        solver: where to solve.

    Returns:
        [B, R] int32: the column of each row, -1 for rows without one.

    Raises:
        ValueError: R or N is unknown, HOST was asked for without scipy, or (eagerly) a real row holds a NaN or an
            infinity. Inside a `tf.function` the last is a `tf.errors.InvalidArgumentError`; code compiled by XLA
            cannot raise, there the rows of such a matrix come back unmatched.
    """
    costs = tf.stop_gradient(tf.convert_to_tensor(costs))
    if costs.dtype not in (tf.float32, tf.float64):
        costs = tf.cast(costs, tf.float32)
    num_rows = tf.cast(num_rows, tf.int32)
    if costs.shape.rank != 3 or None in costs.shape.as_list()[1:]:
        raise ValueError(f"Expected costs [batch, rows, columns] with known rows and columns, got shape {costs.shape}.")
    if costs.shape[1] == 0 or costs.shape[2] == 0:
        return tf.fill(tf.shape(costs)[:2], -1)
    if choose(solver) is Solver.HOST:
        return _on_host(costs, num_rows)
    return _in_graph(costs, num_rows)


@tf.autograph.experimental.do_not_convert
def choose(solver: Solver) -> Solver:
    """What AUTO stands for here and now; other solvers are returned as they are.

    Raises:
        ValueError: HOST was asked for, but scipy is not installed.
    """
    has_scipy = importlib.util.find_spec("scipy") is not None
    if solver is Solver.HOST and not has_scipy:
        raise ValueError("Matching on the host needs scipy: install it, or choose Solver.IN_GRAPH.")
    if solver is not Solver.AUTO:
        return solver
    on_tpu = isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)
    return Solver.HOST if has_scipy and not on_tpu and not _inside_xla() else Solver.IN_GRAPH


def _inside_xla() -> bool:
    """Whether the graph being traced will be compiled by XLA, which knows no Python functions."""
    if tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        context = graph._get_control_flow_context()  # There is no public way to ask; Keras 2 does the same.
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False


def _on_host(costs: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
    if tf.executing_eagerly():
        return tf.constant(_solve_with_scipy(costs.numpy(), num_rows.numpy()))
    slots = tf.numpy_function(_solve_with_scipy, [costs, num_rows], tf.int32, stateful=False)
    return tf.ensure_shape(slots, costs.shape[:2])


def _solve_with_scipy(costs: np.ndarray, num_rows: np.ndarray) -> np.ndarray:
    from scipy import optimize  # Only here: scipy is optional and slow to import.

    slots = np.full(costs.shape[:2], -1, np.int32)
    for index, count in enumerate(num_rows):
        real = costs[index, :count]
        if not np.isfinite(real).all():
            raise ValueError(
                f"Matching needs finite costs, but those of example {index} of the batch hold NaN or infinity: "
                "the network's outputs have diverged."
            )
        rows, columns = optimize.linear_sum_assignment(real)
        slots[index, rows] = columns
    return slots


class _State(NamedTuple):
    """Partial assignments and dual variables, for all matrices of a batch at once; C columns with the spare ones."""

    row_dual: tf.Tensor  # [B, R]
    column_dual: tf.Tensor  # [B, C]
    column_of_row: tf.Tensor  # [B, R] int32, -1 where there is none
    row_of_column: tf.Tensor  # [B, C] int32, -1 where there is none


@tf.function(autograph=False)
def _in_graph(costs: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
    num_columns = costs.shape[2]
    is_real = tf.sequence_mask(num_rows, costs.shape[1])  # [B, R]
    finite = tf.reduce_all(tf.math.is_finite(costs) | ~is_real[..., None], axis=[1, 2])  # [B]
    message = "Matching needs finite costs, but these hold NaN or infinity: the network's outputs have diverged."
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(finite), [message, finite])]):
        costs = tf.where(is_real[..., None] & finite[:, None, None], costs, 0)  # From here on all loops end.
    num_rows = tf.where(finite, num_rows, 0)
    costs = _add_spare_columns(costs)
    shape = tf.shape(costs)
    state = _State(
        row_dual=tf.zeros(shape[:2], costs.dtype),
        column_dual=tf.zeros_like(costs[:, 0]),
        column_of_row=tf.fill(shape[:2], -1),
        row_of_column=tf.fill([shape[0], shape[2]], -1),
    )

    def add_next_row(row, state):
        return row + 1, _State(*_add_row(costs, row, row < num_rows, state))

    most_rows = tf.reduce_max(num_rows)
    _, state = tf.while_loop(lambda row, _: row < most_rows, add_next_row, (tf.constant(0), state))
    # Spare columns stand for "unmatched".
    return tf.where(state.column_of_row < num_columns, state.column_of_row, -1)


def _add_spare_columns(costs: tf.Tensor) -> tf.Tensor:
    """As many columns as rows at least. A spare one costs a bit more than any other, so it is taken last."""
    missing = costs.shape[1] - costs.shape[2]
    if missing <= 0:
        return costs
    highest = tf.reduce_max(costs, axis=[1, 2], keepdims=True)
    spread = highest - tf.reduce_min(costs, axis=[1, 2], keepdims=True)
    spare = tf.where(spread > 0, highest + spread, highest + 1)  # Of the costs' own scale, for their resolution.
    return tf.concat([costs, tf.tile(spare, [1, costs.shape[1], missing])], axis=2)


def _add_row(costs: tf.Tensor, new_row: tf.Tensor, active: tf.Tensor, state: _State) -> _State:
    """Brings one more row into the assignments of the `active` [B] matrices."""
    batch, num_rows, num_columns = tf.shape(costs)[0], costs.shape[1], costs.shape[2]
    infinity = tf.constant(np.inf, costs.dtype)

    def is_open(length, row, sink, *_):
        return tf.reduce_any(sink < 0)

    def scan(length, row, sink, distance, path, row_seen, column_seen):
        """Dijkstra's step: relax all columns from `row`, then walk to the nearest column not seen yet."""
        running = sink < 0
        row_seen |= tf.one_hot(row, num_rows, True, False, dtype=tf.bool) & running[:, None]
        reduced = tf.gather(costs, row, batch_dims=1) - state.column_dual
        reduced += (length - tf.gather(state.row_dual, row, batch_dims=1))[:, None]
        closer = (reduced < distance) & ~column_seen & running[:, None]
        distance = tf.where(closer, reduced, distance)
        path = tf.where(closer, row[:, None], path)
        ahead = tf.where(column_seen, infinity, distance)
        nearest = tf.reduce_min(ahead, axis=1)
        # Among equals a free column ends the walk.
        merit = tf.cast(ahead == nearest[:, None], tf.int32) * tf.where(state.row_of_column < 0, 2, 1)
        column = tf.argmax(merit, axis=1, output_type=tf.int32)
        owner = tf.gather(state.row_of_column, column, batch_dims=1)
        length = tf.where(running, nearest, length)
        column_seen |= tf.one_hot(column, num_columns, True, False, dtype=tf.bool) & running[:, None]
        sink = tf.where(running & (owner < 0), column, sink)
        return length, tf.where(running, tf.maximum(owner, 0), row), sink, distance, path, row_seen, column_seen

    length, _, sink, distance, path, row_seen, column_seen = tf.while_loop(
        is_open,
        scan,
        (
            tf.zeros([batch], costs.dtype),
            tf.fill([batch], new_row),
            tf.where(active, -1, 0),
            tf.fill([batch, num_columns], infinity),
            tf.zeros([batch, num_columns], tf.int32),
            tf.zeros([batch, num_rows], tf.bool),
            tf.zeros([batch, num_columns], tf.bool),
        ),
        maximum_iterations=num_rows,
    )

    is_new = tf.one_hot(new_row, num_rows, True, False, dtype=tf.bool)[None]
    gap = length[:, None] - tf.gather(distance, tf.maximum(state.column_of_row, 0), batch_dims=1)
    row_step = tf.where(is_new, length[:, None], gap)
    row_dual = state.row_dual + tf.where(row_seen, row_step, 0)
    column_dual = state.column_dual - tf.where(column_seen, length[:, None] - distance, 0)

    def is_walking(walking, *_):
        return tf.reduce_any(walking)

    def walk_back(walking, column, column_of_row, row_of_column):
        """Gives `column` to the row it was reached from, and goes on with that row's former column."""
        row = tf.gather(path, column, batch_dims=1)
        former = tf.gather(column_of_row, row, batch_dims=1)
        here_row = tf.one_hot(row, num_rows, True, False, dtype=tf.bool) & walking[:, None]
        here_column = tf.one_hot(column, num_columns, True, False, dtype=tf.bool) & walking[:, None]
        column_of_row = tf.where(here_row, column[:, None], column_of_row)
        row_of_column = tf.where(here_column, row[:, None], row_of_column)
        return walking & (row != new_row), tf.maximum(former, 0), column_of_row, row_of_column

    _, _, column_of_row, row_of_column = tf.while_loop(
        is_walking,
        walk_back,
        (active, tf.maximum(sink, 0), state.column_of_row, state.row_of_column),
        maximum_iterations=num_rows,
    )
    return _State(row_dual, column_dual, column_of_row, row_of_column)
