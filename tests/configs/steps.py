"""One training and one evaluation step of shipped configs, as they are but for a tiny crop, on procedural scenes.

`python -m tests.configs.steps`, run in the checkout, does it for all of them, each in a process of its own, and writes
docs/models.md; `--add` does it for those that the page lacks. Configs that differ in nothing that matters here, such
as the length of their schedules, are run once. All take about an hour on two cores and up to 16 GB of memory.
"""

from __future__ import annotations

import concurrent.futures
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

import deeplab2_kmax as dk
from deeplab2_kmax import architectures
from deeplab2_kmax import config as configs
from deeplab2_kmax._keras import keras
from deeplab2_kmax.data import datasets, pipeline, records
from deeplab2_kmax.data.convert import synthetic, synthetic_scene
from tests.configs import resolved
from trainer import eval_metrics, evaluating, training
from trainer import state as states

PAGE = resolved.ROOT / "docs/models.md"
CROP = (65, 97)
_SCENES = 2
_MODULE = "tests.configs.steps"

_INTRODUCTION = """# Shipped configs

Every config under `configs/`, built as it is and run for one training step and one evaluation step on procedural scenes
whose classes stand for the first ones of its data set, at a crop of {height}x{width} with random weights. *Parameters*
are those that are trained, *without the semantic branch* leaves out what only helps training. *Loss* and *gradient* are
the total loss and the norm of its gradient in that step: figures that only show that all parts work together; configs
that differ in their schedules or image sizes alone share one run. Published results stand in the head of each file.

The gradients of ConvNeXt are this large in the first step from random weights alone: padding is 0 and so are its first
biases, where three layer norms in a row divide by the root of their epsilon, 0.001 each.

Written by `python -m tests.configs.steps` with TensorFlow {tensorflow}.

| config | parameters | without the semantic branch | loss, training | gradient | loss, evaluation |
| --- | ---: | ---: | ---: | ---: | ---: |
"""


class Result(NamedTuple):
    """What the two steps gave."""

    parameters: int
    semantic_branch: int
    train_loss: float
    gradient_norm: float
    eval_loss: float
    quality: float  # PQ, or the mean IoU of a model that tells classes alone


def step(name: str) -> Result:
    """Runs one training and one evaluation step of the config `name`, a path below configs/ without suffix."""
    with tempfile.TemporaryDirectory() as folder:
        return _step(name, pathlib.Path(folder))


def _step(name: str, folder: pathlib.Path) -> Result:
    config = _tiny(dk.load_config(resolved.CONFIGS / f"{name}.textproto"), folder)
    dataset = architectures.dataset_of(config)
    write_scenes(folder / "scenes.tfrecord", dataset)
    configs.check(config, "train_and_eval")
    architecture = architectures.of(config)
    solver = config.trainer_options.solver_options
    strategy = tf.distribute.get_strategy()
    keras.utils.set_random_seed(0)
    state = states.make(config, strategy, folder / "run", trains=True)
    before = [tf.identity(variable) for variable in state.model.trainable_variables]

    def data(options: Any, training: bool) -> tf.data.Dataset:
        batches = pipeline.build_dataset(options, dataset=dataset, training=training, targets=architecture.targets)
        if training:
            batches = batches.map(lambda batch: {k: v for k, v in batch.items() if v.dtype != tf.string})
        return batches

    trainer = training.Trainer(
        model=state.model,
        loss=architectures.build_loss(config),
        optimizer=state.optimizer,
        solver=solver,
        dataset=data(config.train_dataset_options, True),
        strategy=strategy,
        global_step=state.global_step,
        averages=state.averages,
        backbone=states.backbone_variables(state.model),
        seed=0,
        sample_ids=lambda step: iter(()),
    )
    trained = {key: float(value) for key, value in trainer.train(tf.constant(1)).items()}
    changed = [bool(tf.reduce_any(old != new)) for old, new in zip(before, state.model.trainable_variables)]
    if not any(changed):
        raise AssertionError(f"{name}: the step changed no variable.")
    evaluator = evaluating.Evaluator(
        model=state.model,
        loss=architectures.build_loss(config),
        metrics=eval_metrics.make(architecture.tasks, dataset, config.evaluator_options),
        data=data(config.eval_dataset_options, False),
        dataset=dataset,
        options=config.evaluator_options,
        strategy=strategy,
        global_step=state.global_step,
        folder=folder / "run",
    )
    evaluated = evaluator.evaluate(tf.constant(1))
    branch = [getattr(state.model, part, None) for part in ("semantic_decoder", "semantic_head")]
    return Result(
        parameters=_count(state.model.trainable_variables),
        semantic_branch=sum(_count(part.trainable_variables) for part in branch if part is not None),
        train_loss=trained["losses/train_total_loss"],
        gradient_norm=trained["gradient_norm"],
        eval_loss=float(evaluated["losses/eval_total_loss"]),
        quality=float(evaluated["evaluation/pq/PQ" if "panoptic" in architecture.tasks else "evaluation/iou/IoU"]),
    )


def _count(variables: Any) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _tiny(config: Any, folder: pathlib.Path) -> Any:
    """The config on one small record, without files that users have to bring."""
    config.experiment_name = "step"
    config.ClearField("base")
    config.model_options.ClearField("initial_checkpoint")
    config.model_options.backbone.ClearField("pretrained_weights")
    for options in (config.train_dataset_options, config.eval_dataset_options):
        options.file_pattern[:] = [str(folder / "scenes.tfrecord")]
        options.crop_size[:] = CROP
        if any(options.min_resize_value):  # [0]: no resizing
            options.min_resize_value[:] = CROP
            options.max_resize_value[:] = CROP
        options.batch_size = 1
    solver = config.trainer_options.solver_options
    # The first step of a warm-up has learning rate 0.
    solver.warmup_steps = 0
    solver.training_number_of_steps = 2
    config.evaluator_options.save_predictions = False
    config.evaluator_options.save_raw_predictions = False
    return config


def write_scenes(path: pathlib.Path, dataset: datasets.Dataset) -> None:
    """Records of procedural scenes; their n-th thing and stuff class become those of the data set."""
    scenes = datasets.lookup("synthetic_panoptic")
    ids = np.full(256, dataset.ignore_label, np.int32)
    for theirs, ours in ((scenes.thing_ids, dataset.thing_ids), (scenes.stuff_ids, dataset.stuff_ids)):
        ids[list(theirs[: len(ours)])] = ours[: len(theirs)]

    def relabelled(label: np.ndarray) -> np.ndarray:
        classes, instances = np.divmod(label, scenes.label_divisor)
        return (ids[classes] * dataset.label_divisor + instances).astype(np.int32)

    with tf.io.TFRecordWriter(str(path)) as writer:
        for seed in range(_SCENES):
            scene = synthetic_scene.Scene(seed, height=CROP[0], width=CROP[1])
            image, label, depth = scene.render()
            more: dict[str, Any] = {}
            if dataset.is_video:
                # What comes before is what comes after: time matters to no step.
                other, other_label, _ = scene.render(1 / synthetic_scene.FRAMES_PER_SECOND)
                more = {"sequence_id": "scenes", "frame_id": f"{seed:06d}"}
                for frame in ("prev", "next"):
                    more.update({f"{frame}_image": _png(other), f"{frame}_label": relabelled(other_label)})
            if dataset.has_depth:
                more["depth"] = np.rint(depth * synthetic.DEPTH_SCALE).astype(np.int32)
            writer.write(records.encode_example(_png(image), relabelled(label), filename=f"{seed}.png", **more))


def _png(image: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, format="PNG")
    return encoded.getvalue()


def groups() -> dict[str, list[str]]:
    """The shipped configs in groups that are the same in these steps: they differ in schedules alone, for example."""
    found: dict[str, list[str]] = {}
    for name in resolved.shipped():
        config = dk.load_config(resolved.CONFIGS / f"{name}.textproto")
        found.setdefault(configs.to_text(_tiny(config, pathlib.Path())), []).append(name)
    return {names[0]: names for names in found.values()}


def step_apart(name: str) -> Result:
    """`step` in a process of its own, whose memory goes with it. `RuntimeError` with its last line where it fails."""
    process = subprocess.run([sys.executable, "-m", _MODULE, name], cwd=resolved.ROOT, capture_output=True, text=True)
    if process.returncode:
        told = process.stderr.strip().splitlines() or [f"ended with {process.returncode}"]
        raise RuntimeError(f"{name}: {told[-1]}")
    return Result(**json.loads(process.stdout.splitlines()[-1]))


def _line(name: str) -> str | None:
    """The row of the table; None and a message where it fails."""
    try:
        result = step_apart(name)
    except RuntimeError as error:
        print(error, flush=True)
        return None
    line = (
        f"{result.parameters:,} | {result.parameters - result.semantic_branch:,} | {result.train_loss:.2f} "
        f"| {result.gradient_norm:.2g} | {result.eval_loss:.2f} |"
    )
    print(f"| `{name}` | {line}", flush=True)
    return line


def _write(rows: Mapping[str, str]) -> None:
    page = _INTRODUCTION.format(height=CROP[0], width=CROP[1], tensorflow=tf.__version__)
    PAGE.write_text(page + "".join(f"| `{name}` | {rows[name]}\n" for name in sorted(rows)))


def main() -> None:
    """With a name: prints that config's result as JSON. Without: all of them, two at a time, each row to the page.

    With `--add`: those alone that the page lacks. Either way rows stay until there is a newer one, so that `--add`
    goes on where a run was interrupted.
    """
    add = sys.argv[1:] == ["--add"]
    if len(sys.argv) > 1 and not add:
        print(json.dumps(step(sys.argv[1])._asdict()))
        return
    same = groups()
    shipped = {name for names in same.values() for name in names}
    written = dict(re.findall(r"^\| `(.+?)` \| (.+)$", PAGE.read_text(), re.MULTILINE))
    rows = {name: line for name, line in written.items() if name in shipped}
    wanted = [first for first, names in same.items() if not (add and rows.keys() >= set(names))]
    failed = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for first, line in zip(wanted, pool.map(_line, wanted)):
            if line is None:
                failed.append(first)
            else:
                rows.update(dict.fromkeys(same[first], line))
                _write(rows)
    _write(rows)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. Their rows in {PAGE} stay as they were.")


if __name__ == "__main__":
    main()
