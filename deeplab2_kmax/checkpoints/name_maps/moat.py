"""Names of MOAT's variables, ours -> DeepLab2's below `encoder/`."""

from __future__ import annotations

from deeplab2_kmax.checkpoints.name_maps import layers, under

_KERNEL = {"kernel": "kernel"}

_MBCONV = {
    **under("pre_norm", "_pre_norm", layers.BATCH_NORM),
    **under("expand/conv", "_expand_conv", _KERNEL),
    **under("expand/norm", "_expand_norm", layers.BATCH_NORM),
    **under("depthwise/conv", "_depthwise_conv", {"depthwise_kernel": "depthwise_kernel"}),
    **under("depthwise/norm", "_depthwise_norm", layers.BATCH_NORM),
    **under("squeeze_excite/reduce", "_se/_se_reduce", layers.BIASED),
    **under("squeeze_excite/expand", "_se/_se_expand", layers.BIASED),
    **under("shrink", "_shrink_conv", layers.BIASED),
    **under("shortcut", "_shortcut_conv", layers.BIASED),
}

_ATTENTION = {
    **{
        f"{ours}_{kind}": f"{theirs}/{kind}"
        for ours, theirs in (("query", "_q_proj"), ("key", "_k_proj"), ("value", "_v_proj"), ("output", "_o_proj"))
        for kind in ("weight", "bias")
    },
    "position_bias": "relative_position_embedding",
}

TABLE = {
    **under("stem/conv1", "_stem/layer_with_weights-0", layers.BIASED),
    **under("stem/norm1", "_stem/layer_with_weights-1", layers.BATCH_NORM),
    **under("stem/conv2", "_stem/layer_with_weights-2", layers.BIASED),
    **under("stage{}/block{}", "_blocks/{-2}/{-1}", _MBCONV),
    **under("stage{}/block{}/mbconv", "_blocks/{-2}/{-1}", _MBCONV),
    **under("stage{}/block{}/attention_norm", "_blocks/{-2}/{-1}/_attention_norm", layers.LAYER_NORM),
    **under("stage{}/block{}/attention", "_blocks/{-2}/{-1}/_attention", _ATTENTION),
}
