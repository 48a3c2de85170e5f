"""The parity case of the recursive feature pyramid, whose weights have PyTorch's names: how it is run and measured."""

from __future__ import annotations

import functools
import sys

import numpy as np
import tensorflow as tf

from deeplab2_kmax import architectures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import conv, recursive_pyramid, residual
from tests import shared
from tests.parity import networks

CASE = "rfp_fusion"


class _Sum(keras.layers.Layer):
    """Stands for a residual block: its input is the sum that one would give."""

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        return x


def measure(mode: str) -> list[networks.Row]:
    """One row per output; `mode` is one of networks.MODES."""
    manifest, arrays = shared.case(CASE)
    inputs = {name: tf.constant(arrays[name]) for name in manifest["inputs"]}
    with architectures.precision(networks.PRECISIONS[mode]):
        run = functools.partial(_network(manifest, inputs), inputs)
        found = (run if mode == "eager" else tf.function(run, jit_compile=mode == "xla"))()
    rows = []
    for name, value in found.items():
        actual, expected = np.asarray(tf.cast(value, tf.float32)), arrays[name]
        std = manifest["outputs"][name]["std"]
        rms = float(np.sqrt(np.mean(np.square(actual - expected)))) / std
        # As the manifest says: 1e-5 of the output's standard deviation.
        rows.append(networks.compare(name, actual, expected, rtol=0.0, atol=1e-5 * std)._replace(rms=rms))
    return rows


def _network(manifest, inputs):
    """The parts with the case's weights, as a function of its inputs."""
    folder = str(shared.path("parity"))
    if folder not in sys.path:
        sys.path.append(folder)
    import torch_fill

    values = torch_fill.case_values(manifest)
    feedback = recursive_pyramid.FeedbackASPP(16)
    fusion = recursive_pyramid.GatedFusion()
    project = conv.Conv(24, use_bias=True)
    stage = residual.Stage([_Sum()])
    theirs = {
        **{f"rfp_aspp.aspp.{index}": getattr(feedback, name) for index, name in enumerate(("conv0", "conv1", "conv2"))},
        "rfp_aspp.aspp.3": feedback.pool,
        "rfp_weight": fusion.gate,
        "rfp_conv": project,
    }

    def run(given: networks.Tensors) -> networks.Tensors:
        told = feedback(given["old"])
        block = stage(given["residual_sum"], added=project(told))
        return {"feedback": told, "block_output": tf.nn.relu(block), "fused": fusion((given["new"], given["old"]))}

    run(inputs)
    for name, layer in theirs.items():
        layer.kernel.assign(values.pop(f"{name}.weight").transpose(2, 3, 1, 0))
        layer.bias.assign(values.pop(f"{name}.bias"))
    if values:
        raise AssertionError(f"Not used: {sorted(values)}.")
    return run
