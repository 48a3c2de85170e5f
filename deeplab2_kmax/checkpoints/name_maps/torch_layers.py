"""Names of the layers' variables, ours -> PyTorch's."""

from __future__ import annotations

BIASED = {"kernel": "weight", "bias": "bias"}
DEPTHWISE_BIASED = {"depthwise_kernel": "weight", "bias": "bias"}
LAYER_NORM = {"gamma": "weight", "beta": "bias"}
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}

# PyTorch counts the training steps of every batch norm.
COUNTER = r".*\.num_batches_tracked"


def under(ours: str, theirs: str, table: dict[str, str]) -> dict[str, str]:
    """The table of a layer that lies at `ours` here and at `theirs` there."""
    return {f"{ours}/{left}": f"{theirs}.{right}" for left, right in table.items()}


def conv_norm(ours: str, conv: str, norm: str, kernel: str = "kernel") -> dict[str, str]:
    """A convolution without bias and its batch norm."""
    return {f"{ours}/conv/{kernel}": f"{conv}.weight", **under(f"{ours}/norm", norm, BATCH_NORM)}


def depthwise_norm(ours: str, conv: str, norm: str) -> dict[str, str]:
    """A depthwise convolution without bias and its batch norm."""
    return conv_norm(ours, conv, norm, "depthwise_kernel")
