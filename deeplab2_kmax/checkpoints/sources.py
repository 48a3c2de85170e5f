"""Where weights of backbones come from: the table of formats, each with its names, its input and what differs.

This library's backbones see x / 127.5 - 1. A format trained on another normalisation says so here, and the difference
is folded into the first convolution; batch norms of another epsilon have theirs folded into their scales.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from deeplab2_kmax import registry
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import convnext, efficientnet_lite, moat, mobilenet_v2, mobilenet_v3, resnet
from deeplab2_kmax.checkpoints import name_maps
from deeplab2_kmax.checkpoints.name_maps import efficientnet_lite as lite_names
from deeplab2_kmax.checkpoints.name_maps import hugging_face, keras_applications, timm, torch_layers, torchvision


class Normalization(NamedTuple):
    """What a network sees of values 0..255, by channel: (x - mean) / scale."""

    name: str
    mean: tuple[float, float, float]  # red, green, blue
    scale: tuple[float, float, float]
    reversed: bool = False  # whether blue is the first channel

    def fold(self, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A kernel [k, k, 3, C] for this input -> the kernel for x / 127.5 - 1, and what to add to its result [C].

        Exact but where the convolution pads: zero is another colour in another normalisation.
        """
        kernel = kernel.astype(np.float64)
        if self.reversed:
            kernel = kernel[:, :, ::-1]
        slope = 127.5 / np.array(self.scale)
        offset = (127.5 - np.array(self.mean)) / np.array(self.scale)
        return kernel * slope[:, np.newaxis], np.einsum("hwic,i->c", kernel, offset)


SYMMETRIC = Normalization("x / 127.5 - 1", (127.5,) * 3, (127.5,) * 3)
IMAGENET = Normalization(
    "ImageNet's mean and standard deviation",
    (255 * 0.485, 255 * 0.456, 255 * 0.406),
    (255 * 0.229, 255 * 0.224, 255 * 0.225),
)
CAFFE = Normalization("ImageNet's mean, blue first, not scaled", (123.68, 116.779, 103.939), (1.0,) * 3, reversed=True)

_NO_POOLING = "there is no max pooling, the first block of stage 2 strides instead"
_KERAS_RESNET = f"{_NO_POOLING}, and stages 3 to 5 stride in a 3x3 convolution, Keras's in the 1x1 before it"
_SAME_PADDING = (
    "It was trained on TensorFlow's SAME padding, which is ours for sides 32 k + 1; for even sides our grid lies one "
    "pixel further to the upper left."
)


class Source(NamedTuple):
    """One library's weights of one family."""

    format: str
    family: type[keras.Model]
    table: Mapping[str, str]  # our paths -> their names
    ignored: tuple[str, ...]  # patterns of what a backbone has no use for: the classifier, counters
    normalization: Normalization = SYMMETRIC
    epsilon: float | None = None  # of its batch norms
    biases: Mapping[str, str] = {}  # our moving means -> biases of the convolutions before
    channels_first: bool = True
    gate: str = ""  # of squeeze-and-excite
    differs: str = ""  # why it is another function here
    note: str = ""

    def names(self, paths: Iterable[str]) -> dict[str, str | None]:
        """Their name of each of our paths."""
        return name_maps.NameMap(self.table).names(paths)

    def ignores(self, name: str) -> bool:
        """Whether a backbone has no use for the tensor."""
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)


_ResNet, _ConvNeXt = resnet.ResNet, convnext.ConvNeXt
_MobileNetV2, _MobileNetV3 = mobilenet_v2.MobileNetV2, mobilenet_v3.MobileNetV3

_COUNTER = torch_layers.COUNTER
_CLASSIFIER = (r"classifier\..*", _COUNTER)
_torch = functools.partial(Source, normalization=IMAGENET)
_torch_resnet = functools.partial(_torch, family=_ResNet, epsilon=1e-5, differs=_NO_POOLING)
_torchvision_v3 = functools.partial(
    _torch, "torchvision", _MobileNetV3, ignored=_CLASSIFIER, epsilon=1e-3, gate="hard_sigmoid"
)
_TORCHVISION = (
    _torch_resnet("torchvision", table=torchvision.RESNET, ignored=(r"fc\..*", _COUNTER)),
    _torch("torchvision", _ConvNeXt, torchvision.CONVNEXT, _CLASSIFIER),
    _torch("torchvision", _MobileNetV2, torchvision.MOBILENET_V2, (r"features\.18\..*", *_CLASSIFIER), epsilon=1e-5),
    _torchvision_v3(table=torchvision.MOBILENET_V3_SMALL),
    _torchvision_v3(table=torchvision.MOBILENET_V3_LARGE),
)

_TIMM_HEAD = (r"conv_head\..*", *_CLASSIFIER)
_timm_v3 = functools.partial(_torch, "timm", _MobileNetV3, ignored=_TIMM_HEAD, epsilon=1e-5, gate="hard_sigmoid")
# Models whose names begin with tf_ have the same variables, trained by TensorFlow.
_timm_tf_v3 = functools.partial(
    Source, "timm_tf", _MobileNetV3, ignored=_TIMM_HEAD, epsilon=1e-3, gate="hard_sigmoid", note=_SAME_PADDING
)
_TIMM = (
    _torch_resnet("timm", table=torchvision.RESNET, ignored=(r"fc\..*", _COUNTER)),
    _torch("timm", _ConvNeXt, timm.CONVNEXT, (r"head\..*",)),
    _torch("timm", _MobileNetV2, timm.MOBILENET_V2, (r"bn2\..*", *_TIMM_HEAD), epsilon=1e-5),
    _timm_v3(table=timm.MOBILENET_V3_SMALL),
    _timm_v3(table=timm.MOBILENET_V3_LARGE),
    _timm_tf_v3(table=timm.MOBILENET_V3_SMALL),
    _timm_tf_v3(table=timm.MOBILENET_V3_LARGE),
)

_HUGGING_FACE = (
    _torch_resnet("hugging_face", table=hugging_face.RESNET, ignored=_CLASSIFIER),
    _torch("hugging_face", _ConvNeXt, hugging_face.CONVNEXT, (r"convnext\.layernorm\..*", *_CLASSIFIER)),
    Source(
        "hugging_face",
        _MobileNetV2,
        hugging_face.MOBILENET_V2,
        (r"mobilenet_v2\.conv_1x1\..*", *_CLASSIFIER),
        epsilon=1e-3,
        note=_SAME_PADDING,
    ),
)

_keras = functools.partial(Source, "keras_applications", channels_first=False)
_keras_v3 = functools.partial(
    _keras, _MobileNetV3, ignored=("conv_2/.*", "logits/.*"), epsilon=1e-3, gate="hard_sigmoid", note=_SAME_PADDING
)
_KERAS_APPLICATIONS = (
    _keras(
        _ResNet,
        keras_applications.RESNET,
        ("predictions/.*",),
        CAFFE,
        epsilon=1.001e-5,
        biases=keras_applications.RESNET_BIASES,
        differs=_KERAS_RESNET,
    ),
    *(
        _keras(
            _ConvNeXt,
            keras_applications.convnext(name),
            (f"{name}_head_.*", f"{name}_prestem_normalization/.*", r"layer_normalization(_\d+)?/.*"),
            IMAGENET,
        )
        for name in (f"convnext_{size}" for size in ("tiny", "small", "base", "large", "xlarge"))
    ),
    _keras(
        _MobileNetV2,
        keras_applications.MOBILENET_V2,
        ("conv_1/.*", "conv_1_bn/.*", "predictions/.*"),
        epsilon=1e-3,
        note=_SAME_PADDING,
    ),
    _keras_v3(table=keras_applications.MOBILENET_V3_SMALL),
    _keras_v3(table=keras_applications.MOBILENET_V3_LARGE),
)

SOURCES: tuple[Source, ...] = (
    *_TORCHVISION,
    *_TIMM,
    *_HUGGING_FACE,
    *_KERAS_APPLICATIONS,
    # The backbone itself brings its normalisation about, and the epsilon is ours.
    Source(
        "efficientnet_lite",
        efficientnet_lite.EfficientNetLite,
        lite_names.TABLE,
        (*lite_names.CLASSIFIER, _COUNTER),
    ),
)

# Where the first convolution lies in our backbones, and what takes a constant behind it.
FIRST_CONVOLUTIONS = (
    ("stem/conv/kernel", "stem/norm/moving_mean"),
    ("stem/conv1/conv/kernel", "stem/conv1/norm/moving_mean"),
    ("stem/conv1/kernel", "stem/conv1/bias"),
    ("patchify/conv/kernel", "patchify/conv/bias"),
    ("blocks/0/conv/kernel", "blocks/0/norm/moving_mean"),
)


def of_checkpoint(backbone: keras.Model) -> Normalization:
    """What the published ImageNet checkpoints with DeepLab2's names were trained on."""
    name = backbone.name.removeprefix("kmax_")
    imagenet = isinstance(backbone, convnext.ConvNeXt) or (
        isinstance(backbone, moat.Moat) and name.startswith(("moat0", "moat1", "tiny_moat"))
    )
    return IMAGENET if imagenet else SYMMETRIC


def choose(backbone: keras.Model, paths: Collection[str], stored: Collection[str], wanted: str, path: str) -> Source:
    """The row of SOURCES that names most of a file's tensors; with `wanted` only that format's.

    Raises:
        ValueError: there is none for the backbone, or none that knows any of the names.
    """
    family = [source for source in SOURCES if isinstance(backbone, source.family)]
    if wanted:
        formats = {source.format: source for source in SOURCES}
        registry.lookup(formats, wanted, "pretrained_format")
        family = [source for source in family if source.format == wanted]
    if not family:
        kind = f" of the format {wanted}" if wanted else ""
        raise ValueError(
            f"{path}: no weights{kind} are known for the backbone {backbone.name}. Use a checkpoint of DeepLab2 or of "
            "this library."
        )
    hits = [(len(set(source.names(paths).values()) & set(stored)), source) for source in family]
    most, best = max(hits, key=lambda hit: hit[0])
    if not most:
        formats_known = ", ".join(sorted({source.format for source in family}))
        raise ValueError(
            f"{path} has none of the names that weights of {backbone.name} have, of the formats {formats_known}. It "
            f"begins with {', '.join(sorted(stored)[:3])}."
        )
    return best
