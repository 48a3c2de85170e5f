"""Textproto + bases + overrides -> one complete message; `python -m deeplab2_kmax.config FILE` prints it.

Messages merge; scalars and repeated fields replace, they never append. See docs/configs.md.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from google.protobuf import text_format
from google.protobuf.message import Message

from deeplab2_kmax import config_checks, config_deeplab, config_modes, config_text, config_values, registry
from deeplab2_kmax.config_text import ConfigError
from deeplab2_kmax.protos import config_pb2, model_pb2

MODES = config_modes.MODES
check = config_checks.check

# Blocks per level of the published pixel decoder, strides 32, 16, 8, 4, 2, and of the transformer decoder, 32, 16, 8.
PIXEL_DECODER_BLOCKS = (1, 5, 1, 1, 1)
TRANSFORMER_DECODER_BLOCKS = (2, 2, 2)

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


def load(
    path: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    variables: Mapping[str, str] | None = None,
) -> config_pb2.ExperimentOptions:
    """Reads a config file and everything it stands on.

    Args:
        path: a text file of ExperimentOptions, or of ModelOptions alone, which becomes `model_options`.
        overrides: textprotos of ExperimentOptions, merged over the file one after the other.
        variables: values of placeholders: `${NAME}` becomes `variables["NAME"]` in every string.

    Returns:
        The resolved config: bases merged in, placeholders with a value filled in, the options of kMaX-DeepLab that
        follow from the data set set. Saved by `to_text` and loaded again, it is the same.

    Raises:
        ConfigError: (a ValueError) one line with the file, line and column or with the path of the field, what was
            expected, what came, and the nearest valid name.
    """
    config = _read(pathlib.Path(path), ())
    for text in overrides:
        override = config_text.parse(text, config_pb2.ExperimentOptions(), f"override {text!r}")
        if override.base:
            raise ConfigError(f"override {text!r}: base can only be set in a file")
        merge(config, override)
    expand(config, variables or {})
    try:
        _fill_kmax_defaults(config)
        config_deeplab.fill_pool_sizes(config)
        check(config)
        if config.model_options.backbone.HasField("name"):
            config.model_options.backbone.name = config.model_options.backbone.name.lower()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def to_text(config: config_pb2.ExperimentOptions) -> str:
    """A config as text, one that `load` reads."""
    return text_format.MessageToString(config, as_utf8=True, use_short_repeated_primitives=True)


def merge(target: Message, source: Message) -> None:
    """Lays `source` over `target`, in place: messages merge; scalars and repeated fields that are set replace."""
    for field, value in source.ListFields():
        if config_values.is_repeated(value):
            target.ClearField(field.name)
            getattr(target, field.name).MergeFrom(value)
        elif isinstance(value, Message):
            child = getattr(target, field.name)
            child.SetInParent()  # an empty message counts; in a oneof the other choice goes
            merge(child, value)
        else:
            setattr(target, field.name, value)


def expand(config: Message, variables: Mapping[str, str]) -> None:
    """Fills in the placeholders `${NAME}` that have a value, in place. Others stay as they are: see `check`.

    Raises:
        ConfigError: a variable that no placeholder uses.
    """
    found = set()

    def fill(text: str) -> str:
        found.update(_PLACEHOLDER.findall(text))
        return _PLACEHOLDER.sub(lambda match: variables.get(match[1], match[0]), text)

    for message, name, value in list(_strings(config)):
        if isinstance(value, str):
            setattr(message, name, fill(value))
        else:
            value[:] = [fill(text) for text in value]
    for name in variables:
        if name not in found:
            near = ", ".join(registry.nearest(name, found)) or "none"
            raise ConfigError(f"variable {name!r} stands nowhere in the config as ${{{name}}}; placeholders: {near}")


def parse_variables(assignments: Iterable[str]) -> dict[str, str]:
    """`["NAME=value", ...]`, as command lines give them, -> variables of `load`.

    Raises:
        ConfigError: one is not of this form.
    """
    variables = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not re.fullmatch(r"\w+", name):
            raise ConfigError(f"--set {assignment!r}: expected NAME=value")
        variables[name] = value
    return variables


def _read(path: pathlib.Path, below: tuple[pathlib.Path, ...]) -> config_pb2.ExperimentOptions:
    """The message of a file merged over its bases. `below` are the files that are being read, outermost first."""
    text = _text_of(path)
    config = config_pb2.ExperimentOptions()
    names = config_text.field_names(text)
    if names and names[0] in model_pb2.ModelOptions.DESCRIPTOR.fields_by_name:
        config_text.parse(text, config.model_options, str(path))
        return config
    config_text.parse(text, config, str(path))
    bases = list(config.base)
    config.ClearField("base")
    merged = config_pb2.ExperimentOptions()
    for base in bases:
        base_path = pathlib.Path(os.path.normpath(path.parent / base))
        where = f"{path}:{config_text.find_string(text, base)}"
        chain = (*below, path)
        if base_path.resolve() in [file.resolve() for file in chain]:
            raise ConfigError(f"{where}: the bases form a cycle: {' -> '.join(map(str, (*chain, base_path)))}")
        if not base_path.is_file():
            raise ConfigError(f"{where}: base {base!r} does not exist{_nearest_files(base_path)}")
        merge(merged, _read(base_path, chain))
    merge(merged, config)
    return merged


def _text_of(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: the config file does not exist{_nearest_files(path)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a text file in UTF-8; binary configs are not read") from None
    except OSError as error:
        raise ConfigError(f"{path}: the config file cannot be read: {error.strerror}") from None


def _nearest_files(path: pathlib.Path) -> str:
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}"
    names = [file.name for file in path.parent.glob("*.textproto")]
    return f"; nearest in {path.parent}: {', '.join(registry.nearest(path.name, names))}" if names else ""


def _strings(message: Message) -> Iterator[tuple[Message, str, Any]]:
    """(message, field name, string or list of strings) of everything that is set."""
    for field, value in message.ListFields():
        if isinstance(value, Message):
            yield from _strings(value)
        elif isinstance(value, str):
            yield message, field.name, value
        elif config_values.is_repeated(value):
            if field.message_type is not None:
                for item in value:
                    yield from _strings(item)
            elif isinstance(value[0], str):
                yield message, field.name, value


def _fill_kmax_defaults(config: config_pb2.ExperimentOptions) -> None:
    """Sets what the config leaves open for a kMaX-DeepLab; some of it follows from the data set (docs/configs.md)."""
    from deeplab2_kmax.data import datasets

    if not config_checks.is_kmax(config.model_options):
        return
    options = config.model_options.max_deeplab
    dataset = config.train_dataset_options.dataset or config.eval_dataset_options.dataset
    for name, value in datasets.kmax_defaults(dataset)._asdict().items():
        owner = options if name == "transformer_decoder_drop_path_keep_prob" else options.kmax
        if not owner.HasField(name):
            setattr(owner, name, value)
    if not options.kmax.pixel_decoder_blocks:
        levels = 5 if options.kmax.highest_stride == 2 else 4
        options.kmax.pixel_decoder_blocks.extend(PIXEL_DECODER_BLOCKS[:levels])
    if not options.kmax.transformer_decoder_blocks:
        options.kmax.transformer_decoder_blocks.extend(TRANSFORMER_DECODER_BLOCKS)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Prints the resolved config. Exit code 2 and one line on stderr when it is wrong."""
    parser = _Parser(
        prog="python -m deeplab2_kmax.config", description="Prints a config as it is after bases and overrides."
    )
    parser.add_argument("file", help="text file of ExperimentOptions or ModelOptions")
    parser.add_argument(
        "--override", action="append", default=[], metavar="TEXTPROTO", help="laid over the file; repeatable"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="fills in ${NAME}; repeatable")
    parser.add_argument(
        "--check", choices=MODES, help="also check what this mode needs: files, placeholders, batch sizes"
    )
    parser.add_argument("--num_replicas", type=int, default=1, help="devices that share a batch, for --check")
    args = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")  # of TensorFlow's imports: stderr is for what is wrong with the config
    try:
        config = load(args.file, args.override, variables=parse_variables(args.set))
        notes = check(config, args.check, num_replicas=args.num_replicas)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    print(to_text(config), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
