"""kMaX-DeepLab (2022, arXiv 2207.04044): k-means mask transformer for panoptic segmentation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional, masks, semantic
from deeplab2_kmax.layers import activations, drop_path, resize, shapes
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.pixel_decoders import kmax as pixel_decoders
from deeplab2_kmax.protos import model_pb2
from deeplab2_kmax.transformer_decoders import kmax as transformer_decoders

Size = tuple[Any, Any]
Postprocess = Callable[[structures.MaskPrediction, Size], structures.PanopticMaps]

# The layers need no control flow on tensors. Without AutoGraph's rewriting they trace three times as fast.
_plain_python = tf.autograph.experimental.do_not_convert

# Chance to keep a residual update of the transformer decoder where the config does not say.
_KEEP_PROBABILITY = 0.8


def build(
    options: model_pb2.ModelOptions,
    backbone: keras.Model,
    *,
    classes: structures.MaskClasses,
    norm: norms.Norm,
    activation: str | activations.Activation = "gelu",
    postprocess: Postprocess | None = None,
) -> KMaXDeepLab:
    """Builds the model that `options.max_deeplab` describes around a backbone; unset sizes are the paper's.

    Args:
        options: model options; the backbone's own are not read.
        backbone: image in [-1, 1] -> Pyramid.
        classes: what the outputs of the class head mean.
        norm: factory of the norms outside the backbone.
        activation: of everything outside the backbone.
        postprocess: turns predictions into label maps in inference, None for predictions alone.

    Raises:
        ValueError: an option has no meaning here.
    """
    family = options.max_deeplab
    sizes = family.kmax
    act = activations.get(activation)
    finest = sizes.highest_stride or 4
    if finest not in (2, 4):
        raise ValueError(f"max_deeplab.kmax.highest_stride is 2 or 4, but got {finest}.")
    num_levels = 4 if finest == 4 else 5
    blocks = tuple(sizes.pixel_decoder_blocks) or pixel_decoders.BLOCKS[:num_levels]
    if len(blocks) != num_levels:
        raise ValueError(
            f"max_deeplab.kmax.pixel_decoder_blocks: highest_stride {finest} takes {num_levels} entries, "
            f"but got {list(blocks)}."
        )
    keep = _KEEP_PROBABILITY
    if family.HasField("transformer_decoder_drop_path_keep_prob"):
        keep = family.transformer_decoder_drop_path_keep_prob
    head = family.pixel_space_head
    make_predictor = functools.partial(
        masks.MaskPredictor,
        classes.num_outputs,
        head_channels=head.head_channels or 256,
        feature_channels=head.output_channels or 128,
        head_conv_type=head.head_conv_type,
        logits_scale=sizes.mask_logits_initial_scale,
        norm=norm,
        activation=act,
    )
    return KMaXDeepLab(
        backbone=backbone,
        pixel_decoder=pixel_decoders.KMaXPixelDecoder(
            blocks=blocks,
            width_multiplier=sizes.pixel_decoder_width_multiplier,
            axial_beyond_stride=sizes.pixel_decoder_axial_beyond_stride,
            dilation=sizes.pixel_decoder_dilation,
            num_heads=sizes.num_heads,
            norm=norm,
            activation=act,
        ),
        transformer_decoder=transformer_decoders.KMaXTransformerDecoder(
            sizes.num_mask_slots or 128,
            make_predictor=make_predictor,
            blocks=tuple(sizes.transformer_decoder_blocks) or transformer_decoders.BLOCKS,
            cluster_channels=sizes.cluster_channels,
            norm=norm,
            activation=act,
            block_options={
                "filters": sizes.transformer_decoder_filters,
                "hidden": sizes.transformer_decoder_feed_forward_channels,
                "num_heads": sizes.num_heads,
                "drop_path": 1.0 - keep,
            },
        ),
        mask_predictor=make_predictor(),
        semantic_decoder=_semantic_decoder(options, norm, act),
        semantic_head=_semantic_head(options, norm, act),
        normalize_auxiliary_features=sizes.normalize_auxiliary_features,
        postprocess=postprocess,
    )


class KMaXDeepLab(keras.Model):
    """Images [B, H, W, 3] with values 0..255 -> MaskTransformerOutput; masks at the pixel decoder's finest stride.

    Any H and W will do; sides of the form 32 k + 1 keep features and pixels aligned at the corners.
    """

    def __init__(
        self,
        *,
        backbone: keras.Model,
        pixel_decoder: keras.layers.Layer,
        transformer_decoder: keras.layers.Layer,
        mask_predictor: keras.layers.Layer,
        semantic_decoder: keras.layers.Layer | None = None,
        semantic_head: keras.layers.Layer | None = None,
        normalize_auxiliary_features: bool = False,
        postprocess: Postprocess | None = None,
        name: str = "kmax_deeplab",
    ):
        # Pixel values need more than bfloat16's eight bits; the layers inside cast for themselves.
        super().__init__(name=name, autocast=False)
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.transformer_decoder = transformer_decoder
        self.mask_predictor = mask_predictor
        self.semantic_decoder = semantic_decoder
        self.semantic_head = semantic_head
        self.normalize_auxiliary_features = normalize_auxiliary_features
        self.postprocess = postprocess

    def call(
        self, images: tf.Tensor, training: bool | None = False, seed: tf.Tensor | None = None
    ) -> structures.MaskTransformerOutput:
        """Everything the mode computes.

        Training adds the auxiliary predictions, resized to the masks' grid; inference adds label maps if there is a
        `postprocess`. `seed`, int32 [2], makes the random masks of training a function of it.
        """
        output = self._network(images, training, seed)
        if not training and self.postprocess is not None:
            height, width = shapes.of(images)[1:3]
            output = output._replace(maps=self.postprocess(output.prediction, (height, width)))
        return output

    @_plain_python
    def predict_masks(self, images: tf.Tensor) -> structures.MaskPrediction:
        """The masks and classes alone, without what only training needs. Inference."""
        return self._predict(self.backbone(normalize(images), training=False), predict=False, training=False)[0]

    @_plain_python
    def cluster_maps(self, images: tf.Tensor) -> list[tf.Tensor]:
        """The cluster that every pixel chose in each block of the transformer decoder, [B, h, w] int32. Inference."""
        pyramid = self.backbone(normalize(images), training=False)
        return [step.assignment for step in self.clusters(pyramid).steps]

    def clusters(
        self, pyramid: structures.Pyramid, predict: bool = False, training: bool = False
    ) -> transformer_decoders.Clusters:
        """The transformer decoder's view of a backbone's features, with the blocks' own predictions if `predict`."""
        features = self.pixel_decoder(pyramid, training=training)
        return self.transformer_decoder(features[:3], predict=predict, training=training)

    def build_variables(self) -> None:
        """Creates all variables by a call on one small black image; nothing else changes."""
        if self.mask_predictor.class_head.built:
            return
        postprocess, self.postprocess = self.postprocess, None
        try:
            self(tf.zeros([1, 65, 65, 3]), training=False)
        finally:
            self.postprocess = postprocess

    @_plain_python
    def _network(
        self, images: tf.Tensor, training: bool | None, seed: tf.Tensor | None
    ) -> structures.MaskTransformerOutput:
        with drop_path.seeded(seed):
            pyramid = self.backbone(normalize(images), training=training)
            prediction, steps = self._predict(pyramid, predict=False, training=training)
            semantic_logits = self._semantic_logits(pyramid, training)
        auxiliary = tuple(self._resized(step.prediction, prediction) for step in steps if step.prediction is not None)
        return structures.MaskTransformerOutput(prediction, semantic_logits, auxiliary, maps=None)

    def _predict(
        self, pyramid: structures.Pyramid, predict: bool, training: bool | None
    ) -> tuple[structures.MaskPrediction, tuple[transformer_decoders.ClusterStep, ...]]:
        features = self.pixel_decoder(pyramid, training=training)
        clusters = self.transformer_decoder(features[:3], predict=predict, training=training)
        prediction = self.mask_predictor(
            features[-1], clusters.class_features, clusters.mask_features, training=training
        )
        return prediction, clusters.steps

    def _semantic_logits(self, pyramid: structures.Pyramid, training: bool | None) -> tf.Tensor | None:
        if self.semantic_head is None:
            return None
        features = pyramid.stage5
        if self.semantic_decoder is not None:
            features = self.semantic_decoder(pyramid, training=training)
        return self.semantic_head(features, training=training)

    def _resized(
        self, auxiliary: structures.MaskPrediction, main: structures.MaskPrediction
    ) -> structures.MaskPrediction:
        height, width = shapes.of(main.mask_logits)[1:3]
        features = resize.bilinear(auxiliary.pixel_features, (height, width))
        if self.normalize_auxiliary_features:
            features = tf.math.l2_normalize(features, axis=-1, epsilon=1e-12)
        mask_logits = resize.bilinear(auxiliary.mask_logits, (height, width))
        return structures.MaskPrediction(auxiliary.class_logits, mask_logits, features)


def normalize(images: tf.Tensor) -> tf.Tensor:
    """Pixel values 0..255 of any type -> float32 in [-1, 1]."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def _semantic_head(
    options: model_pb2.ModelOptions, norm: norms.Norm, activation: activations.Activation
) -> convolutional.ConvHead | None:
    head = options.max_deeplab.auxiliary_semantic_head
    if not head.output_channels:
        return None
    return convolutional.ConvHead(
        head.head_channels or 256,
        head.output_channels,
        conv_type=head.head_conv_type,
        norm=norm,
        activation=activation,
    )


def _semantic_decoder(
    options: model_pb2.ModelOptions, norm: norms.Norm, activation: activations.Activation
) -> semantic.SemanticDecoder | None:
    family = options.max_deeplab
    wanted = not family.kmax.HasField("auxiliary_semantic_decoder") or family.kmax.auxiliary_semantic_decoder
    if not wanted or not family.auxiliary_semantic_head.output_channels:
        return None
    decoder = options.decoder
    # MaX-DeepLab's name for its un-activated last encoder feature.
    feature = "stage5" if decoder.feature_key in ("", "feature_semantic") else decoder.feature_key
    return semantic.SemanticDecoder(
        feature=feature,
        low_levels=[(low.feature_key, low.channels_project) for low in family.auxiliary_low_level],
        channels=decoder.decoder_channels,
        aspp_channels=decoder.aspp_channels,
        atrous_rates=tuple(decoder.atrous_rates) or (6, 12, 18),
        conv_type=decoder.decoder_conv_type,
        aspp_only_1x1=decoder.aspp_use_only_1x1_proj_conv,
        norm=norm,
        activation=activation,
    )
