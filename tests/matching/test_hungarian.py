import itertools

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.matching import hungarian
from deeplab2_kmax.matching.hungarian import Solver, linear_sum_assignment

BOTH = pytest.mark.parametrize("solver", [Solver.HOST, Solver.IN_GRAPH])


def brute_force(costs):
    """The least total cost over all assignments of a small matrix."""
    if costs.shape[0] > costs.shape[1]:
        costs = costs.T
    columns = itertools.permutations(range(costs.shape[1]), costs.shape[0])
    return min(sum(costs[row, column] for row, column in enumerate(chosen)) for chosen in columns)


@BOTH
def test_takes_the_best_total_not_the_best_first(solver):
    # Row 0 likes column 0 best, but row 1 can do without it far less.
    costs = [[[-5.0, -4.0, 0.0], [-5.0, 0.0, 0.0]]]
    np.testing.assert_array_equal(linear_sum_assignment(costs, [2], solver=solver), [[1, 0]])


@BOTH
def test_rows_beyond_the_real_ones_are_not_looked_at(solver):
    costs = tf.constant([[[3.0, 1.0], [np.nan, np.inf], [-99.0, -99.0]], [[1.0, 3.0], [1.0, 2.0], [0.0, 0.0]]])
    np.testing.assert_array_equal(linear_sum_assignment(costs, [1, 2], solver=solver), [[1, -1, -1], [0, 1, -1]])
    np.testing.assert_array_equal(linear_sum_assignment(costs, [0, 0], solver=solver), np.full([2, 3], -1))


@BOTH
def test_more_rows_than_columns_leaves_the_dearest_unmatched(solver):
    costs = [[[-1.0], [-3.0], [-2.0]], [[7.0], [8.0], [9.0]]]
    np.testing.assert_array_equal(linear_sum_assignment(costs, [3, 3], solver=solver), [[-1, 0, -1], [0, -1, -1]])


@BOTH
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (1, 1)])
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_random_matrices_against_all_assignments(shape, scale, solver):
    costs = (scale * np.random.default_rng(0).normal(size=(6, *shape))).astype(np.float32)
    num_rows = np.arange(6) % (shape[0] + 1)

    slots = linear_sum_assignment(costs, num_rows, solver=solver).numpy()

    for matrix, count, columns in zip(costs, num_rows, slots):
        rows = np.flatnonzero(columns >= 0)
        assert len(rows) == min(count, shape[1]) == len(set(columns[rows]))
        if count:
            total = matrix[rows, columns[rows]].sum()
            np.testing.assert_allclose(total, brute_force(matrix[:count]), rtol=1e-5, atol=1e-6 * scale)


@BOTH
def test_equal_costs_still_give_one_column_per_row(solver):
    slots = linear_sum_assignment(tf.zeros([1, 4, 6]), [4], solver=solver).numpy()[0]
    assert len(set(slots)) == 4
    assert min(slots) >= 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite_are_an_error(bad):
    costs = tf.constant([[[1.0, 2.0]], [[bad, 2.0]]])
    with pytest.raises(ValueError, match="finite costs.* example 1"):
        linear_sum_assignment(costs, [1, 1], solver=Solver.HOST)
    for solver in (Solver.HOST, Solver.IN_GRAPH):
        with pytest.raises(tf.errors.InvalidArgumentError, match="finite costs"):
            tf.function(linear_sum_assignment)(costs, tf.constant([1, 1]), solver=solver)
    compiled = tf.function(linear_sum_assignment, jit_compile=True)
    np.testing.assert_array_equal(compiled(costs, tf.constant([1, 1])), [[0], [-1]])


def test_the_number_of_rows_and_columns_must_be_known():
    function = tf.function(linear_sum_assignment, input_signature=[tf.TensorSpec([1, None, 3]), tf.TensorSpec([1])])
    with pytest.raises(ValueError, match="known rows and columns"):
        function(tf.zeros([1, 2, 3]), tf.ones([1]))


def test_the_size_of_the_batch_may_be_unknown():
    function = tf.function(linear_sum_assignment, input_signature=[tf.TensorSpec([None, 1, 2]), tf.TensorSpec([None])])
    slots = function(tf.constant([[[2.0, 1.0]]] * 3), tf.ones([3]))
    assert function.get_concrete_function().output_shapes.as_list() == [None, 1]
    np.testing.assert_array_equal(slots, [[1]] * 3)


def test_no_columns_no_matches():
    np.testing.assert_array_equal(linear_sum_assignment(tf.zeros([2, 3, 0]), [3, 3]), np.full([2, 3], -1))


def test_automatic_choice(monkeypatch):
    chosen = []

    def choose():
        chosen.append(hungarian.choose(Solver.AUTO))

    choose()
    tf.function(choose)()
    tf.function(choose, jit_compile=True)()
    tf.function(tf.function(choose), jit_compile=True)()
    monkeypatch.setattr(hungarian.importlib.util, "find_spec", lambda name: None)
    choose()
    assert chosen == [Solver.HOST, Solver.HOST, Solver.IN_GRAPH, Solver.IN_GRAPH, Solver.IN_GRAPH]
    with pytest.raises(ValueError, match="needs scipy"):
        hungarian.choose(Solver.HOST)


def test_no_gradient():
    costs = tf.Variable([[[1.0, 2.0]]])
    with tf.GradientTape() as tape:
        slots = tf.cast(linear_sum_assignment(costs, [1]), tf.float32)
    assert tape.gradient(slots, costs) is None
