"""Names of EfficientNet-Lite's variables, ours -> those of its PyTorch weights."""

from __future__ import annotations

from deeplab2_kmax.backbones import efficientnet_lite
from deeplab2_kmax.checkpoints.name_maps import NameMap

_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def _conv_norm(ours: str, conv: str, norm: str, kernel: str = "kernel") -> dict[str, str]:
    return {
        f"{ours}/conv/{kernel}": f"{conv}.weight",
        **{f"{ours}/norm/{left}": f"{norm}.{right}" for left, right in _NORM.items()},
    }


def _block(ours: str, theirs: str) -> dict[str, str]:
    return {
        **_conv_norm(f"{ours}/expand", f"{theirs}._expand_conv", f"{theirs}._bn0"),
        **_conv_norm(f"{ours}/depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1", "depthwise_kernel"),
        **_conv_norm(f"{ours}/project", f"{theirs}._project_conv", f"{theirs}._bn2"),
    }


def _blocks() -> dict[str, str]:
    """Blocks count from 1 in every stage here, and from 0 through all stages there."""
    table: dict[str, str] = {}
    before = 0
    for stage, rows in enumerate(efficientnet_lite.LITE0, start=1):
        num_blocks = sum(row.num_blocks for row in rows)
        for block in range(1, num_blocks + 1):
            table.update(_block(f"stage{stage}/block{block}", f"_blocks.{before + block - 1}"))
        before += num_blocks
    return table


TABLE = {**_conv_norm("stem", "_conv_stem", "_bn0"), **_blocks()}
NAMES = NameMap(TABLE)

# What the classifier has beyond the backbone, and PyTorch's counters of training steps.
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
COUNTER = ".num_batches_tracked"
