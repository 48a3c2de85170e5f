"""Names of MobileNetV3's variables, ours -> DeepLab2's below `encoder/`."""

from __future__ import annotations

from deeplab2_kmax.checkpoints.name_maps import layers, under

_INVERTED_RESIDUAL = {
    **under("expand", "_conv1_bn_act", layers.CONV_NORM),
    "depthwise/conv/depthwise_kernel": "_conv2_bn_act/_depthwise_conv/depthwise_kernel",
    **under("depthwise/norm", "_conv2_bn_act/_batch_norm", layers.BATCH_NORM),
    **under("squeeze_excite/reduce", "_squeeze_excitation/_se_reduce", layers.BIASED),
    **under("squeeze_excite/expand", "_squeeze_excitation/_se_expand", layers.BIASED),
    **under("project", "_conv3_bn", layers.CONV_NORM),
}

# The first and the last of the blocks are plain convolutions.
TABLE = under("blocks/{}", "_blocks/{}", {**_INVERTED_RESIDUAL, **layers.CONV_NORM})
