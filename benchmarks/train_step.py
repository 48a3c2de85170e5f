"""Time and memory of one training step: `python benchmarks/train_step.py [--full]`.

`--full` adds kMaX-DeepLab on ResNet-50 at 641x641, batch 1, as its COCO config trains it, in float32 and bfloat16.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from benchmarks import timing  # noqa: E402
from deeplab2_kmax import architectures  # noqa: E402
from deeplab2_kmax import config as configs  # noqa: E402
from deeplab2_kmax.data.targets import keys  # noqa: E402
from deeplab2_kmax.protos import config_pb2, trainer_pb2  # noqa: E402
from trainer import optimizers, training  # noqa: E402

TINY = ROOT / "configs" / "tiny" / "kmax_synthetic.textproto"
FULL = ROOT / "configs" / "coco" / "kmax_deeplab" / "resnet50.textproto"
NUM_INSTANCES = 15


def run(repeats: int = 5, *, full: bool = False) -> dict:
    """Milliseconds per step (median), seconds until the first step is done, and peak memory of the process.

    `loss_share` is the part of a step without network and update: targets, matching and loss terms, forward only.
    """
    figures = {"tiny": measure(configs.load(TINY), repeats)}
    if full:
        for precision in ("FLOAT32", "BFLOAT16"):
            override = f"trainer_options {{ precision: {precision} }} train_dataset_options {{ batch_size: 1 }}"
            figures[f"resnet50_641_{precision.lower()}"] = measure(configs.load(FULL, [override]), repeats)
    return figures


def measure(config: config_pb2.ExperimentOptions, repeats: int) -> dict:
    """The figures of one config, on a drawn batch that stays the same."""
    begin = time.perf_counter()
    solver = trainer_pb2.SolverOptions()
    solver.CopyFrom(config.trainer_options.solver_options)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = architectures.build_model(config)
        model.build_variables()
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
        optimizer = optimizers.build(solver, model.trainable_variables, model.backbone.trainable_variables)
    loss = architectures.build_loss(config)
    batch = _batch(config)
    trainer = training.Trainer(
        model=model,
        loss=loss,
        optimizer=optimizer,
        solver=solver,
        dataset=tf.data.Dataset.from_tensors(batch).cache().repeat(),
        strategy=strategy,
        global_step=step,
    )
    one = tf.constant(1)
    trainer.train(one)
    first = time.perf_counter() - begin
    milliseconds = timing.median_ms(lambda: trainer.train(one), repeats, warm_up=1)
    output = model(batch[keys.IMAGE], training=True)
    compute_loss = tf.function(lambda output: loss(output, batch)["total_loss"])
    loss_milliseconds = timing.median_ms(lambda: compute_loss(output).numpy(), repeats, warm_up=2)
    # ru_maxrss is in kilobytes on Linux and in bytes on macOS. It covers TensorFlow itself and earlier measurements.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "batch_size": config.train_dataset_options.batch_size,
        "crop": list(config.train_dataset_options.crop_size),
        "step_ms": milliseconds,
        "loss_ms": loss_milliseconds,
        "loss_share": round(loss_milliseconds / milliseconds, 4),
        "first_step_s": round(first, 2),
        "peak_memory_gb": round(peak / (1024**3 if sys.platform == "darwin" else 1024**2), 2),
    }


def _batch(config: config_pb2.ExperimentOptions) -> dict[str, tf.Tensor]:
    """Noise with NUM_INSTANCES square things in a scene of two stuff regions."""
    dataset = architectures.dataset_of(config)
    options = config.train_dataset_options
    size, (height, width) = options.batch_size, options.crop_size
    classes = dataset.mask_classes()
    random = np.random.default_rng(0)
    semantic = np.full([size, height, width], classes.stuff_ids[0], np.int32)
    semantic[:, height // 2 :] = classes.stuff_ids[1]
    things = np.full([size, height, width], -1, np.int32)
    thing_classes = np.full([size, options.max_thing_id], -1.0, np.float32)
    side = max(4, height // 8)
    for image in range(size):
        for index in range(NUM_INSTANCES):
            top, left = random.integers(0, height - side), random.integers(0, width - side)
            class_id = classes.thing_ids[index % len(classes.thing_ids)]
            semantic[image, top : top + side, left : left + side] = class_id
            things[image, top : top + side, left : left + side] = index
            thing_classes[image, index] = class_id
    return {
        keys.IMAGE: tf.constant(random.uniform(0, 255, [size, height, width, 3]).astype(np.float32)),
        keys.SEMANTIC: tf.constant(semantic),
        keys.SEMANTIC_WEIGHT: tf.ones([size, height, width]),
        keys.THING_ID_MASK: tf.constant(things),
        keys.THING_ID_CLASS: tf.constant(thing_classes),
    }


if __name__ == "__main__":
    print(json.dumps(run(full="--full" in sys.argv[1:]), indent=1))
