"""Names of backbones' variables, ours -> those of torchvision's models."""

from __future__ import annotations

from collections.abc import Sequence

from deeplab2_kmax.backbones import mobilenet_v2, mobilenet_v3
from deeplab2_kmax.checkpoints.name_maps import torch_layers as layers

_STAGES = (2, 3, 4, 5)

RESNET = {
    **layers.conv_norm("stem", "conv1", "bn1"),
    **{
        ours: theirs
        for stage in _STAGES
        for table in (
            *(
                layers.conv_norm(
                    f"stage{stage}/block{{}}/conv{conv}",
                    f"layer{stage - 1}.{{-1}}.conv{conv}",
                    f"layer{stage - 1}.{{-1}}.bn{conv}",
                )
                for conv in (1, 2, 3)
            ),
            layers.conv_norm(
                f"stage{stage}/block{{}}/shortcut",
                f"layer{stage - 1}.{{-1}}.downsample.0",
                f"layer{stage - 1}.{{-1}}.downsample.1",
            ),
        )
        for ours, theirs in table.items()
    },
}


def _convnext() -> dict[str, str]:
    table = {
        **layers.under("patchify/conv", "features.0.0", layers.BIASED),
        **layers.under("patchify/norm", "features.0.1", layers.LAYER_NORM),
    }
    for index, stage in enumerate(_STAGES):
        ours, theirs = f"stage{stage}/block{{}}", f"features.{2 * index + 1}.{{-1}}"
        table.update(layers.under(f"{ours}/depthwise", f"{theirs}.block.0", layers.DEPTHWISE_BIASED))
        table.update(layers.under(f"{ours}/norm", f"{theirs}.block.2", layers.LAYER_NORM))
        table.update(layers.under(f"{ours}/pointwise1", f"{theirs}.block.3", layers.BIASED))
        table.update(layers.under(f"{ours}/pointwise2", f"{theirs}.block.5", layers.BIASED))
        table[f"{ours}/layer_scale"] = f"{theirs}.layer_scale"
        if index:
            table.update(layers.under(f"downsample{stage}/norm", f"features.{2 * index}.0", layers.LAYER_NORM))
            table.update(layers.under(f"downsample{stage}/conv", f"features.{2 * index}.1", layers.BIASED))
    return table


CONVNEXT = _convnext()


def _inverted_residual(
    ours: str, theirs: str, *, expands: bool, squeezes: bool, last: tuple[str, str]
) -> dict[str, str]:
    """A block that numbers its parts. `last` are the parts of the projection, which {} numbers."""
    parts = iter(range(4))
    table: dict[str, str] = {}
    if expands:
        part = next(parts)
        table.update(layers.conv_norm(f"{ours}/expand", f"{theirs}.{part}.0", f"{theirs}.{part}.1"))
    part = next(parts)
    table.update(layers.depthwise_norm(f"{ours}/depthwise", f"{theirs}.{part}.0", f"{theirs}.{part}.1"))
    if squeezes:
        part = next(parts)
        table.update(layers.under(f"{ours}/squeeze_excite/reduce", f"{theirs}.{part}.fc1", layers.BIASED))
        table.update(layers.under(f"{ours}/squeeze_excite/expand", f"{theirs}.{part}.fc2", layers.BIASED))
    part = next(parts)
    conv, norm = (f"{theirs}.{name.format(part, part + 1)}" for name in last)
    return {**table, **layers.conv_norm(f"{ours}/project", conv, norm)}


def _mobilenet_v2() -> dict[str, str]:
    table = layers.conv_norm("blocks/0", "features.0.0", "features.0.1")
    number = 0
    for ratio, _, count, _ in mobilenet_v2.STAGES:
        for _ in range(count):
            number += 1
            ours, theirs = f"blocks/{number}", f"features.{number}.conv"
            table.update(_inverted_residual(ours, theirs, expands=ratio > 1, squeezes=False, last=("{0}", "{1}")))
    return table


MOBILENET_V2 = _mobilenet_v2()


def _mobilenet_v3(rows: Sequence[mobilenet_v3.Block]) -> dict[str, str]:
    table = layers.conv_norm("blocks/0", "features.0.0", "features.0.1")
    for number, row in enumerate(rows, start=1):
        ours, theirs = f"blocks/{number}", f"features.{number}.block"
        last = ("{0}.0", "{0}.1")
        table.update(_inverted_residual(ours, theirs, expands=row.ratio > 1, squeezes=row.squeeze, last=last))
    last_number = len(rows) + 1
    return {
        **table,
        **layers.conv_norm(f"blocks/{last_number}", f"features.{last_number}.0", f"features.{last_number}.1"),
    }


MOBILENET_V3_SMALL = _mobilenet_v3(mobilenet_v3.SMALL)
MOBILENET_V3_LARGE = _mobilenet_v3(mobilenet_v3.LARGE)
