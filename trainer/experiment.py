"""One run: strategy, data, model, checkpoints, and the loop that the mode asks for."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import tempfile
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

from deeplab2_kmax import architectures
from deeplab2_kmax import config as configs
from deeplab2_kmax._keras import keras
from deeplab2_kmax.data import datasets, pipeline, record_index
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.protos import config_pb2, dataset_pb2, trainer_pb2
from trainer import (
    best,
    checkpointing,
    controller,
    distribution,
    eval_metrics,
    evaluating,
    interrupts,
    progress,
    summaries,
    training,
)
from trainer import state as states

MODES = ("train", "eval", "train_and_eval", "continuous_eval")
_ASSERTION = "assertion failed:"  # of a record, met in the middle of training: the message names file and record


def run(
    config: config_pb2.ExperimentOptions,
    mode: str,
    model_dir: str | pathlib.Path,
    *,
    num_gpus: int = 0,
    master: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, float]:
    """Trains or evaluates a resolved config; everything goes to `<model_dir>/<experiment_name>`.

    Args:
        config: as `deeplab2_kmax.load_config` returns it.
        mode: one of MODES.
        model_dir: base folder.
        num_gpus: see `distribution.create`.
        master: likewise.
        strategy: takes the place of the two.

    Returns:
        The values of the last evaluation; empty where there was none.

    Raises:
        ValueError: config, data or checkpoints are not as they must be; nothing has been changed then. Or, while it
            runs, a record that does not fit: its file and number are named, and checkpoints stay.
        training.NonFiniteLoss: a step was not finite.
        interrupts.Stopped: SIGINT or SIGTERM in training; the state is saved.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}.")
    strategy = strategy or distribution.create(num_gpus=num_gpus, master=master)
    for warning in configs.check(config, mode, num_replicas=strategy.num_replicas_in_sync):
        logging.warning("%s", warning)
    folder = pathlib.Path(model_dir) / config.experiment_name
    differences = checkpointing.check_config(config, folder)
    _seed(config.trainer_options)
    trains = mode.startswith("train")
    if trains and distribution.is_chief() and folder.exists():
        checkpointing.clean(folder)
    state = states.make(config, strategy, folder, trains=trains)
    with contextlib.ExitStack() as stack:
        run_ = _Run(config, mode, folder, strategy, state, stack)
        run_.announce(differences)
        try:
            return run_.go()
        except tf.errors.InvalidArgumentError as error:
            if _ASSERTION not in error.message:
                raise
            raise ValueError(_asserted(error.message)) from error


class _Run:
    """The parts of a run, and the loop of each mode."""

    def __init__(self, config, mode, folder, strategy, state: states.State, stack: contextlib.ExitStack):
        self.config, self.mode, self.folder, self.strategy, self.state = config, mode, folder, strategy, state
        self.trains, self.evaluates = mode.startswith("train"), "eval" in mode
        self.options = config.trainer_options
        self.chief = distribution.is_chief()
        self.dataset = architectures.dataset_of(config)
        self.trainer = self._make_trainer() if self.trains else None
        self.stops = interrupts.Interrupts(self.trainer.stop if self.trainer is not None else lambda: None)
        self.evaluator = self._make_evaluator() if self.evaluates else None
        batch = config.train_dataset_options.batch_size * self._accumulation
        self.show = progress.Progress(
            total=self._total, images_per_step=batch, read=self._read, quiet=not self.chief, follow=self.trains
        )
        self.checkpoint = states.checkpoint(state)
        self.manager = self._make_manager(stack) if self.trains else None
        best_checkpoint = self._make_best(stack)
        if self.trains and self.chief:
            checkpointing.write_config(config, folder)
        self.controller = controller.Controller(
            show=self.show,
            metrics_file=summaries.MetricsFile(folder / "metrics.jsonl") if self.chief else None,
            stops=self.stops,
            steps_per_loop=self.options.steps_per_loop if self.trains else None,
            pictures=self._make_pictures() if mode == "train" and self.chief else None,
            pictures_interval=self.options.save_summaries_steps,
            best=best_checkpoint,
            strategy=strategy,
            trainer=self.trainer,
            evaluator=self.evaluator,
            global_step=state.global_step,
            checkpoint_manager=self.manager,
            summary_dir=str(folder / "train") if self.chief and self.trains else None,
            eval_summary_dir=str(folder / "eval") if self.chief else None,
        )
        stack.enter_context(self.stops)
        stack.enter_context(self.show)

    def announce(self, differences: list[str]) -> None:
        """The first lines of the log: what happens here."""
        say = self.show.say
        config, solver = self.config, self.options.solver_options
        model = self.state.model
        count = sum(int(tf.size(variable)) for variable in model.variables)
        trained = sum(int(tf.size(variable)) for variable in model.trainable_variables)
        say(f"mode        {self.mode}, folder {self.folder}")
        name, backbone = architectures.name_of(config.model_options), config.model_options.backbone.name
        precision = trainer_pb2.TrainerOptions.Precision.Name(self.options.precision).lower()
        say(
            f"model       {name}, backbone {backbone}, {count / 1e6:.2f} M parameters "
            f"({trained / 1e6:.2f} M trained), {precision}"
        )
        if self.trains:
            data = config.train_dataset_options
            records = num_records(data)
            images = data.batch_size * self._accumulation
            accumulated = f" x {self._accumulation} accumulated" if self._accumulation > 1 else ""
            say(
                f"training    {data.dataset}, {records} records, crop {'x'.join(map(str, data.crop_size))}, "
                f"batch {data.batch_size}{accumulated}"
            )
            say(
                f"steps       {int(self.state.global_step.numpy())} to {self._total} "
                f"({self._total * images / max(records, 1):.1f} epochs), {solver.optimizer}, learning rate "
                f"{solver.base_learning_rate:.3g} ({solver.learning_policy}, warm-up {solver.warmup_steps})"
            )
        if self.evaluates:
            data = config.eval_dataset_options
            say(f"evaluation  {data.dataset}, {num_records(data)} records, crop {'x'.join(map(str, data.crop_size))}")
            if self.trains and data.dataset != config.train_dataset_options.dataset:
                logging.warning("Training and evaluation use different data sets.")
        say(f"devices     {distribution.describe(self.strategy)}")
        for line, mark in zip(self.state.origin.splitlines(), itertools.chain(["start       "], itertools.repeat(""))):
            say(f"{mark}{line}")
        for difference in differences[:10] if self.trains else ():
            say(f"changed since the last run: {difference}")

    def go(self) -> dict[str, float]:
        """Runs the mode."""
        steps = self.config.evaluator_options.eval_steps
        if self.trains:
            self.controller.save_checkpoint()
        if self.mode == "train":
            self.controller.train(self._total)
            return {}
        if self.mode == "train_and_eval":
            interval = self.config.evaluator_options.eval_interval
            return self.controller.train_and_evaluate(self._total, steps, interval) or {}
        if self.mode == "eval":
            return self.controller.evaluate(steps)
        return self._evaluate_continuously(steps)

    def _evaluate_continuously(self, steps: int) -> dict[str, float]:
        timeout = self.config.evaluator_options.continuous_eval_timeout
        values: dict[str, float] = {}
        for prefix in tf.train.checkpoints_iterator(str(self.folder), timeout=None if timeout < 0 else timeout):
            try:
                with self.strategy.scope():
                    checkpointing.restore(self.checkpoint, prefix, whole=False)
            except ValueError:
                if pathlib.Path(f"{prefix}.index").exists():
                    raise
                self.show.say(f"{prefix} was deleted before it could be read")
                continue
            values = self.controller.evaluate(steps)
        return values

    def _make_trainer(self) -> training.Trainer:
        config, state = self.config, self.state
        options, step = config.train_dataset_options, int(state.global_step.numpy())
        make = _training_data(config, self.dataset, start_batch=step * self._accumulation)
        assert state.optimizer is not None
        return training.Trainer(
            model=state.model,
            loss=architectures.build_loss(config),
            optimizer=state.optimizer,
            solver=self.options.solver_options,
            dataset=distribution.distribute(self.strategy, lambda *shard: _without_strings(make(*shard))),
            strategy=self.strategy,
            global_step=state.global_step,
            averages=state.averages,
            backbone=states.backbone_variables(state.model),
            seed=self.options.seed,
            sample_ids=lambda step: _sample_ids(config, self.dataset, options, step * self._accumulation),
        )

    def _make_evaluator(self) -> evaluating.Evaluator:
        config = self.config
        dataset = datasets.lookup(config.eval_dataset_options.dataset)
        has_labels = config.eval_dataset_options.decode_groundtruth_label
        has_losses = bool(config.trainer_options.loss_options.ListFields())
        architecture = architectures.of(config)
        return evaluating.Evaluator(
            model=self.state.model,
            loss=architectures.build_loss(config) if has_labels and has_losses else None,
            metrics=eval_metrics.make(architecture.tasks, dataset, config.evaluator_options) if has_labels else None,
            data=pipeline.build_dataset(
                config.eval_dataset_options, dataset=dataset, training=False, targets=architecture.targets
            ),
            dataset=dataset,
            options=config.evaluator_options,
            strategy=self.strategy,
            global_step=self.state.global_step,
            folder=self.folder,
            averages=self.state.averages,
            check_stop=lambda: self.stops.check(),
            writes=self.chief,
        )

    def _make_best(self, stack: contextlib.ExitStack) -> best.Best | None:
        options = self.config.evaluator_options
        if not options.best_checkpoint_metric or self.mode not in ("train_and_eval", "continuous_eval"):
            return None
        assert self.evaluator is not None
        best.check_metric(options.best_checkpoint_metric, eval_metrics.names(self.evaluator.metrics, self.config))
        return best.Best(
            self.checkpoint,
            self.folder,
            metric=options.best_checkpoint_metric,
            higher_is_better=options.best_checkpoint_higher_is_better,
            write_folder=None if self.chief else pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())),
        )

    def _make_pictures(self) -> summaries.SamplePictures | None:
        if self.options.save_summaries_steps <= 0:
            return None
        data = _training_data(self.config, self.dataset, start_batch=0)
        return summaries.SamplePictures(self.state.model, self.dataset, data)

    def _make_manager(self, stack: contextlib.ExitStack) -> checkpointing.Manager:
        # All machines must take part in saving, but only one may write to the run's folder.
        directory = str(self.folder) if self.chief else stack.enter_context(tempfile.TemporaryDirectory())
        return checkpointing.Manager(
            self.checkpoint,
            directory,
            max_to_keep=max(1, self.options.num_checkpoints_to_keep) if self.chief else 1,
            step_counter=self.state.global_step,
            checkpoint_interval=max(1, self.options.save_checkpoints_steps),
        )

    def _read(self) -> progress.Reading:
        losses = self.trainer.means() if self.trainer is not None else {}
        return progress.Reading(
            int(self.state.global_step.numpy()), losses.get(f"losses/train_{training.TOTAL}", float("nan"))
        )

    @property
    def _accumulation(self) -> int:
        return max(1, self.options.solver_options.gradient_accumulation_steps)

    @property
    def _total(self) -> int:
        return self.options.solver_options.training_number_of_steps


def num_records(options: dataset_pb2.DatasetOptions) -> int:
    """Records of a data set's files."""
    parts = options.mixture or [options]
    allow_empty = [datasets.lookup(part.dataset).empty_shards for part in parts]
    files = [record_index.find_files(part.file_pattern) for part in parts]
    return sum(record_index.build(paths, allow_empty=empty).num_records for paths, empty in zip(files, allow_empty))


def _asserted(message: str) -> str:
    """What an assertion said, without TensorFlow's wrapping."""
    return message.split(_ASSERTION)[-1].split("\n")[0].replace("] [", " ").strip(" []")


def _seed(options: trainer_pb2.TrainerOptions) -> None:
    keras.utils.set_random_seed(options.seed)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()


def _training_data(config, dataset: datasets.Dataset, *, start_batch: int):
    def make(num_shards: int = 1, shard: int = 0, replicas: int = 1) -> tf.data.Dataset:
        return pipeline.build_dataset(
            config.train_dataset_options,
            dataset=dataset,
            training=True,
            seed=config.trainer_options.seed,
            start_batch=start_batch,
            num_shards=num_shards,
            shard=shard,
            replicas=replicas,
            targets=architectures.of(config).targets,
        )

    return make


def _without_strings(data: tf.data.Dataset) -> tf.data.Dataset:
    """Devices cannot hold strings."""
    return data.map(lambda batch: {key: value for key, value in batch.items() if value.dtype != tf.string})


def _sample_ids(config, dataset, options, start_batch: int) -> Iterator[str]:
    """The samples of the batches of one step: data is a function of position, so they can be read again."""
    accumulation = max(1, config.trainer_options.solver_options.gradient_accumulation_steps)
    for batch in _training_data(config, dataset, start_batch=start_batch)().take(accumulation):
        yield from (sample.decode() for sample in batch[keys.SAMPLE_ID].numpy())
