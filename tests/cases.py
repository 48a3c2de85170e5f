"""One small case per public layer, for the tests in conformance/ that every layer must pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional, depth, masks
from deeplab2_kmax.layers import (
    activations,
    aspp,
    attention,
    axial_attention,
    axial_block,
    conv,
    drop_path,
    dual_path,
    fuse,
    inverted_residual,
    kmeans_attention,
    moat_block,
    norm,
    recursive_pyramid,
    residual,
    soft_assignment,
    squeeze_excite,
    stems,
    switchable_atrous,
    window_attention,
)
from deeplab2_kmax.pixel_decoders import deeper_lab, panoptic_deeplab, spgnet
from deeplab2_kmax.structures import MaskPrediction, Pyramid

NORM = norm.batch_norm()
RELU, GELU = activations.relu, activations.gelu


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, the shapes of its arguments (nested as the arguments are) and those of its outputs."""

    name: str
    make: Callable[[], keras.layers.Layer]
    inputs: tuple[Any, ...]
    output: Any
    classes: int | None = None  # the last argument holds class ids below this number instead of floats

    def arguments(self, seed: int = 0) -> list[Any]:
        """Random arguments: floats of standard deviation 1, or class ids."""
        random = np.random.RandomState(seed)

        def fill(shape: Any) -> Any:
            if isinstance(shape[0], tuple):
                values = [fill(part) for part in shape]
                return type(shape)(*values) if hasattr(shape, "_fields") else tuple(values)
            return tf.constant(random.standard_normal(shape), tf.float32)

        values = [fill(shape) for shape in self.inputs]
        if self.classes is not None:
            values[-1] = tf.constant(random.randint(self.classes, size=self.inputs[-1]), tf.int32)
        return values


PYRAMID = Pyramid(*[(2, 16 // 2**n + 1, 16 // 2**n + 1, 4) for n in (0, 1, 2, 3, 4)] * 2, (2, 2, 2, 4))

CASES = [
    Case("conv", lambda: conv.Conv(4, 3, stride=2, use_bias=True), inputs=((2, 6, 7, 3),), output=(2, 3, 4, 4)),
    Case("conv_dilated", lambda: conv.Conv(4, 3, dilation=2), inputs=((2, 6, 7, 3),), output=(2, 6, 7, 4)),
    Case("conv_1x1", lambda: conv.Conv(4, stride=2), inputs=((2, 6, 7, 3),), output=(2, 3, 4, 4)),
    Case("conv_same", lambda: conv.Conv(4, 3, stride=2, padding="same"), inputs=((2, 6, 7, 3),), output=(2, 3, 4, 4)),
    Case("conv_valid", lambda: conv.Conv(4, 2, stride=2, padding="valid"), inputs=((2, 6, 7, 3),), output=(2, 3, 3, 4)),
    Case("depthwise", lambda: conv.DepthwiseConv(3, use_bias=True), inputs=((2, 6, 7, 3),), output=(2, 6, 7, 3)),
    Case(
        "conv_norm_act",
        lambda: conv.ConvNormAct(4, 3, norm=NORM, activation="relu"),
        inputs=((2, 6, 7, 3),),
        output=(2, 6, 7, 4),
    ),
    Case(
        "depthwise_norm_act",
        lambda: conv.DepthwiseNormAct(3, stride=2, norm=NORM, activation="relu"),
        inputs=((2, 6, 7, 3),),
        output=(2, 3, 4, 3),
    ),
    Case(
        "separable",
        lambda: conv.SeparableConvNormAct(4, 5, norm=NORM, activation="gelu"),
        inputs=((2, 6, 7, 3),),
        output=(2, 6, 7, 4),
    ),
    Case("dense", lambda: conv.Dense(4), inputs=((2, 5, 3),), output=(2, 5, 4)),
    Case(
        "dense_norm_act",
        lambda: conv.DenseNormAct(4, norm=NORM, activation="gelu"),
        inputs=((2, 5, 3),),
        output=(2, 5, 4),
    ),
    Case("batch_norm", lambda: norm.BatchNorm(), inputs=((2, 4, 5, 3),), output=(2, 4, 5, 3)),
    Case("batch_norm_of_rows", lambda: norm.BatchNorm(), inputs=((8, 3),), output=(8, 3)),
    Case("batch_norm_of_axes", lambda: norm.BatchNorm(axes=(0, 2)), inputs=((3, 4, 2, 5),), output=(3, 4, 2, 5)),
    Case("layer_norm", lambda: norm.LayerNorm(), inputs=((2, 5, 8),), output=(2, 5, 8)),
    Case("drop_path", lambda: drop_path.DropPath(0.3), inputs=((4, 3, 3, 2),), output=(4, 3, 3, 2)),
    Case("dropout", lambda: drop_path.Dropout(0.3), inputs=((4, 3, 3, 2),), output=(4, 3, 3, 2)),
    Case(
        "simplified_squeeze_excite",
        lambda: squeeze_excite.SimplifiedSqueezeExcite(),
        inputs=((2, 4, 5, 3),),
        output=(2, 4, 5, 3),
    ),
    Case("squeeze_excite", lambda: squeeze_excite.SqueezeExcite(2), inputs=((2, 4, 5, 3),), output=(2, 4, 5, 3)),
    Case(
        "inception_stem",
        lambda: stems.InceptionStem(1 / 16, norm=NORM, activation=RELU),
        inputs=((2, 9, 11, 3),),
        output=(2, 5, 6, 8),
    ),
    Case(
        "conv_stem",
        lambda: stems.ConvStem(1 / 16, kernel_size=3, norm=NORM, activation=RELU),
        inputs=((2, 9, 11, 3),),
        output=(2, 5, 6, 4),
    ),
    Case(
        "feature_pyramid",
        lambda: recursive_pyramid.FeaturePyramid(4, levels=2),
        inputs=(((2, 5, 7, 3), (2, 3, 4, 6)),),
        output=((2, 5, 7, 4), (2, 3, 4, 4)),
    ),
    Case("feedback_aspp", lambda: recursive_pyramid.FeedbackASPP(8), inputs=((2, 5, 7, 3),), output=(2, 5, 7, 8)),
    Case(
        "gated_fusion",
        lambda: recursive_pyramid.GatedFusion(),
        inputs=(((2, 5, 7, 3), (2, 5, 7, 3)),),
        output=(2, 5, 7, 3),
    ),
    Case(
        "switchable_conv", lambda: switchable_atrous.SwitchableConv(4, 3), inputs=((2, 6, 7, 3),), output=(2, 6, 7, 4)
    ),
    Case(
        "switchable_conv_norm_act",
        lambda: switchable_atrous.SwitchableConvNormAct(4, stride=2, norm=NORM, activation=RELU),
        inputs=((2, 6, 7, 3),),
        output=(2, 3, 4, 4),
    ),
    Case(
        "wide_bottleneck",
        lambda: residual.Bottleneck(
            2, inner=4, conv3x3=switchable_atrous.SwitchableConvNormAct, norm=NORM, activation=RELU
        ),
        inputs=((2, 5, 6, 8),),
        output=(2, 5, 6, 8),
    ),
    Case(
        "bottleneck",
        lambda: residual.Bottleneck(2, stride=2, norm=NORM, activation=RELU, squeeze_and_excite=True),
        inputs=((2, 9, 7, 4),),
        output=(2, 5, 4, 8),
    ),
    Case(
        "basic",
        lambda: residual.Basic(2, dilation=2, second_dilation=2, norm=NORM, activation=RELU),
        inputs=((2, 9, 7, 8),),
        output=(2, 9, 7, 8),
    ),
    Case(
        "stage",
        lambda: residual.Stage([residual.Bottleneck(2, stride=s, norm=NORM, activation=GELU) for s in (2, 1)]),
        inputs=((2, 9, 7, 8),),
        output=(2, 5, 4, 8),
    ),
    Case(
        "inverted_residual",
        lambda: inverted_residual.InvertedResidual(4, expanded=8, residual=True, norm=NORM, activation="relu6"),
        inputs=((2, 6, 7, 4),),
        output=((2, 6, 7, 4), (2, 6, 7, 8)),
    ),
    *(
        Case(
            f"window_attention_{window}",
            lambda window=window: window_attention.WindowAttention(window=window, head_channels=2, position_span=3),
            inputs=((2, 4, 5, 6),),
            output=(2, 4, 5, 6),
        )
        for window in (0, 3)
    ),
    Case("mbconv", lambda: moat_block.MBConv(8, stride=2, norm=NORM), inputs=((2, 5, 6, 4),), output=(2, 3, 3, 8)),
    Case(
        "moat_block",
        lambda: moat_block.MoatBlock(32, window=2, position_span=3, norm=NORM),
        inputs=((2, 3, 5, 32),),
        output=(2, 3, 5, 32),
    ),
    Case(
        "axial_block",
        lambda: axial_block.AxialBlock(4, stride=2, num_heads=2, norm=NORM, activation=RELU),
        inputs=((2, 5, 7, 8),),
        output=(2, 3, 4, 16),
    ),
    Case(
        "axial_attention",
        lambda: axial_attention.AxialAttention(4, 8, num_heads=2, norm=NORM),
        inputs=((2, 5, 7, 8),),
        output=(2, 5, 7, 8),
    ),
    Case(
        "axial_attention_1d",
        lambda: axial_attention.AxialAttention1D(4, 8, num_heads=2, norm=NORM),
        inputs=((2, 5, 6),),
        output=(2, 5, 8),
    ),
    Case("relative_positions", lambda: axial_attention.RelativePositions(4), inputs=((2, 5, 6),), output=(5, 5, 4)),
    Case(
        "multi_head_attention",
        lambda: attention.MultiHeadAttention(4, 8, num_heads=2, norm=NORM, activation=RELU),
        inputs=((2, 5, 4), (2, 7, 4), (2, 7, 8)),
        output=(2, 5, 8),
    ),
    Case(
        "feed_forward",
        lambda: attention.FeedForward(4, 8, norm=NORM, activation=GELU),
        inputs=((2, 5, 4),),
        output=(2, 5, 4),
    ),
    Case(
        "kmeans_update",
        lambda: kmeans_attention.KMeansUpdate(3, 6, norm=NORM),
        inputs=((2, 4, 5, 8), (2, 4, 5)),
        output=(2, 3, 6),
        classes=3,
    ),
    Case(
        "retrieval",
        lambda: soft_assignment.Retrieval(6, norm=NORM, activation=GELU),
        inputs=((2, 7, 4), (2, 3, 7)),
        output=(2, 3, 6),
    ),
    *(
        Case(
            f"dual_path_{self_attention:d}{feedback:d}",
            lambda self_attention=self_attention, feedback=feedback: dual_path.DualPathTransformer(
                6,
                4,
                filters=4,
                num_heads=2,
                hidden=8,
                memory_self_attention=self_attention,
                pixel_feedback=feedback,
                norm=NORM,
                activation=RELU,
            ),
            inputs=((2, 3, 4, 6), (2, 5, 4)),
            output=((2, 3, 4, 6), (2, 5, 4)),
        )
        for self_attention in (True, False)
        for feedback in (True, False)
    ),
    Case(
        "dual_path_stage",
        lambda: dual_path.DualPathStage(
            [residual.Bottleneck(2, norm=NORM, activation=RELU)],
            [dual_path.DualPathTransformer(8, 4, filters=4, num_heads=2, hidden=8, norm=NORM, activation=RELU)],
        ),
        inputs=((2, 3, 4, 8), (2, 5, 4)),
        output=((2, 3, 4, 8), (2, 5, 4)),
    ),
    Case(
        "resized_fuse",
        lambda: fuse.ResizedFuse(4, norm=NORM, activation=GELU),
        inputs=(((2, 3, 4, 6), (2, 5, 7, 5)),),
        output=(2, 5, 7, 4),
    ),
    *(
        Case(
            f"stacked_fuse_{size[0]}",
            lambda strided=strided: fuse.StackedFuse(4, strided=strided, norm=NORM, activation=GELU),
            inputs=(((2, *size, 6), (2, 5, 7, 4), (2, 5, 7, 4)),),
            output=(2, 5, 7, 4),
        )
        for size, strided in (((3, 4), False), ((9, 13), True))
    ),
    Case(
        "aspp_pool_size",
        lambda: aspp.ASPP(4, atrous_rates=(1, 2, 3), pool_size=(3, 4), norm=NORM, activation=RELU),
        inputs=((2, 5, 6, 3),),
        output=(2, 5, 6, 4),
    ),
    Case(
        "aspp",
        lambda: aspp.ASPP(4, atrous_rates=(1, 2, 3), norm=NORM, activation=RELU),
        inputs=((2, 5, 7, 6),),
        output=(2, 5, 7, 4),
    ),
    Case(
        "aspp_projection",
        lambda: aspp.Projection(4, norm=NORM, activation=RELU),
        inputs=((2, 5, 7, 6),),
        output=(2, 5, 7, 4),
    ),
    Case(
        "conv_head",
        lambda: convolutional.ConvHead(4, 3, norm=NORM, activation=GELU),
        inputs=((2, 5, 7, 6),),
        output=(2, 5, 7, 3),
    ),
    Case(
        "depth_head",
        lambda: depth.DepthHead(4, highest=80.0, norm=NORM, activation=GELU),
        inputs=((2, 5, 7, 6),),
        output=(2, 9, 13, 1),
    ),
    Case(
        "mask_predictor",
        lambda: masks.MaskPredictor(5, head_channels=4, feature_channels=3, norm=NORM, activation=GELU),
        inputs=((2, 5, 7, 6), (2, 4, 6), (2, 4, 6)),
        output=MaskPrediction((2, 4, 5), (2, 5, 7, 4), (2, 5, 7, 3)),
    ),
    Case(
        "panoptic_deeplab_decoder",
        lambda: panoptic_deeplab.PanopticDeepLabDecoder(
            aspp.ASPP(4, norm=NORM, activation=GELU),
            low_levels=(("res3", 2), ("res2", 2)),
            channels=4,
            norm=NORM,
            activation=GELU,
        ),
        inputs=(PYRAMID,),
        output=(2, 9, 9, 4),
    ),
    Case(
        "upward_decoder",
        lambda: spgnet.UpwardDecoder(4, norm=NORM, activation=GELU),
        inputs=(PYRAMID[6:10],),
        output=((2, 9, 9, 4), (2, 5, 5, 4), (2, 3, 3, 4), (2, 2, 2, 4)),
    ),
    Case(
        "guide",
        lambda: spgnet.Guide(4, 3, norm=NORM, activation=GELU),
        inputs=((2, 5, 7, 4),),
        output=((2, 5, 7, 4), (2, 5, 7, 3)),
    ),
    Case(
        "deeper_lab_decoder",
        lambda: deeper_lab.DeeperLabDecoder(
            aspp.ASPP(4, norm=NORM, activation=GELU),
            feature="res4",
            low_level=("res2", 2),
            channels=2,
            conv_type="standard_conv",
            norm=NORM,
            activation=GELU,
        ),
        inputs=(PYRAMID,),
        output=(2, 9, 9, 2),
    ),
]
