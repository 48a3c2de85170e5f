"""Names of EfficientNet-Lite's variables, ours -> those of its PyTorch weights."""

from __future__ import annotations

from deeplab2_kmax.backbones import efficientnet_lite
from deeplab2_kmax.checkpoints.name_maps import torch_layers


def _block(ours: str, theirs: str) -> dict[str, str]:
    return {
        **torch_layers.conv_norm(f"{ours}/expand", f"{theirs}._expand_conv", f"{theirs}._bn0"),
        **torch_layers.depthwise_norm(f"{ours}/depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1"),
        **torch_layers.conv_norm(f"{ours}/project", f"{theirs}._project_conv", f"{theirs}._bn2"),
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


TABLE = {**torch_layers.conv_norm("stem", "_conv_stem", "_bn0"), **_blocks()}

# What the classifier has beyond the backbone.
CLASSIFIER = (r"_conv_head\..*", r"_bn1\..*", r"_fc\..*")
