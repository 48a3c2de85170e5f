"""Convolutions and dense layers, alone or followed by norm and activation.

In inference a batch norm is folded into the kernel before it, so a convolution, its norm and its activation are one
product with a bias; freezing the variables then leaves plain biased convolutions. Strided convolutions pad both sides
alike by default, as DeepLab2's ResNets do, where TensorFlow's `SAME` would move by one pixel for even sizes.
"""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv_kernels, shapes
from deeplab2_kmax.layers import norm as norms

# How convolutions pad: both sides alike (the last side one more where the sum is odd), as TensorFlow's SAME, which
# depends on the input's size, or not at all. With stride 1 the first two are the same.
Padding = Literal["symmetric", "same", "valid"]


def build_child(layer: keras.layers.Layer, shape: Any) -> None:
    """Creates the variables of a child layer that its parent does not call itself."""
    if not layer.built:
        with tf.name_scope(layer.name):
            layer.build(tf.TensorShape(shape))


def dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None, activation: activations.Activation) -> tf.Tensor:
    """x [..., C] times kernel [C, D], plus bias [D], activated: [..., D]."""
    kernel = tf.cast(kernel, x.dtype)
    y = tf.linalg.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel)
    if bias is not None:
        y = tf.nn.bias_add(y, tf.cast(bias, x.dtype))
    return tf.reshape(activation(y), shapes.of(x)[:-1] + [kernel.shape[1]])


class Conv(keras.layers.Layer):
    """A 2-D convolution: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), filters]."""

    def __init__(
        self,
        filters: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "symmetric",
        use_bias: bool = False,
        kernel_initializer: Any = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.padding = padding
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = [self.kernel_size, self.kernel_size, tf.TensorShape(input_shape)[-1], self.filters]
        self.kernel = self.add_weight(
            "kernel", shape=shape, initializer=self.kernel_initializer, dtype="float32", experimental_autocast=False
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", shape=[self.filters], initializer="zeros", dtype="float32", experimental_autocast=False
            )
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        return self.convolve(x, self.kernel, self.bias, training=training)

    def convolve(
        self,
        x: tf.Tensor,
        kernel: tf.Tensor,
        bias: tf.Tensor | None,
        activation: activations.Activation = activations.identity,
        training: bool | None = False,
        dilation: int | None = None,
    ) -> tf.Tensor:
        """This convolution with another kernel and bias, for example with a norm folded in, or another dilation."""
        dilation = dilation or self.dilation
        if self.kernel_size == 1 and self.stride == 1 and activation is activations.gelu:
            # TensorFlow's graph rewriter fuses GELU into matrix products only, but ReLU and residual sums only into
            # convolutions.
            return dense(x, kernel[0, 0], bias, activation)
        kernel = tf.cast(kernel, x.dtype)
        if training and self.kernel_size == 1 and self.stride > 1:
            # The same numbers; the kernel's gradient of a strided convolution is several times slower.
            y = tf.nn.conv2d(x[:, :: self.stride, :: self.stride], kernel, 1, "VALID")
        elif training and self._keeps_size() and conv_kernels.is_wide(x.shape[1:3], dilation):
            y = conv_kernels.sum_of_taps(x, kernel, dilation)
        elif dilation > 1 and training:
            # Off oneDNN and GPU, TensorFlow has no gradient for a dilated kernel: this one goes through space-to-batch.
            y = tf.nn.convolution(_pad_strided(x, self), kernel, self.stride, _padding(self), dilations=dilation)
        else:
            y = tf.nn.conv2d(_pad_strided(x, self), kernel, self.stride, _padding(self), dilations=dilation)
        if bias is not None:
            y = tf.nn.bias_add(y, tf.cast(bias, x.dtype))
        return activation(y)

    def _keeps_size(self) -> bool:
        return self.stride == 1 and self.padding != "valid" and self.kernel_size % 2 == 1


class DepthwiseConv(keras.layers.Layer):
    """A convolution of every channel by itself: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]."""

    def __init__(
        self,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "symmetric",
        use_bias: bool = False,
        depthwise_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        self.padding = padding
        self.use_bias = use_bias
        self.depthwise_initializer = depthwise_initializer

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = tf.TensorShape(input_shape)[-1]
        self.depthwise_kernel = self.add_weight(
            "depthwise_kernel",
            shape=[self.kernel_size, self.kernel_size, channels, 1],
            initializer=self.depthwise_initializer,
            dtype="float32",
            experimental_autocast=False,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", shape=[channels], initializer="zeros", dtype="float32", experimental_autocast=False
            )
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        return self.convolve(x, self.depthwise_kernel, self.bias, training=training)

    def convolve(
        self,
        x: tf.Tensor,
        kernel: tf.Tensor,
        bias: tf.Tensor | None,
        activation: activations.Activation = activations.identity,
        training: bool | None = False,
    ) -> tf.Tensor:
        """This convolution with another kernel [k, k, C, 1] and bias [C]."""
        kernel = tf.cast(kernel, x.dtype)
        if training and self.stride == self.dilation == self.kernel_size % 2 == 1 and self.padding != "valid":
            y = conv_kernels.depthwise(x, kernel)
        else:
            strides = [1, self.stride, self.stride, 1]
            rates = [self.dilation] * 2
            y = tf.nn.depthwise_conv2d(_pad_strided(x, self), kernel, strides, _padding(self), None, rates)
        if bias is not None:
            y = tf.nn.bias_add(y, tf.cast(bias, x.dtype))
        return activation(y)


class ConvNormAct(keras.layers.Layer):
    """Convolution without bias -> norm -> activation (None: none). `gamma` is the norm's initial scale."""

    def __init__(
        self,
        filters: int,
        kernel_size: int = 1,
        *,
        norm: norms.Norm,
        activation: activations.OptionalActivation = None,
        stride: int = 1,
        dilation: int = 1,
        gamma: float = 1.0,
        kernel_initializer: Any = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.conv = Conv(
            filters, kernel_size, stride=stride, dilation=dilation, kernel_initializer=kernel_initializer, name="conv"
        )
        self.norm = norm(gamma=gamma, name="norm")
        self.activation = activations.get(activation)

    def build(self, input_shape: tf.TensorShape) -> None:
        build_child(self.conv, input_shape)
        build_child(self.norm, [None, None, None, self.conv.filters])
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        if training or not isinstance(self.norm, norms.BatchNorm):
            return self.activation(self.norm(self.conv(x, training=training), training=training))
        scale, offset = self.norm.affine()
        return self.conv.convolve(x, self.conv.kernel * scale, offset, self.activation)


class DepthwiseNormAct(keras.layers.Layer):
    """Depthwise convolution without bias -> norm -> activation."""

    def __init__(
        self,
        kernel_size: int,
        *,
        norm: norms.Norm,
        activation: activations.OptionalActivation = None,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "symmetric",
        depthwise_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.conv = DepthwiseConv(
            kernel_size,
            stride=stride,
            dilation=dilation,
            padding=padding,
            depthwise_initializer=depthwise_initializer,
            name="conv",
        )
        self.norm = norm(name="norm")
        self.activation = activations.get(activation)

    def build(self, input_shape: tf.TensorShape) -> None:
        build_child(self.conv, input_shape)
        build_child(self.norm, [None, None, None, tf.TensorShape(input_shape)[-1]])
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        if training or not isinstance(self.norm, norms.BatchNorm):
            return self.activation(self.norm(self.conv(x, training=training), training=training))
        scale, offset = self.norm.affine()
        return self.conv.convolve(x, self.conv.depthwise_kernel * scale[:, tf.newaxis], offset, self.activation)


class SeparableConvNormAct(keras.layers.Layer):
    """Depthwise k x k -> norm -> activation -> 1x1 -> norm -> activation: the activation follows both halves."""

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        norm: norms.Norm,
        activation: activations.OptionalActivation = None,
        stride: int = 1,
        dilation: int = 1,
        kernel_initializer: Any = "he_normal",
        depthwise_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.depthwise = DepthwiseNormAct(
            kernel_size,
            norm=norm,
            activation=activation,
            stride=stride,
            dilation=dilation,
            depthwise_initializer=depthwise_initializer,
        )
        self.pointwise = ConvNormAct(filters, norm=norm, activation=activation, kernel_initializer=kernel_initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        build_child(self.depthwise, input_shape)
        build_child(self.pointwise, input_shape)
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        return self.pointwise(self.depthwise(x, training=training), training=training)


class Dense(keras.layers.Layer):
    """x [..., C] times a kernel plus a bias: [..., filters]."""

    def __init__(
        self,
        filters: int,
        *,
        use_bias: bool = True,
        kernel_initializer: Any = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = [tf.TensorShape(input_shape)[-1], self.filters]
        self.kernel = self.add_weight(
            "kernel", shape=shape, initializer=self.kernel_initializer, dtype="float32", experimental_autocast=False
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", shape=[self.filters], initializer="zeros", dtype="float32", experimental_autocast=False
            )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return dense(x, self.kernel, self.bias, activations.identity)


class DenseNormAct(keras.layers.Layer):
    """Dense without bias -> norm -> activation, on [..., C]; DeepLab2's convolution of kernel size 1 on sequences."""

    def __init__(
        self,
        filters: int,
        *,
        norm: norms.Norm,
        activation: activations.OptionalActivation = None,
        gamma: float = 1.0,
        kernel_initializer: Any = "he_normal",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        dtype = kwargs.get("dtype")
        self.conv = Dense(filters, use_bias=False, kernel_initializer=kernel_initializer, dtype=dtype, name="conv")
        self.norm = norm(gamma=gamma, dtype=dtype, name="norm")
        self.activation = activations.get(activation)

    def build(self, input_shape: tf.TensorShape) -> None:
        rank = tf.TensorShape(input_shape).rank
        build_child(self.conv, input_shape)
        build_child(self.norm, [None] * (rank - 1) + [self.conv.filters])
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        if training or not isinstance(self.norm, norms.BatchNorm):
            return self.activation(self.norm(self.conv(x), training=training))
        scale, offset = self.norm.affine()
        return dense(x, self.conv.kernel * scale, offset, self.activation)


def _padding(layer: Conv | DepthwiseConv) -> str:
    same = layer.padding == "same" or (layer.padding == "symmetric" and layer.stride == 1)
    return "SAME" if same else "VALID"


def _pad_strided(x: tf.Tensor, layer: Conv | DepthwiseConv) -> tf.Tensor:
    total = (layer.kernel_size - 1) * layer.dilation
    if layer.padding != "symmetric" or layer.stride == 1 or total == 0:
        return x
    around = [total // 2, total - total // 2]
    return tf.pad(x, [[0, 0], around, around, [0, 0]])
