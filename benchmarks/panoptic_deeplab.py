"""Times Panoptic-DeepLab at 1025x2049 from image to panoptic ids: `python benchmarks/panoptic_deeplab.py`.

ResNet-50 and MobileNetV3-L with the shipped Cityscapes configs, batch 1, float32 and bfloat16: the network (image to
maps at stride 4), what follows (resizing, centres, grouping, merging), and both in one function. Weights are random;
what follows works on drawn maps: things, 50 or 200 of them, cover 40 % of the image.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from benchmarks import timing
from deeplab2_kmax import config as configs
from deeplab2_kmax.models import deeplab
from deeplab2_kmax.serving import network

MODELS = ("resnet50", "mobilenet_v3_large")
CONFIGS = ROOT / "configs/cityscapes/panoptic_deeplab"
SIZE, STRIDE = (1025, 2049), 4
INSTANCES = (50, 200)
SHARE_OF_THINGS = 0.4
THINGS, STUFF, CLASSES = range(11, 19), range(11), 19

Maps = dict[str, tf.Tensor]


def run(repeats: int = 10) -> dict[str, dict[str, float]]:
    """Medians in milliseconds by model and precision; `share` is what follows the network, of the two together."""
    return {
        f"{model}_{precision}": measure(model, precision, repeats)
        for model in MODELS
        for precision in network.PRECISIONS
    }


def measure(model: str, precision: str, repeats: int, *, size: tuple[int, int] = SIZE) -> dict[str, float]:
    """The figures of one model."""
    config = _config(model, size)
    built = network.load_model(config, None, precision=precision)
    postprocess = built.postprocess
    net = network.Network(built, config)
    predict = tf.function(net.predict, autograph=False)
    follow = tf.function(lambda maps: _ids(maps, size, postprocess), autograph=False)

    def everything(images: tf.Tensor, maps: Maps, nothing: tf.Tensor) -> tf.Tensor:
        # The drawn maps must wait for the network.
        seen = net.predict(images)
        return _ids({name: maps[name] + nothing * seen[name] for name in maps}, size, postprocess)

    whole = tf.function(everything, autograph=False)
    images = tf.constant(np.random.RandomState(0).randint(0, 256, (1, *size, 3)), tf.float32)
    figures = {"network_ms": timing.median_ms(lambda: predict(images)[deeplab.OFFSETS][0, 0, 0, 0].numpy(), repeats)}
    for count in INSTANCES:
        maps = scene(count, size)
        after = timing.median_ms(lambda: follow(maps)[0, 0, 0].numpy(), repeats)  # noqa: B023
        total = timing.median_ms(lambda: whole(images, maps, tf.zeros([]))[0, 0, 0].numpy(), repeats)  # noqa: B023
        figures |= {
            f"postprocess_{count}_ms": after,
            f"image_{count}_ms": total,
            f"share_{count}": round(after / (after + figures["network_ms"]), 4),
        }
    return figures


def scene(count: int, size: tuple[int, int] = SIZE) -> Maps:
    """What a good network would say of `count` things below and stuff in upright stripes above, with some noise.

    Things are the cells around random points; their maps have stride 4, offsets are in pixels of it.
    """
    random = np.random.RandomState(0)
    height, width = ((side - 1) // STRIDE + 1 for side in size)
    top = round((1 - SHARE_OF_THINGS) * height)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    points = np.stack([random.uniform(top, height, count), random.uniform(0, width, count)], axis=-1)
    owner = np.full((height, width), -1)
    nearest = np.full((height - top, width), np.inf)
    for number, (row, column) in enumerate(points):
        distance = np.hypot(y[top:] - row, x[top:] - column)
        owner[top:] = np.where(distance < nearest, number, owner[top:])
        nearest = np.minimum(nearest, distance)
    heatmap, offsets = np.zeros((height, width), np.float32), np.zeros((height, width, 2), np.float32)
    classes = (x * len(STUFF) / width).astype(int)
    for number in range(count):
        mask = owner == number
        if not mask.any():
            continue
        center = y[mask].mean(), x[mask].mean()
        # DeepLab2's Gaussian, of 8 pixels of the image.
        gaussian = np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / (2 * (8 / STRIDE) ** 2))
        heatmap = np.maximum(heatmap, random.uniform(0.3, 1) * gaussian)
        offsets[mask] = np.stack([center[0] - y[mask], center[1] - x[mask]], axis=-1)
        classes[mask] = THINGS[number % len(THINGS)]
    offsets += random.standard_normal(offsets.shape).astype(np.float32)
    logits = random.standard_normal((height, width, CLASSES)).astype(np.float32)
    np.put_along_axis(logits, classes[..., np.newaxis], 8, axis=-1)
    maps = {deeplab.LOGITS: logits, deeplab.HEATMAP: heatmap[..., np.newaxis], deeplab.OFFSETS: offsets}
    return {name: tf.constant(values[np.newaxis]) for name, values in maps.items()}


def _ids(maps: Maps, size: tuple[int, int], postprocess: Callable[..., Any]) -> tf.Tensor:
    return deeplab.finish(maps, size, postprocess).maps.panoptic


def _config(model: str, size: tuple[int, int]) -> Any:
    sides = f"crop_size: [{size[0]}, {size[1]}] min_resize_value: [{size[0]}, {size[1]}]"
    override = f"eval_dataset_options {{ {sides} max_resize_value: [{size[0]}, {size[1]}] }}"
    return configs.load(CONFIGS / f"{model}.textproto", [override], variables={"INIT_CHECKPOINT": ""})


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
