"""Convolutions and dense layers, alone or followed by norm and activation.

In inference a batch norm is folded into the kernel before it, so a convolution, its norm and its activation are one
product with a bias; freezing the variables then leaves plain biased convolutions. Strided convolutions pad both sides
alike by default, as DeepLab2's ResNets do, where TensorFlow's `SAME` would move by one pixel for even sizes.
"""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, shapes
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
        elif training and _is_wide(self, x, dilation):
            y = _sum_of_taps(x, kernel, dilation)
        elif dilation > 1 and training:
            # Off oneDNN and GPU, TensorFlow has no gradient for a dilated kernel: this one goes through space-to-batch.
            y = tf.nn.convolution(_pad_strided(x, self), kernel, self.stride, _padding(self), dilations=dilation)
        else:
            y = tf.nn.conv2d(_pad_strided(x, self), kernel, self.stride, _padding(self), dilations=dilation)
        if bias is not None:
            y = tf.nn.bias_add(y, tf.cast(bias, x.dtype))
        return activation(y)


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
            y = _depthwise(x, kernel)
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


def _depthwise(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A plain depthwise convolution with an odd kernel; on processors its kernel's gradient is a convolution too.

    TensorFlow's own operation for that gradient takes five to ten times as long there, more in bfloat16.
    """
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME")

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_x = tf.nn.depthwise_conv2d_backprop_input(tf.shape(x), kernel, upstream, [1, 1, 1, 1], "SAME")
            return of_x, _correlation(x, upstream, kernel.shape[0])

        return tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME"), gradient

    return convolve(x, kernel)


def _correlation(x: tf.Tensor, y: tf.Tensor, size: int) -> tf.Tensor:
    """[size, size, C, 1]: sums of x times y over all positions, x moved by up to size // 2. Both [B, H, W, C]."""
    batch, height, width, channels = shapes.of(x)
    reach = size // 2
    # The images one below the other, so far apart that they do not meet.
    x = tf.pad(x, [[0, 0], [reach, reach], [reach, reach], [0, 0]])
    x = tf.reshape(x, [1, batch * (height + 2 * reach), width + 2 * reach, channels])
    y = tf.reshape(tf.pad(y, [[0, 0], [0, 2 * reach], [0, 0], [0, 0]]), [-1, width, channels, 1])
    y = y[: batch * (height + 2 * reach) - 2 * reach]
    return tf.reshape(tf.nn.depthwise_conv2d(x, y, [1, 1, 1, 1], "VALID"), [size, size, channels, 1])


def _is_wide(layer: Conv, x: tf.Tensor, dilation: int) -> bool:
    """Whether the dilated kernel is about as wide as the map, so that most of its taps meet little of it."""
    if dilation == 1 or layer.stride > 1 or layer.padding == "valid" or layer.kernel_size % 2 == 0:
        return False
    return None not in x.shape[1:3] and 4 * dilation >= min(x.shape[1:3])


def _sum_of_taps(x: tf.Tensor, kernel: tf.Tensor, dilation: int) -> tf.Tensor:
    """A dilated convolution of a map of known size: a product for each tap, with the part of the map that it meets."""
    size, channels, filters = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    height, width = x.shape[1:3]
    parts = []
    # Unstacked, because the gradient of a slice would be a whole kernel for each.
    for index, tap in enumerate(tf.unstack(tf.reshape(kernel, [size * size, 1, 1, channels, filters]))):
        down, right = ((place - size // 2) * dilation for place in divmod(index, size))
        if abs(down) >= height or abs(right) >= width:
            continue
        part = x[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
        part = tf.nn.conv2d(part, tap, 1, "VALID")
        around = [[max(-shift, 0), max(shift, 0)] for shift in (down, right)]
        parts.append(tf.pad(part, [[0, 0], *around, [0, 0]]))
    return tf.add_n(parts)


def _padding(layer: Conv | DepthwiseConv) -> str:
    same = layer.padding == "same" or (layer.padding == "symmetric" and layer.stride == 1)
    return "SAME" if same else "VALID"


def _pad_strided(x: tf.Tensor, layer: Conv | DepthwiseConv) -> tf.Tensor:
    total = (layer.kernel_size - 1) * layer.dilation
    if layer.padding != "symmetric" or layer.stride == 1 or total == 0:
        return x
    around = [total // 2, total - total // 2]
    return tf.pad(x, [[0, 0], around, around, [0, 0]])
