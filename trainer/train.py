"""Trains and evaluates a model: the command line.

python trainer/train.py --config_file=configs/tiny/kmax_synthetic.textproto --mode=train_and_eval --model_dir=runs
"""

from __future__ import annotations

import os
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags, logging

from evaluation import command

MODES = ("train", "eval", "train_and_eval", "continuous_eval")

_CONFIG = flags.DEFINE_string("config_file", None, "Experiment as text (ExperimentOptions). Required.")
_MODE = flags.DEFINE_enum(
    "mode",
    None,
    MODES,
    "train: until training_number_of_steps, from the newest checkpoint if there is one. eval: the newest checkpoint. "
    "train_and_eval: both, every eval_interval steps. continuous_eval: every new checkpoint. Required.",
)
_MODEL_DIR = flags.DEFINE_string(
    "model_dir", None, "Base folder: everything goes to <model_dir>/<experiment_name>. Required."
)
_NUM_GPUS = flags.DEFINE_integer("num_gpus", 0, "0: CPU; 1: one GPU; n: GPUs 0 to n-1, mirrored.")
_MASTER = flags.DEFINE_string("master", None, "Name or grpc address of a TPU ('local': this machine's).")
_OVERRIDE = flags.DEFINE_multi_string(
    "override", [], "Text of ExperimentOptions laid over the config, such as 'trainer_options { seed: 1 }'; repeatable."
)
_SET = flags.DEFINE_multi_string("set", [], "NAME=value for a placeholder ${NAME} in the config; repeatable.")


def main(argv: list[str]) -> int:
    """Exit code 2 and one line where the user has to change something; 128 + signal after SIGINT or SIGTERM."""
    try:
        if len(argv) > 1:
            raise ValueError(f"unexpected argument {argv[1]!r}; flags look like --name=value")
        for flag in (_CONFIG, _MODE, _MODEL_DIR):
            if not flag.value:
                raise ValueError(f"--{flag.name} is missing; see --help")
        if _NUM_GPUS.value < 0:
            raise ValueError(f"--num_gpus must be at least 0, got {_NUM_GPUS.value}")
        # A bad config is reported before TensorFlow loads.
        from deeplab2_kmax import config as configs

        config = configs.load(_CONFIG.value, _OVERRIDE.value, variables=configs.parse_variables(_SET.value))
        configs.check(config, _MODE.value)
    except (ValueError, OSError) as error:
        return _fail(error, 2)
    from trainer import checkpointing, experiment, interrupts, training

    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbit prints what it logs
    try:
        experiment.run(config, _MODE.value, _MODEL_DIR.value, num_gpus=_NUM_GPUS.value, master=_MASTER.value)
    except (ValueError, OSError) as error:
        logging.debug("Raised here:", exc_info=error)
        return _fail(error, 2)
    except (training.NonFiniteLoss, checkpointing.NonFiniteWeights) as error:
        return _fail(error, 1)
    except interrupts.Stopped as stopped:
        print(f"train: {stopped}; the state is saved, the same command goes on from there", file=sys.stderr)
        return 128 + stopped.signum if stopped.signum else 1
    except KeyboardInterrupt:
        print("train: interrupted", file=sys.stderr)
        return 130
    return 0


def _fail(error: Exception, code: int) -> int:
    print(f"train: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    command.run(main)
