"""Learning-rate schedules against the reference and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.protos import trainer_pb2
from tests import shared
from trainer import schedules

CASES = (
    "kmax_coco_r50",
    "kmax_coco_r50_x0.1",
    "panoptic_deeplab_cityscapes",
    "max_deeplab_100k",
    "max_deeplab_100k_x0.1",
    "poly_no_warmup_end",
    "cosine_warmup",
)


@pytest.mark.parametrize("name", CASES)
def test_reference_schedule(name):
    manifest, arrays = shared.case("learning_rate_schedules")
    options = dict(manifest["settings"][name])
    multiplier = options.pop("learning_rate_multiplier")
    schedule = schedules.build(trainer_pb2.SolverOptions(**options), multiplier=multiplier)
    rates = [schedule(tf.constant(step, tf.int64)).numpy() for step in arrays[f"{name}/steps"]]
    np.testing.assert_allclose(rates, arrays[f"{name}/lr"], rtol=1e-6, atol=1e-12)


def test_warm_up_by_hand():
    solver = trainer_pb2.SolverOptions(
        base_learning_rate=1.0, training_number_of_steps=10, warmup_steps=4, poly_learning_power=1.0
    )
    schedule = schedules.build(solver)
    rates = [float(schedule(step)) for step in range(12)]
    np.testing.assert_allclose(rates, [0, 0.25, 0.5, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0], atol=1e-6)


def test_end_rate_is_not_scaled():
    solver = trainer_pb2.SolverOptions(
        base_learning_rate=1.0, training_number_of_steps=10, poly_end_learning_rate=0.01, poly_learning_power=1.0
    )
    schedule = schedules.build(solver, multiplier=0.1)
    np.testing.assert_allclose([float(schedule(step)) for step in (0, 10, 99)], [0.1, 0.01, 0.01], rtol=1e-5)


def test_unknown_policy():
    with pytest.raises(ValueError, match="Unknown learning_policy 'poli'. Did you mean: poly"):
        schedules.build(trainer_pb2.SolverOptions(learning_policy="poli"))


@pytest.mark.parametrize("options", [{"training_number_of_steps": 0}, {"warmup_steps": -1}])
def test_impossible_steps(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        schedules.build(trainer_pb2.SolverOptions(**options))
