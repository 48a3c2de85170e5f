"""What the machine is and how fast it multiplies matrices, to compare the figures of different machines."""

from __future__ import annotations

import os
import pathlib
import platform

import tensorflow as tf

from benchmarks import timing

_SIZE = 2048


def run(repeats: int = 10) -> dict:
    """CPU, software, and GFLOP/s of a 2048x2048 product on all cores, float32 and bfloat16."""
    speeds = {}
    for dtype in (tf.float32, tf.bfloat16):
        left, right = (tf.cast(tf.random.stateless_uniform([_SIZE, _SIZE], [seed, 0]), dtype) for seed in (1, 2))
        product = tf.function(tf.linalg.matmul)
        # The corner is read so that the product is finished.
        milliseconds = timing.median_ms(lambda: product(left, right)[0, 0].numpy(), repeats)  # noqa: B023
        speeds[f"matmul_{dtype.name}_gflops"] = round(2.0 * _SIZE**3 / milliseconds / 1e6, 1)
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        **speeds,
    }


def _cpu_name() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
