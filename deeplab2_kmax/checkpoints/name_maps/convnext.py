"""Names of ConvNeXt's variables, ours -> DeepLab2's below `encoder/`.

Its 7x7 kernels are those of grouped convolutions, [7, 7, 1, C], ours of depthwise ones, [7, 7, C, 1]: the same
numbers in the same order.
"""

from __future__ import annotations

from deeplab2_kmax.checkpoints.name_maps import layers, under

_BLOCK = {
    "depthwise/depthwise_kernel": "depthwise_conv/kernel",
    "depthwise/bias": "depthwise_conv/bias",
    **under("norm", "norm", layers.LAYER_NORM),
    **under("pointwise1", "pointwise_conv1", layers.BIASED),
    **under("pointwise2", "pointwise_conv2", layers.BIASED),
    "layer_scale": "layer_scale",
}

TABLE = {
    **under("patchify/conv", "downsample_layers/0/layer_with_weights-0", layers.BIASED),
    **under("patchify/norm", "downsample_layers/0/layer_with_weights-1", layers.LAYER_NORM),
    **under("downsample{}/norm", "downsample_layers/{-2}/layer_with_weights-0", layers.LAYER_NORM),
    **under("downsample{}/conv", "downsample_layers/{-2}/layer_with_weights-1", layers.BIASED),
    **under("stage{}/block{}", "stages/{-2}/layer_with_weights-{-1}", _BLOCK),
}
