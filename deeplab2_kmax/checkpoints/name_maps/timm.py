"""Names of backbones' variables, ours -> those of timm's models. Its ResNets are named as torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

from deeplab2_kmax.backbones import mobilenet_v2, mobilenet_v3
from deeplab2_kmax.checkpoints.name_maps import torch_layers as layers

CONVNEXT = {
    **layers.under("patchify/conv", "stem.0", layers.BIASED),
    **layers.under("patchify/norm", "stem.1", layers.LAYER_NORM),
    **layers.under("downsample{}/norm", "stages.{-2}.downsample.0", layers.LAYER_NORM),
    **layers.under("downsample{}/conv", "stages.{-2}.downsample.1", layers.BIASED),
    **layers.under("stage{}/block{}/depthwise", "stages.{-2}.blocks.{-1}.conv_dw", layers.DEPTHWISE_BIASED),
    **layers.under("stage{}/block{}/norm", "stages.{-2}.blocks.{-1}.norm", layers.LAYER_NORM),
    **layers.under("stage{}/block{}/pointwise1", "stages.{-2}.blocks.{-1}.mlp.fc1", layers.BIASED),
    **layers.under("stage{}/block{}/pointwise2", "stages.{-2}.blocks.{-1}.mlp.fc2", layers.BIASED),
    "stage{}/block{}/layer_scale": "stages.{-2}.blocks.{-1}.gamma",
}


def _block(ours: str, theirs: str, *, expands: bool) -> dict[str, str]:
    table = {
        **layers.under(f"{ours}/squeeze_excite/reduce", f"{theirs}.se.conv_reduce", layers.BIASED),
        **layers.under(f"{ours}/squeeze_excite/expand", f"{theirs}.se.conv_expand", layers.BIASED),
    }
    if not expands:
        return {
            **table,
            **layers.depthwise_norm(f"{ours}/depthwise", f"{theirs}.conv_dw", f"{theirs}.bn1"),
            **layers.conv_norm(f"{ours}/project", f"{theirs}.conv_pw", f"{theirs}.bn2"),
        }
    return {
        **table,
        **layers.conv_norm(f"{ours}/expand", f"{theirs}.conv_pw", f"{theirs}.bn1"),
        **layers.depthwise_norm(f"{ours}/depthwise", f"{theirs}.conv_dw", f"{theirs}.bn2"),
        **layers.conv_norm(f"{ours}/project", f"{theirs}.conv_pwl", f"{theirs}.bn3"),
    }


def _mobilenet(stages: Sequence[Sequence[bool]]) -> dict[str, str]:
    """Blocks count through here, and from 0 in every stage there. Of each block: whether it expands."""
    table = layers.conv_norm("blocks/0", "conv_stem", "bn1")
    number = 0
    for stage, blocks in enumerate(stages):
        for index, expands in enumerate(blocks):
            number += 1
            table.update(_block(f"blocks/{number}", f"blocks.{stage}.{index}", expands=expands))
    return table


def _mobilenet_v3(rows: Sequence[mobilenet_v3.Block], stages: Sequence[int]) -> dict[str, str]:
    expands = iter([row.ratio > 1 for row in rows])
    last, stage = len(rows) + 1, len(stages)
    return {
        **_mobilenet([[next(expands) for _ in range(count)] for count in stages]),
        **layers.conv_norm(f"blocks/{last}", f"blocks.{stage}.0.conv", f"blocks.{stage}.0.bn1"),
    }


MOBILENET_V2 = _mobilenet([[ratio > 1] * count for ratio, _, count, _ in mobilenet_v2.STAGES])
MOBILENET_V3_SMALL = _mobilenet_v3(mobilenet_v3.SMALL, (1, 2, 3, 2, 3))
MOBILENET_V3_LARGE = _mobilenet_v3(mobilenet_v3.LARGE, (1, 2, 3, 4, 2, 3))
