"""Time and memory of one training step: `python benchmarks/train_step.py [--quick] [--batches=1,2] [--variants=A,B]`.

kMaX-DeepLab on ResNet-50 as its COCO config trains it (134 classes, all losses, AdamW) at crop 641, `--quick` 321: in
float32, in bfloat16, with recomputation, with both, and with gradient accumulation, every one in a fresh process. The
peak is that of the resident memory during steps above what the process held before the model: weights, AdamW's slots,
gradients, features and the graph. The tiny network of configs/tiny comes first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import resource
import subprocess
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
CROP, QUICK_CROP = 641, 321

_BFLOAT16 = "trainer_options { precision: BFLOAT16 }"
_RECOMPUTE = """
model_options {
  backbone { recompute_stages: [1, 2, 3, 4, 5] }
  max_deeplab { kmax { recompute_pixel_decoder: true recompute_transformer_decoder: true recompute_heads: true } }
}
"""
# What holds most and costs least to compute again.
_RECOMPUTE_EARLY = """
model_options {
  backbone { recompute_stages: [1, 2, 3] }
  max_deeplab { kmax { recompute_heads: true } }
}
"""
_ACCUMULATION = "trainer_options { solver_options { gradient_accumulation_steps: 2 } }"
# What each variant adds to the config. Ratios are to the first. A step with accumulation takes two batches.
VARIANTS = {
    "float32": (),
    "bfloat16": (_BFLOAT16,),
    "recompute": (_RECOMPUTE,),
    "bfloat16_recompute": (_BFLOAT16, _RECOMPUTE),
    "bfloat16_recompute_early": (_BFLOAT16, _RECOMPUTE_EARLY),
    "accumulation": (_ACCUMULATION,),
    "bfloat16_recompute_accumulation": (_BFLOAT16, _RECOMPUTE, _ACCUMULATION),
}


def run(
    repeats: int = 5,
    *,
    crop: int = CROP,
    batches: tuple[int, ...] = (1, 2),
    variants: tuple[str, ...] = tuple(VARIANTS),
) -> dict:
    """Milliseconds per step (medians) and peak memory of every variant and batch size, with ratios to float32."""
    figures = {"tiny": _in_child("tiny", 0, 0, repeats)}
    for batch in batches:
        rows = {name: _in_child(name, crop, batch, repeats) for name in variants}
        first = rows.get("float32")
        for row in rows.values():
            if first:
                row["time_ratio"] = round(row["step_ms"] / first["step_ms"], 3)
                row["memory_ratio"] = round(row["peak_memory_mb"] / first["peak_memory_mb"], 3)
        figures[f"crop_{crop}_batch_{batch}"] = rows
    return figures


def measure(config: config_pb2.ExperimentOptions, repeats: int) -> dict:
    """The figures of one config in this process, on a drawn batch that stays the same."""
    batch = _batch(config)
    solver = trainer_pb2.SolverOptions()
    solver.CopyFrom(config.trainer_options.solver_options)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    before = _peak_mb()
    begin = time.perf_counter()
    with strategy.scope():
        model = architectures.build_model(config)
        model.build_variables()
        step = tf.Variable(0, dtype=tf.int64, trainable=False)
        optimizer = optimizers.build(solver, model.trainable_variables, model.backbone.trainable_variables)
    trainer = training.Trainer(
        model=model,
        loss=architectures.build_loss(config),
        optimizer=optimizer,
        solver=solver,
        dataset=tf.data.Dataset.from_tensors(batch).cache().repeat(),
        strategy=strategy,
        global_step=step,
    )
    one = tf.constant(1)
    trainer.train(one)
    first, first_peak = time.perf_counter() - begin, _peak_mb()
    _reset_peak()
    milliseconds = timing.median_ms(lambda: trainer.train(one), repeats, warm_up=1)
    return {
        "step_ms": milliseconds,
        "peak_memory_mb": round(_peak_mb() - before),
        # With what tracing and rewriting the graph take for a while.
        "first_step_peak_memory_mb": round(first_peak - before),
        "first_step_s": round(first, 2),
        "loss": float(trainer.means()["losses/train_total_loss"]),
    }


def _in_child(variant: str, crop: int, batch: int, repeats: int) -> dict:
    arguments = [f"--child={variant}", f"--crop={crop}", f"--batches={batch}", f"--repeats={repeats}"]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{variant} failed: {done.stderr.strip()[-2000:]}")
    row = json.loads(done.stdout.splitlines()[-1])
    print(f"{variant} crop {crop} batch {batch}: {row}", file=sys.stderr, flush=True)
    return row


def _config(variant: str, crop: int, batch: int) -> config_pb2.ExperimentOptions:
    if variant == "tiny":
        return configs.load(TINY)
    sizes = f"batch_size: {batch} crop_size: [{crop}, {crop}] min_resize_value: {crop} max_resize_value: {crop}"
    overrides = [f"train_dataset_options {{ {sizes} }}", *VARIANTS[variant]]
    return configs.load(FULL, overrides, variables={"INIT_CHECKPOINT": ""})


def _reset_peak() -> None:
    """Lets the peak start again at what is resident now. Only Linux can."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    """Peak of this process' resident memory."""
    try:
        # Unlike ru_maxrss this never covers the process that started this one.
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        # In kilobytes, on macOS in bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024**2 if sys.platform == "darwin" else 1024)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"crop {QUICK_CROP}")
    parser.add_argument("--crop", type=int, default=CROP)
    parser.add_argument("--batches", default="1,2")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help="internal, how this program calls itself: measure this variant here")
    options = parser.parse_args()
    batches = tuple(int(size) for size in options.batches.split(","))
    if options.child:
        print(json.dumps(measure(_config(options.child, options.crop, batches[0]), options.repeats)))
        return
    crop = QUICK_CROP if options.quick else options.crop
    print(
        json.dumps(
            run(options.repeats, crop=crop, batches=batches, variants=tuple(options.variants.split(","))), indent=1
        )
    )


if __name__ == "__main__":
    main()
