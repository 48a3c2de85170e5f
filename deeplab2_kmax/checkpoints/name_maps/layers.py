"""Names of the layers' variables, ours -> DeepLab2's."""

from __future__ import annotations

from deeplab2_kmax.checkpoints.name_maps import under

BATCH_NORM = {name: name for name in ("gamma", "beta", "moving_mean", "moving_variance")}
LAYER_NORM = {name: name for name in ("gamma", "beta")}
BIASED = {name: name for name in ("kernel", "bias")}

# A convolution and its norm, two-dimensional or along a sequence.
CONV_NORM = {"conv/kernel": "_conv/kernel", **under("norm", "_batch_norm", BATCH_NORM)}

SEPARABLE_CONV = {
    "depthwise/conv/depthwise_kernel": "_depthwise/_depthwise_conv/depthwise_kernel",
    **under("depthwise/norm", "_depthwise/_batch_norm", BATCH_NORM),
    **under("pointwise", "_pointwise", CONV_NORM),
}

# A 5x5 convolution of either kind.
CONV5 = {**SEPARABLE_CONV, **CONV_NORM}

AXIAL_ATTENTION_1D = {
    "qkv_kernel": "qkv_kernel",
    **under("qkv_norm", "_batch_norm_qkv", BATCH_NORM),
    **under("similarity_norm", "_batch_norm_similarity", BATCH_NORM),
    **under("retrieved_norm", "_batch_norm_retrieved_output", BATCH_NORM),
    "query_positions/embeddings": "_query_rpe/embeddings",
    "key_positions/embeddings": "_key_rpe/embeddings",
    "value_positions/embeddings": "_value_rpe/embeddings",
}

# A convolution of either kind and its norm. Switchable atrous ones have contexts, and a switch where they do not
# stride.
SWITCHABLE_CONV_NORM = {
    **CONV_NORM,
    **under("conv/switch", "_conv/_switch", BIASED),
    **under("pre_context", "_pre_global_context/convolution", BIASED),
    **under("post_context", "_post_global_context/convolution", BIASED),
}

# Bottlenecks, axial blocks, and blocks of two 3x3 convolutions (conv1 and last).
RESIDUAL_BLOCK = {
    **under("conv1", "_conv1_bn_act", SWITCHABLE_CONV_NORM),
    **under("conv2", "_conv2_bn_act", SWITCHABLE_CONV_NORM),
    **under("conv3", "_conv3_bn", CONV_NORM),
    **under("last", "_conv2_bn", SWITCHABLE_CONV_NORM),
    **under("shortcut", "_shortcut", CONV_NORM),
    **under("squeeze_excite/conv", "_squeeze_and_excite/_se_conv", BIASED),
    **under("attention/height_axis", "_attention/_height_axis", AXIAL_ATTENTION_1D),
    **under("attention/width_axis", "_attention/_width_axis", AXIAL_ATTENTION_1D),
}

STACKED_FUSE = {
    **under("resized", "_resized_conv_bn1", CONV_NORM),
    **under("strided", "_strided_conv_bn1", CONV_NORM),
}

ATTENTION = {
    **under("similarity_norm", "_batch_norm_similarity", BATCH_NORM),
    **under("retrieved_norm", "_batch_norm_retrieved_value", BATCH_NORM),
}

FEED_FORWARD = {
    **under("feed_forward/conv1", "_memory_ffn_conv1_bn_act", CONV_NORM),
    **under("feed_forward/conv2", "_memory_ffn_conv2_bn", CONV_NORM),
}

DUAL_PATH = {
    **under("memory_conv1", "_memory_conv1_bn_act", CONV_NORM),
    **under("memory_conv3", "_memory_conv3_bn", CONV_NORM),
    **under("memory_qkv", "_memory_qkv_conv_bn", CONV_NORM),
    **under("memory_query", "_memory_query_conv_bn", CONV_NORM),
    **under("memory_attention", "_memory_attention", ATTENTION),
    **FEED_FORWARD,
    **under("pixel_conv1", "_pixel_conv1_bn_act", CONV_NORM),
    **under("pixel_conv3", "_pixel_conv3_bn", CONV_NORM),
    **under("pixel_qkv", "_pixel_qkv_conv_bn", CONV_NORM),
    **under("pixel_kv", "_pixel_kv_conv_bn", CONV_NORM),
    **under("pixel_attention", "_pixel_attention", ATTENTION),
}

ASPP = {
    **under("conv0", "_conv_bn_act", CONV_NORM),
    **under("conv1", "_aspp_conv1/_conv_bn_act", CONV_NORM),
    **under("conv2", "_aspp_conv2/_conv_bn_act", CONV_NORM),
    **under("conv3", "_aspp_conv3/_conv_bn_act", CONV_NORM),
    **under("pool", "_aspp_pool/_conv_bn_act", CONV_NORM),
    **under("project", "_proj_conv_bn_act", CONV_NORM),
}
