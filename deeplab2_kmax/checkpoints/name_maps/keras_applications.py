"""Names of backbones' variables, ours -> those of Keras applications, as `keras_files` spells them."""

from __future__ import annotations

from collections.abc import Sequence

from deeplab2_kmax.backbones import mobilenet_v2, mobilenet_v3
from deeplab2_kmax.checkpoints.name_maps import layers, under

_DEPTHWISE = {"depthwise_kernel": "kernel", "bias": "bias"}


def _conv_norm(ours: str, conv: str, norm: str, kernel: str = "kernel") -> dict[str, str]:
    return {f"{ours}/conv/{kernel}": f"{conv}/kernel", **under(f"{ours}/norm", norm, layers.BATCH_NORM)}


def _resnet() -> tuple[dict[str, str], dict[str, str]]:
    """The table, and the biases that its convolutions have before their norms: our moving mean -> bias."""
    places = {"stem": "conv1"}
    # Their shortcut is number 0, and their stages are numbered as ours.
    for part, number in (("shortcut", 0), ("conv1", 1), ("conv2", 2), ("conv3", 3)):
        places[f"stage{{}}/block{{}}/{part}"] = f"conv{{}}_block{{}}_{number}"
    table: dict[str, str] = {}
    for ours, theirs in places.items():
        table.update(_conv_norm(ours, f"{theirs}_conv", f"{theirs}_bn"))
    return table, {f"{ours}/norm/moving_mean": f"{theirs}_conv/bias" for ours, theirs in places.items()}


RESNET, RESNET_BIASES = _resnet()


def convnext(name: str) -> dict[str, str]:
    """The table of a ConvNeXt whose layers' names begin with `name`."""
    block = f"{name}_stage_{{-2}}_block_{{-1}}"
    return {
        **under("patchify/conv", f"{name}_stem_conv", layers.BIASED),
        **under("patchify/norm", f"{name}_stem_layernorm", layers.LAYER_NORM),
        **under("downsample{}/norm", f"{name}_downsampling_layernorm_{{-3}}", layers.LAYER_NORM),
        **under("downsample{}/conv", f"{name}_downsampling_conv_{{-3}}", layers.BIASED),
        **under("stage{}/block{}/depthwise", f"{block}_depthwise_conv", _DEPTHWISE),
        **under("stage{}/block{}/norm", f"{block}_layernorm", layers.LAYER_NORM),
        **under("stage{}/block{}/pointwise1", f"{block}_pointwise_conv_1", layers.BIASED),
        **under("stage{}/block{}/pointwise2", f"{block}_pointwise_conv_2", layers.BIASED),
        "stage{}/block{}/layer_scale": f"{block}_layer_scale/gamma",
    }


def _mobilenet_v2() -> dict[str, str]:
    table = _conv_norm("blocks/0", "conv1", "bn_conv1")
    for number in range(1, 1 + sum(count for _, _, count, _ in mobilenet_v2.STAGES)):
        ours, theirs = f"blocks/{number}", "expanded_conv" if number == 1 else f"block_{number - 1}"
        if number > 1:
            table.update(_conv_norm(f"{ours}/expand", f"{theirs}_expand", f"{theirs}_expand_bn"))
        depthwise = f"{theirs}_depthwise"
        table.update(_conv_norm(f"{ours}/depthwise", depthwise, f"{depthwise}_bn", "depthwise_kernel"))
        table.update(_conv_norm(f"{ours}/project", f"{theirs}_project", f"{theirs}_project_bn"))
    return table


MOBILENET_V2 = _mobilenet_v2()


def _mobilenet_v3(rows: Sequence[mobilenet_v3.Block]) -> dict[str, str]:
    table = _conv_norm("blocks/0", "conv", "conv_bn")
    for number, row in enumerate(rows, start=1):
        ours, theirs = f"blocks/{number}", "expanded_conv" if number == 1 else f"expanded_conv_{number - 1}"
        if row.ratio > 1:
            table.update(_conv_norm(f"{ours}/expand", f"{theirs}_expand", f"{theirs}_expand_bn"))
        depthwise = f"{theirs}_depthwise"
        table.update(_conv_norm(f"{ours}/depthwise", depthwise, f"{depthwise}_bn", "depthwise_kernel"))
        if row.squeeze:
            excite = f"{theirs}_squeeze_excite"
            table.update(under(f"{ours}/squeeze_excite/reduce", f"{excite}_conv", layers.BIASED))
            table.update(under(f"{ours}/squeeze_excite/expand", f"{excite}_conv_1", layers.BIASED))
        table.update(_conv_norm(f"{ours}/project", f"{theirs}_project", f"{theirs}_project_bn"))
    return {**table, **_conv_norm(f"blocks/{len(rows) + 1}", "conv_1", "conv_1_bn")}


MOBILENET_V3_SMALL = _mobilenet_v3(mobilenet_v3.SMALL)
MOBILENET_V3_LARGE = _mobilenet_v3(mobilenet_v3.LARGE)
