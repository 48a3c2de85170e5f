"""Names of backbones' variables, ours -> those of the models in Hugging Face's transformers."""

from __future__ import annotations

from deeplab2_kmax.backbones import mobilenet_v2
from deeplab2_kmax.checkpoints.name_maps import torch_layers as layers


def _conv_norm(ours: str, theirs: str, kernel: str = "kernel") -> dict[str, str]:
    return layers.conv_norm(ours, f"{theirs}.convolution", f"{theirs}.normalization", kernel)


_RESNET_BLOCK = "resnet.encoder.stages.{-2}.layers.{-1}"

RESNET = {
    **_conv_norm("stem", "resnet.embedder.embedder"),
    **_conv_norm("stage{}/block{}/conv1", f"{_RESNET_BLOCK}.layer.0"),
    **_conv_norm("stage{}/block{}/conv2", f"{_RESNET_BLOCK}.layer.1"),
    **_conv_norm("stage{}/block{}/conv3", f"{_RESNET_BLOCK}.layer.2"),
    **_conv_norm("stage{}/block{}/shortcut", f"{_RESNET_BLOCK}.shortcut"),
}

_CONVNEXT_STAGE = "convnext.encoder.stages.{-2}"
_CONVNEXT_BLOCK = f"{_CONVNEXT_STAGE}.layers.{{-1}}"

CONVNEXT = {
    **layers.under("patchify/conv", "convnext.embeddings.patch_embeddings", layers.BIASED),
    **layers.under("patchify/norm", "convnext.embeddings.layernorm", layers.LAYER_NORM),
    **layers.under("downsample{}/norm", f"{_CONVNEXT_STAGE}.downsampling_layer.0", layers.LAYER_NORM),
    **layers.under("downsample{}/conv", f"{_CONVNEXT_STAGE}.downsampling_layer.1", layers.BIASED),
    **layers.under("stage{}/block{}/depthwise", f"{_CONVNEXT_BLOCK}.dwconv", layers.DEPTHWISE_BIASED),
    **layers.under("stage{}/block{}/norm", f"{_CONVNEXT_BLOCK}.layernorm", layers.LAYER_NORM),
    **layers.under("stage{}/block{}/pointwise1", f"{_CONVNEXT_BLOCK}.pwconv1", layers.BIASED),
    **layers.under("stage{}/block{}/pointwise2", f"{_CONVNEXT_BLOCK}.pwconv2", layers.BIASED),
    "stage{}/block{}/layer_scale": f"{_CONVNEXT_BLOCK}.layer_scale_parameter",
}


def _mobilenet_v2() -> dict[str, str]:
    """The stem there holds the first two layers; the others count from 0."""
    stem = "mobilenet_v2.conv_stem"
    table = {
        **_conv_norm("blocks/0", f"{stem}.first_conv"),
        **_conv_norm("blocks/1/depthwise", f"{stem}.conv_3x3", "depthwise_kernel"),
        **_conv_norm("blocks/1/project", f"{stem}.reduce_1x1"),
    }
    for number in range(2, 1 + sum(count for _, _, count, _ in mobilenet_v2.STAGES)):
        ours, theirs = f"blocks/{number}", f"mobilenet_v2.layer.{number - 2}"
        table.update(_conv_norm(f"{ours}/expand", f"{theirs}.expand_1x1"))
        table.update(_conv_norm(f"{ours}/depthwise", f"{theirs}.conv_3x3", "depthwise_kernel"))
        table.update(_conv_norm(f"{ours}/project", f"{theirs}.reduce_1x1"))
    return table


MOBILENET_V2 = _mobilenet_v2()
