"""Backbones by name: image in [-1, 1] -> Pyramid. Look names up in lower case."""

from collections.abc import Callable

from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import axial_resnet, resnet

BACKBONES: dict[str, Callable[..., keras.Model]] = {
    **resnet.VARIANTS,
    **axial_resnet.VARIANTS,
}
