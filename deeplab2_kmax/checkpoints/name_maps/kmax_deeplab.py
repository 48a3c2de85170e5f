"""Names of kMaX-DeepLab's variables, ours -> DeepLab2's."""

from __future__ import annotations

from deeplab2_kmax.checkpoints.name_maps import backbones, deeplab, layers, under

_PIXEL_DECODER = {
    **under("norms/{}", "_backbone_norms/{}", layers.LAYER_NORM),
    **under("stages/{}/block{}", "_stages/{}/_block{}", layers.RESIDUAL_BLOCK),
    **under("fuses/{}/coarse", "_skip_connections/{}/_resized_conv_bn1", layers.CONV_NORM),
    **under("fuses/{}/fine", "_skip_connections/{}/_resized_conv_bn2", layers.CONV_NORM),
}

_AUXILIARY_PREDICTOR = {
    **under("pixel_head/conv1", "_pixel_space_head/conv_block/_conv1_bn_act", layers.CONV5),
    **under("pixel_head/last", "_pixel_space_head/final_conv", layers.BIASED),
    **under("feature_norm", "_pixel_space_feature_batch_norm", layers.BATCH_NORM),
    **under("mask_head", "_transformer_mask_head", layers.CONV_NORM),
    **under("mask_norm", "_pixel_space_mask_batch_norm", layers.BATCH_NORM),
    **under("class_head", "_transformer_class_head/_conv", layers.BIASED),
}

# The same predictor; at the model's top level its parts have no leading underscore.
_PREDICTOR = {ours: theirs.removeprefix("_") for ours, theirs in _AUXILIARY_PREDICTOR.items()}

_KMEANS_BLOCK = {
    **under("memory_conv1", "_memory_conv1_bn_act", layers.CONV_NORM),
    **under("memory_conv3", "_memory_conv3_bn", layers.CONV_NORM),
    **under("memory_qkv", "_memory_qkv_conv_bn", layers.CONV_NORM),
    **under("memory_attention", "_memory_attention", layers.ATTENTION),
    **layers.FEED_FORWARD,
    **under("pixel_conv1", "_pixel_conv1_bn_act", layers.CONV_NORM),
    **under("pixel_value", "_pixel_v_conv_bn", layers.CONV_NORM),
    **under("kmeans/retrieved_norm", "_kmeans_memory_batch_norm_retrieved_value", layers.BATCH_NORM),
    **under("kmeans/project", "_kmeans_memory_conv3_bn", layers.CONV_NORM),
    **under("predictor", "_auxiliary_clustering_predictor", _AUXILIARY_PREDICTOR),
}

_TRANSFORMER_DECODER = {
    "cluster_centers": "cluster_centers",
    **under("blocks/{}", "_kmax_decoder/{}/_block1_transformer", _KMEANS_BLOCK),
    **under("class_projection", "_class_embedding_projection", layers.CONV_NORM),
    **under("mask_projection", "_mask_embedding_projection", layers.CONV_NORM),
}

TABLE = {
    **under("backbone", "encoder", backbones.TABLE),
    **under("pixel_decoder", "pixel_decoder", _PIXEL_DECODER),
    **under("transformer_decoder", "transformer_decoder", _TRANSFORMER_DECODER),
    **{f"mask_predictor/{ours}": theirs for ours, theirs in _PREDICTOR.items()},
    **under("semantic_decoder", "semantic_decoder", deeplab.DECODER),
    **deeplab.SEMANTIC_HEAD,
}
