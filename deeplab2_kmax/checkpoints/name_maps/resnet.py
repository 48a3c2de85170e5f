"""Names of the ResNet family's variables, ours -> DeepLab2's below `encoder/`."""

from __future__ import annotations

from deeplab2_kmax.checkpoints.name_maps import layers, under

TABLE = {
    **under("stem", "_stem", layers.CONV_NORM),
    **under("stem/conv1", "_stem/_conv1_bn_act", layers.CONV_NORM),
    **under("stem/conv2", "_stem/_conv2_bn_act", layers.CONV_NORM),
    **under("stem/conv3", "_stem/_conv3_bn", layers.CONV_NORM),
    **under("stage{}/block{}", "_stage{}/_block{}", layers.RESIDUAL_BLOCK),
    **under("decoder/stage{}/block{}", "_decoder_stage{}/_block{}", layers.RESIDUAL_BLOCK),
    **under("decoder/fuse{}", "_decoder_stage{}_resized_fuse", layers.STACKED_FUSE),
}
