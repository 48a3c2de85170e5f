"""Names of the variables of DeepLabV3, DeepLabV3+, Panoptic-DeepLab and its kin, ours -> DeepLab2's."""

from __future__ import annotations

from deeplab2_kmax.checkpoints.name_maps import backbones, layers, under

_BACKBONE = under("backbone", "encoder", backbones.TABLE)


def _aspp(theirs: str) -> dict[str, str]:
    """The table of an ASPP. Where one 1x1 convolution takes its place, that is the last one of ASPP by name."""
    return {**under("aspp", theirs, layers.ASPP), **under("aspp", f"{theirs}/_proj_conv_bn_act", layers.CONV_NORM)}


# However many low levels there are: DeepLab2 counts them from 1.
DECODER = {
    **_aspp("_aspp"),
    **under("projections/{}", "_low_level_conv{+1}", layers.CONV_NORM),
    **under("fusions/{}", "_fusion_conv{+1}/_conv1_bn_act", layers.CONV5),
}


def head(ours: str, theirs: str) -> dict[str, str]:
    """The table of a convolutional head."""
    return {
        **under(f"{ours}/conv1", f"{theirs}_without_last_layer/_conv1_bn_act", layers.CONV5),
        **under(f"{ours}/last", f"{theirs}_last_layer", layers.BIASED),
    }


SEMANTIC_HEAD = {
    **under("semantic_head/conv1", "semantic_head_without_last_layer/_conv1_bn_act", layers.CONV5),
    **under("semantic_head/last", "semantic_last_layer", layers.BIASED),
}

PANOPTIC_DEEPLAB = {
    **_BACKBONE,
    **under("semantic_decoder", "semantic_decoder", DECODER),
    **under("instance_decoder", "instance_decoder", DECODER),
    **SEMANTIC_HEAD,
    **head("center_head", "instance_center_head"),
    **head("offset_head", "instance_regression_head"),
}

MOTION_DEEPLAB = {
    **PANOPTIC_DEEPLAB,
    **head("motion_head", "motion_regression_head"),
}

VIP_DEEPLAB = {
    **PANOPTIC_DEEPLAB,
    **under("next_decoder", "next_instance_decoder", DECODER),
    **head("next_offset_head", "next_instance_regression_head"),
    **head("depth_head", "depth_head"),
}

DEEPLAB_V3 = {
    **_BACKBONE,
    **_aspp("deeplab_v3_aspp"),
    **under("classifier", "classifier_conv_bn_act", layers.CONV5),
    **under("last", "semantic_last_layer/_conv", layers.BIASED),
}

DEEPLAB_V3_PLUS = {
    **_BACKBONE,
    **_aspp("deeplab_v3plus_aspp"),
    **under("projection", "deeplab_v3plus_project_conv_bn_act", layers.CONV_NORM),
    **under("fusions/{}", "deeplab_v3plus_fuse/_conv{+1}_bn_act", layers.CONV5),
    **under("last", "semantic_last_layer/_conv", layers.BIASED),
}
