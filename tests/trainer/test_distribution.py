"""Choosing devices."""

import json

import pytest
import tensorflow as tf

from tests import replicas
from trainer import distribution


def test_cpu():
    strategy = distribution.create()
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert distribution.describe(strategy) == "CPU:0"
    assert distribution.is_chief()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_gpus": -1}, "num_gpus must be at least 0"),
        ({"num_gpus": 99}, "num_gpus is 99, but TensorFlow sees"),
        ({"master": "no-such-tpu"}, "No TPU at master 'no-such-tpu'"),
    ],
)
def test_what_is_not_there(options, message):
    with pytest.raises(ValueError, match=message):
        distribution.create(**options)


@pytest.mark.parametrize(
    "cluster, task, machines, chief",
    [
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 0}, 2, True),
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 1}, 2, False),
        ({"chief": ["c:1"], "worker": ["a:1"]}, {"type": "chief", "index": 0}, 2, True),
        ({"chief": ["c:1"], "worker": ["a:1"]}, {"type": "worker", "index": 0}, 2, False),
        ({"worker": ["a:1"]}, {"type": "worker", "index": 0}, 1, True),
    ],
)
def test_several_machines(monkeypatch, cluster, task, machines, chief):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert distribution.num_machines() == machines
    assert distribution.is_chief() is chief


def test_tf_config_that_is_no_json(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG is no JSON"):
        distribution.create()


def test_mirrored_shares_the_batch():
    strategy = replicas.two()
    asked = []

    def make(num_shards, shard, replicas):
        asked.append((num_shards, shard, replicas))
        return tf.data.Dataset.range(8).batch(2, drop_remainder=True)

    first = next(iter(distribution.distribute(strategy, make)))
    assert [value.numpy().tolist() for value in strategy.experimental_local_results(first)] == [[0, 1], [2, 3]]
    assert asked == [(1, 0, 2)]
    assert distribution.describe(strategy) == "2 x CPU (mirrored)"
