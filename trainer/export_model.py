"""Writes a trained model as a SavedModel, loads it in a clean process and shows how far the two differ.

python trainer/export_model.py --config_file=runs/x/config.textproto --checkpoint_path=runs/x --export_path=exported
"""

from __future__ import annotations

import os
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags, logging

from evaluation import command

_CONFIG = flags.DEFINE_string("config_file", None, "Experiment as text (ExperimentOptions).")
_CHECKPOINT = flags.DEFINE_string("checkpoint_path", None, "Checkpoint prefix, or a folder: its newest checkpoint.")
_EXPORT = flags.DEFINE_string("export_path", None, "Folder for the SavedModel; an earlier export there is replaced.")
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "bfloat16"], "Arithmetic inside; bfloat16 is faster where the CPU knows it."
)
_INPUT_TYPE = flags.DEFINE_enum(
    "input_type",
    "image_tensor",
    ["image_tensor", "encoded_image"],
    "image_tensor: uint8 [height, width, 3] of any size. encoded_image: the bytes of a JPEG or PNG file.",
)
_BATCHED = flags.DEFINE_bool("batched", False, "Image tensors have a batch axis: [batch, height, width, 3].")
_LOGITS = flags.DEFINE_bool("include_logits", False, "Also give logits and features, as DeepLab2's exports do.")
_RANDOM = flags.DEFINE_bool("random_weights", False, "Export untrained weights, to measure speed without a checkpoint.")
_OVERRIDE = flags.DEFINE_multi_string("override", [], "Text of ExperimentOptions laid over the config; repeatable.")
_SET = flags.DEFINE_multi_string("set", [], "NAME=value for a placeholder ${NAME} in the config; repeatable.")
# DeepLab2's names.
flags.DEFINE_alias("experiment_option_path", "config_file")
flags.DEFINE_alias("output_path", "export_path")


def main(argv: list[str]) -> int:
    """Exit code 2 and one line where the user has to change something."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow's writer tells of its own files
    try:
        if len(argv) > 1:
            raise ValueError(f"unexpected argument {argv[1]!r}")
        for flag in (_CONFIG, _EXPORT):
            if not flag.value:
                raise ValueError(f"--{flag.name} is missing; see --help")
        if not _CHECKPOINT.value and not _RANDOM.value:
            raise ValueError("--checkpoint_path is missing (or --random_weights, to export an untrained model)")
        checkpoint = _CHECKPOINT.value
        if checkpoint and not (pathlib.Path(checkpoint).is_dir() or pathlib.Path(f"{checkpoint}.index").is_file()):
            raise ValueError(f"--checkpoint_path: expected a folder or a prefix as runs/x/ckpt-10, got {checkpoint}")
        # Bad flags and configs are reported before TensorFlow loads.
        from deeplab2_kmax import config as configs

        variables = configs.parse_variables(_SET.value)
        config = configs.load(_CONFIG.value, _OVERRIDE.value, variables=variables)
        configs.check(config, mode="export")
        from deeplab2_kmax.serving import export

        done = export.export(
            config,
            _CHECKPOINT.value,
            _EXPORT.value,
            precision=_PRECISION.value,
            input_type=_INPUT_TYPE.value,
            batched=_BATCHED.value,
            include_logits=_LOGITS.value,
            random_weights=_RANDOM.value,
        )
    except (ValueError, OSError) as error:
        print(f"export_model: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"export_model: {error}", file=sys.stderr)
        return 1
    print(done)
    return 0


if __name__ == "__main__":
    command.run(main)
