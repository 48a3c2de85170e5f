"""Times kMaX-DeepLab ResNet-50 for COCO from image to panoptic ids: `python benchmarks/prediction.py`.

Exported models, batch 1, 641x641, float32 and bfloat16; the network and the post-processing also by themselves; peak
memory of a process that predicts at 1281x1281. Weights are random, with norms that keep the signal alive; the
post-processing is timed on drawn masks, of which 20 survive as on a real picture.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from benchmarks import machine, timing
from deeplab2_kmax import config as configs
from deeplab2_kmax.data import datasets
from deeplab2_kmax.postprocess import mask_merging
from deeplab2_kmax.serving import export, network
from deeplab2_kmax.structures import MaskPrediction

CONFIG = ROOT / "configs/coco/kmax_deeplab/resnet50.textproto"
SIZE, LARGE_SIZE = 641, 1281
SLOTS, SURVIVORS = 128, 20


def run(repeats: int = 10) -> dict[str, float]:
    """Milliseconds per image (medians), megabytes."""
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        checkpoint = _checkpoint(folder / "ckpt")
        for precision in network.PRECISIONS:
            path = export.export(_config(SIZE), checkpoint, folder / precision, precision=precision).path
            results |= {f"{precision}_{key}": value for key, value in _in_child("time", path, repeats).items()}
            results[f"{precision}_network_ms"] = _network_ms(checkpoint, precision, repeats)
        results["postprocess_ms"] = _postprocess_ms(repeats)
        path = export.export(_config(LARGE_SIZE), checkpoint, folder / "large").path
        results |= {f"float32_{LARGE_SIZE}_{key}": value for key, value in _in_child("memory", path, 2).items()}
    return results


def _config(size: int):
    sizes = f"crop_size: [{size}, {size}] min_resize_value: {size} max_resize_value: {size}"
    return configs.load(CONFIG, [f"eval_dataset_options {{ {sizes} }}"], variables={"INIT_CHECKPOINT": ""})


def _checkpoint(path: pathlib.Path) -> str:
    """Random weights; the last norms of residual branches start at zero: they are moved, or most of the net is idle."""
    model = network.load_model(_config(SIZE), None)
    random = np.random.RandomState(0)
    for variable in model.variables:
        leaf = variable.name.rsplit("/", 1)[-1].split(":")[0]
        if leaf in ("gamma", "beta", "moving_mean"):
            variable.assign(0.5 * (leaf == "gamma") + 0.1 * random.standard_normal(variable.shape.as_list()))
    return tf.train.Checkpoint(model=model).write(str(path))


def _network_ms(checkpoint: str, precision: str, repeats: int) -> float:
    config = _config(SIZE)
    model = network.load_model(config, checkpoint, precision=precision)
    predict = tf.function(network.Network(model, config).predict, autograph=False)
    images = tf.constant(_image(SIZE)[np.newaxis], tf.float32)
    return timing.median_ms(lambda: predict(images)["pixel_space_mask_logits"][0, 0, 0].numpy(), repeats)


def _postprocess_ms(repeats: int) -> float:
    config = _config(SIZE)
    prediction = _prediction()
    classes = datasets.lookup("coco_panoptic").mask_classes()
    function = tf.function(mask_merging.build(config.evaluator_options, classes), autograph=False)
    return timing.median_ms(lambda: function(prediction, (SIZE, SIZE)).panoptic[0, 0, 0].numpy(), repeats)


def _prediction() -> MaskPrediction:
    """Discs over a background, each the mask of a slot with a sure class; the other slots are void."""
    random = np.random.RandomState(0)
    side = (SIZE - 1) // 4 + 1
    y, x = np.mgrid[:side, :side]
    masks = random.standard_normal((side, side, SLOTS)).astype(np.float32) - 6
    classes = random.standard_normal((SLOTS, 134)).astype(np.float32)
    classes[:, -1] += 10
    nearest = np.full((side, side), side * 0.25)
    owner = np.zeros((side, side), int)
    for slot in range(1, SURVIVORS):
        center = random.uniform(0, side, 2)
        distance = np.hypot(y - center[0], x - center[1])
        owner = np.where(distance < nearest, slot, owner)
        nearest = np.minimum(nearest, distance)
    np.put_along_axis(masks, owner[..., None], 6, axis=-1)
    classes[np.arange(SURVIVORS), random.randint(0, 133, SURVIVORS)] += 20
    return MaskPrediction(tf.constant(classes[None]), tf.constant(masks[None]), tf.zeros([0]))


def _image(size: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (size, size, 3)).astype(np.uint8)


def _in_child(what: str, path: pathlib.Path, repeats: int) -> dict[str, float]:
    """Times or measures an exported model in a process of its own, without the model in memory."""
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), what, str(path), str(repeats)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{path} does not run:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def _child(what: str, path: str, repeats: int) -> dict[str, float]:
    begin = time.perf_counter()
    function = tf.saved_model.load(path).signatures["serving_default"]
    loaded = time.perf_counter() - begin
    image = tf.constant(_image(LARGE_SIZE if what == "memory" else SIZE))
    milliseconds = timing.median_ms(lambda: function(input_tensor=image)["panoptic_pred"].numpy(), repeats)
    if what == "memory":
        return {"image_ms": milliseconds, "peak_memory_mb": round(machine.peak_megabytes())}
    return {"image_ms": milliseconds, "load_s": round(loaded, 2)}


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(_child(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
    else:
        print(json.dumps(run(), indent=1))
