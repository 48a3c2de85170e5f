"""What the mask transformers share: the way from images to outputs, the mask predictor and the semantic branch.

MaX-DeepLab (2021, arXiv 2012.00759), CMT-DeepLab (2022, arXiv 2206.08948), kMaX-DeepLab (2022, arXiv 2207.04044).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional, masks
from deeplab2_kmax.layers import activations, drop_path, kmeans_attention, resize, shapes
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.models import building
from deeplab2_kmax.pixel_decoders import panoptic_deeplab
from deeplab2_kmax.protos import model_pb2

Size = tuple[Any, Any]
Postprocess = Callable[[structures.MaskPrediction, Size], structures.PanopticMaps]


class MaskTransformer(keras.Model):
    """Images [B, H, W, 3] with values 0..255 -> MaskTransformerOutput. A model says in `decode` what its masks are.

    Any H and W will do; sides of the form 32 k + 1 keep features and pixels aligned at the corners.
    """

    def __init__(
        self,
        *,
        backbone: keras.Model,
        pixel_decoder: keras.layers.Layer | None = None,
        transformer_decoder: keras.layers.Layer | None = None,
        mask_predictor: keras.layers.Layer,
        semantic_decoder: keras.layers.Layer | None = None,
        semantic_head: keras.layers.Layer | None = None,
        normalize_auxiliary_features: bool = False,
        postprocess: Postprocess | None = None,
        name: str,
    ):
        # Pixel values need more than bfloat16's eight bits; the layers inside cast for themselves.
        super().__init__(name=name, autocast=False)
        self.backbone = backbone
        self.pixel_decoder: Any = pixel_decoder
        self.transformer_decoder: Any = transformer_decoder
        self.mask_predictor = mask_predictor
        self.semantic_decoder = semantic_decoder
        self.semantic_head = semantic_head
        self.normalize_auxiliary_features = normalize_auxiliary_features
        self.postprocess = postprocess

    def decode(self, features: Any, training: bool | None) -> structures.MaskTransformerOutput:
        """The prediction from what the backbone gave; in training the auxiliary ones too, each on its own grid."""
        raise NotImplementedError(f"{type(self).__name__} does not define decode().")

    def semantic_features(self, features: Any) -> tf.Tensor:
        """What the semantic head reads where there is no semantic decoder."""
        return features.stage5

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

    @building.plain_python
    def predict_masks(self, images: tf.Tensor) -> structures.MaskPrediction:
        """The masks and classes alone, without what only training needs. Inference."""
        return self.decode(self.backbone(building.normalize(images), training=False), training=False).prediction

    @building.plain_python
    def cluster_maps(self, images: tf.Tensor) -> list[tf.Tensor]:
        """The cluster that every pixel chose, [B, h, w] int32, one map per step of the decoder. Inference."""
        return [kmeans_attention.assign(self.predict_masks(images).mask_logits)]

    def build_variables(self) -> None:
        """Creates all variables by a call on one small black image; nothing else changes."""
        if self.mask_predictor.class_head.built:
            return
        postprocess, self.postprocess = self.postprocess, None
        try:
            self(tf.zeros([1, 65, 65, 3]), training=False)
        finally:
            self.postprocess = postprocess

    @building.plain_python
    def _network(
        self, images: tf.Tensor, training: bool | None, seed: tf.Tensor | None
    ) -> structures.MaskTransformerOutput:
        with drop_path.seeded(seed):
            features = self.backbone(building.normalize(images), training=training)
            output = self.decode(features, training=training)
            semantic_logits = self._semantic_logits(features, training)
        auxiliary = tuple(self._resized(prediction, output.prediction) for prediction in output.auxiliary)
        return output._replace(semantic_logits=semantic_logits, auxiliary=auxiliary)

    def _semantic_logits(self, features: Any, training: bool | None) -> tf.Tensor | None:
        if self.semantic_head is None:
            return None
        if self.semantic_decoder is None:
            return self.semantic_head(self.semantic_features(features), training=training)
        return self.semantic_head(self.semantic_decoder(features, training=training), training=training)

    def _resized(
        self, auxiliary: structures.MaskPrediction, main: structures.MaskPrediction
    ) -> structures.MaskPrediction:
        height, width = shapes.of(main.mask_logits)[1:3]
        features = resize.bilinear(auxiliary.pixel_features, (height, width))
        if self.normalize_auxiliary_features:
            features = tf.math.l2_normalize(features, axis=-1, epsilon=1e-12)
        mask_logits = resize.bilinear(auxiliary.mask_logits, (height, width))
        return structures.MaskPrediction(auxiliary.class_logits, mask_logits, features)


def make_predictor(
    options: model_pb2.ModelOptions,
    classes: structures.MaskClasses,
    *,
    norm: norms.Norm,
    activation: activations.Activation,
) -> Callable[..., masks.MaskPredictor]:
    """What makes a mask predictor of the sizes in `options.max_deeplab`: a model needs several."""
    head = options.max_deeplab.pixel_space_head
    return functools.partial(
        masks.MaskPredictor,
        classes.num_outputs,
        head_channels=head.head_channels or 256,
        feature_channels=head.output_channels or 128,
        head_conv_type=head.head_conv_type,
        logits_scale=options.max_deeplab.kmax.mask_logits_initial_scale,
        norm=norm,
        activation=activation,
    )


def semantic_head(
    options: model_pb2.ModelOptions,
    *,
    norm: norms.Norm,
    activation: activations.Activation,
    recompute: bool = False,
) -> convolutional.ConvHead | None:
    """The head of the auxiliary semantic branch, None without outputs."""
    head = options.max_deeplab.auxiliary_semantic_head
    if not head.output_channels:
        return None
    return convolutional.ConvHead(
        head.head_channels or 256,
        head.output_channels,
        conv_type=head.head_conv_type,
        recompute=recompute,
        norm=norm,
        activation=activation,
    )


def semantic_decoder(
    options: model_pb2.ModelOptions,
    *,
    norm: norms.Norm,
    activation: activations.Activation,
    feature_semantic: str = "stage5",
    recompute: bool = False,
) -> panoptic_deeplab.PanopticDeepLabDecoder | None:
    """The ASPP decoder before that head, None where there is no head or the head stands alone.

    `feature_semantic` is the Pyramid's field that configs mean by this name: the last encoder feature.
    """
    family = options.max_deeplab
    wanted = not family.kmax.HasField("auxiliary_semantic_decoder") or family.kmax.auxiliary_semantic_decoder
    if not wanted or not family.auxiliary_semantic_head.output_channels:
        return None
    return panoptic_deeplab.build(
        options.decoder,
        family.auxiliary_low_level,
        feature=feature_semantic if options.decoder.feature_key in ("", "feature_semantic") else None,
        recompute=recompute,
        norm=norm,
        activation=activation,
    )
