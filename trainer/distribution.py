"""Where a run computes: one device, several GPUs, several machines (by TF_CONFIG) or TPUs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import tensorflow as tf


def create(*, num_gpus: int = 0, master: str | None = None) -> tf.distribute.Strategy:
    """The strategy of a run; it wins in this order: `master`, TF_CONFIG, `num_gpus`.

    `master` is a TPU's name or its grpc address ("" or "local": a TPU of this machine); `num_gpus` 0 means the CPU, n
    the GPUs 0..n-1. TF_CONFIG naming several machines makes them work together, each with its `num_gpus`.

    Raises:
        ValueError: a negative number of GPUs, more than there are, or a TF_CONFIG or TPU that cannot be used.
    """
    if num_gpus < 0:
        raise ValueError(f"num_gpus must be at least 0 (0 = CPU), got {num_gpus}.")
    if master is not None:
        return _tpu(master)
    visible = len(tf.config.list_physical_devices("GPU"))
    if num_gpus > visible:
        raise ValueError(f"num_gpus is {num_gpus}, but TensorFlow sees {visible} GPUs on this machine.")
    if num_machines() > 1:
        return _several_machines(num_gpus)
    if num_gpus > 1:
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(num_gpus)])
    return tf.distribute.OneDeviceStrategy("GPU:0" if num_gpus else "CPU:0")


def num_machines() -> int:
    """How many training machines TF_CONFIG names; 1 without it."""
    cluster = _tf_config().get("cluster", {})
    return max(1, sum(len(cluster.get(role, ())) for role in ("chief", "worker")))


def is_chief() -> bool:
    """Whether this process writes checkpoints, summaries and logs for all."""
    config = _tf_config()
    task = config.get("task", {})
    if num_machines() == 1 or task.get("type") == "chief":
        return True
    return task.get("type") == "worker" and task.get("index") == 0 and not config["cluster"].get("chief")


def describe(strategy: tf.distribute.Strategy) -> str:
    """The devices in words, for the log."""
    replicas = strategy.num_replicas_in_sync
    kinds = {"OneDeviceStrategy": "one", "MirroredStrategy": "mirrored", "CollectiveAllReduceStrategy": "multi-worker"}
    name = type(strategy).__name__
    devices = sorted({device.rsplit("device:", 1)[-1] for device in strategy.extended.worker_devices})
    kind = kinds.get(name, "multi-worker" if name.startswith("MultiWorker") else name)
    if kind == "one":
        return devices[0]
    machines = f" on {num_machines()} machines" if num_machines() > 1 else ""
    return f"{replicas} x {devices[0].split(':')[0]} ({kind}{machines})"


def distribute(
    strategy: tf.distribute.Strategy, make: Callable[[int, int, int], tf.data.Dataset]
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """A data set whose elements hold one batch for each replica.

    `make(num_shards, shard, replicas)` gives what one machine feeds its replicas, one batch each, in turn.
    """
    if strategy.num_replicas_in_sync == 1 and "CPU" in strategy.extended.worker_devices[0]:
        return make(1, 0, 1)
    return strategy.distribute_datasets_from_function(
        lambda context: make(
            context.num_input_pipelines,
            context.input_pipeline_id,
            context.num_replicas_in_sync // context.num_input_pipelines,
        )
    )


def _tf_config() -> dict:
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return {}
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"The environment variable TF_CONFIG is no JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ValueError("The environment variable TF_CONFIG must be a JSON object with `cluster` and `task`.")
    return config


def _several_machines(num_gpus: int) -> tf.distribute.Strategy:
    tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:num_gpus], "GPU")
    implementation = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=implementation.NCCL if num_gpus else implementation.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _tpu(master: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=master)
        if master not in ("", "local"):
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"No TPU at master {master!r}: {reason}") from error
    return tf.distribute.TPUStrategy(resolver)
