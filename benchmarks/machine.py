"""What the machine is and how fast it multiplies matrices, to compare the figures of different machines."""

from __future__ import annotations

import os
import pathlib
import platform
import resource
import sys

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
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        **speeds,
    }


def cpu_name() -> str:
    """What the processor calls itself."""
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_megabytes() -> float:
    """The most memory that this process has held."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # ru_maxrss of Linux also counts the parent's memory, from before the program was loaded
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
