"""deeplab2_kmax: kMaX-DeepLab and the DeepLab family in TensorFlow 2, from a textproto to a served model.

    import deeplab2_kmax as dk

    config = dk.load_config("configs/coco/kmax_deeplab/resnet50.textproto")
    model = dk.build_model(config)
    dk.load_deeplab2_checkpoint(model, "path/to/ckpt")
    out = model(images, training=False)
    result = dk.Predictor("exported_model")("street.jpg")

Public names are loaded when first used, so that the import costs little more than TensorFlow's own.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from deeplab2_kmax.architectures import build_backbone, build_loss, build_model
    from deeplab2_kmax.checkpoints.pretrained import load_pretrained
    from deeplab2_kmax.checkpoints.restore import load_deeplab2_checkpoint
    from deeplab2_kmax.checkpoints.restore import load_initial as load_initial_checkpoint
    from deeplab2_kmax.config import load as load_config
    from deeplab2_kmax.models.outputs import deeplab2_outputs
    from deeplab2_kmax.serving.predictor import Predictor
    from deeplab2_kmax.serving.video import VideoPredictor
    from deeplab2_kmax.structures import DeepLabOutput, MaskPrediction, MaskTransformerOutput, PanopticMaps, Pyramid

_PUBLIC = {  # name: (module, name there)
    "build_backbone": ("architectures", "build_backbone"),
    "build_loss": ("architectures", "build_loss"),
    "build_model": ("architectures", "build_model"),
    "deeplab2_outputs": ("models.outputs", "deeplab2_outputs"),
    "load_config": ("config", "load"),
    "load_deeplab2_checkpoint": ("checkpoints.restore", "load_deeplab2_checkpoint"),
    "load_initial_checkpoint": ("checkpoints.restore", "load_initial"),
    "load_pretrained": ("checkpoints.pretrained", "load_pretrained"),
    "DeepLabOutput": ("structures", "DeepLabOutput"),
    "MaskPrediction": ("structures", "MaskPrediction"),
    "MaskTransformerOutput": ("structures", "MaskTransformerOutput"),
    "PanopticMaps": ("structures", "PanopticMaps"),
    "Predictor": ("serving.predictor", "Predictor"),
    "Pyramid": ("structures", "Pyramid"),
    "VideoPredictor": ("serving.video", "VideoPredictor"),
}

__all__ = [
    "DeepLabOutput",
    "MaskPrediction",
    "MaskTransformerOutput",
    "PanopticMaps",
    "Predictor",
    "Pyramid",
    "VideoPredictor",
    "build_backbone",
    "build_loss",
    "build_model",
    "deeplab2_outputs",
    "load_config",
    "load_deeplab2_checkpoint",
    "load_initial_checkpoint",
    "load_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
