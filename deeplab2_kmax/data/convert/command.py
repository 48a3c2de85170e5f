"""How every converter runs as a program: its flags, what it writes, one clear line for a bad input, exit codes.

A converter is a module with `plan(flags) -> list of writer.Split`, made by `split`, and a `main` that calls `run`.
Where the records are made, in processes of this machine or by a runner of Apache Beam, is no business of the converter.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from absl import flags

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import beam, writer

Plan = Callable[[flags.FlagValues], Sequence[writer.Split]]


def new_flags(*, num_shards: int, label_format: str = example.RAW) -> flags.FlagValues:
    """Flags of one converter, apart from those of other programs, with what all converters share.

    Args:
        num_shards, label_format: defaults of these flags.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("output_dir", None, "Folder for the shards and manifests; made if missing.", flag_values=values)
    flags.DEFINE_integer(
        "num_shards", num_shards, "Files per split; never more than records.", 1, 99999, flag_values=values
    )
    flags.DEFINE_integer(
        "num_processes",
        0,
        "Processes that write shards; 0: one per processor core.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "label_format",
        label_format,
        list(example.MAP_FORMATS),
        "How labels are stored. DeepLab2 reads raw alone; the others take a small part of the space.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "runner",
        "",
        "Runner of Apache Beam, such as DirectRunner, that writes the shards instead of processes of this machine.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "beam_options", "", "The runner's own flags in one string: '--region=x --num_workers=8'.", flag_values=values
    )
    return values


def split(
    values: flags.FlagValues,
    name: str,
    items: Sequence[Any],
    encode: Callable[..., bytes],
    *,
    root: str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str]] = (),
    **options: Any,
) -> writer.Split:
    """A split for `plan` to return.

    Args:
        values: the flags.
        name: first part of the shards' names.
        items: one per record, in order. The property `files` tells what an item is read from.
        encode: a function of a module; called with an item and, by name, --label_format and `options`.
        root: folder of the raw data.
        inputs: files that all items depend on.
        options: JSON values that decide the content of the records.
    """
    options = {**options, "label_format": values.label_format}
    paths = [*inputs, *(path for item in items for path in item.files)]
    return writer.Split(
        name,
        items,
        functools.partial(encode, **options),
        num_shards=min(values.num_shards, max(len(items), 1)),
        source={**options, "files": writer.fingerprint(paths, root)},
    )


def run(
    plan: Plan,
    values: flags.FlagValues,
    module: str,
    argv: Sequence[str],
    *,
    finish: Callable[[flags.FlagValues], str] | None = None,
) -> int:
    """Parses a command line and converts; arguments and exit code as of `call`.

    Args:
        plan: the flags -> what to write. All input is looked up before anything is written.
        finish: called when all splits are written; what it returns is printed too.
    """

    def convert(values: flags.FlagValues) -> str | int:
        execute = beam.executor(values.runner, values.beam_options) if values.runner else None
        if execute and plan.__module__ == "__main__":
            # Workers of a runner import the module by its name.
            return importlib.import_module(_program()).main(argv)
        done = []
        for item in plan(values):
            manifest = writer.write_split(
                values.output_dir,
                item.name,
                item.items,
                item.encode,
                num_shards=item.num_shards,
                shard_sizes=item.shard_sizes,
                source={"converter": _name(argv), **item.source},
                num_processes=values.num_processes,
                execute=execute,
            )
            done.append(f"{manifest['records']} {item.name}")
        result = f"{', '.join(done)} records in {values.output_dir}"
        return f"{result}\n{finish(values)}" if finish else result

    return call(convert, values, module, argv)


def call(
    program: Callable[[flags.FlagValues], str | int], values: flags.FlagValues, module: str, argv: Sequence[str]
) -> int:
    """Parses a command line and runs a program, which writes to --output_dir where it has that flag.

    Args:
        program: the flags -> the closing line, or the exit code where others have spoken.
        values: the flags, from `new_flags` and more.
        module: the docstring of the program, shown by --help.
        argv: the program's name and its arguments.

    Returns:
        the exit code: 0, 2 after a line about what is wrong with the input, 130 when stopped from the keyboard.
    """
    name = _name(argv)
    if any(re.fullmatch(r"-h|--?help(full|short)?", argument) for argument in argv[1:]):
        print(f"{module.strip()}\n{values.get_help()}")
        return 0
    try:
        rest = values(list(argv))
        if len(rest) > 1:
            raise ValueError(f"unexpected argument {rest[1]!r}; see --help")
        if "output_dir" in values and not values.output_dir:
            raise ValueError("--output_dir is missing; see --help")
        result = program(values)
        if isinstance(result, int):
            return result
        print(result)
    except (flags.Error, ValueError, OSError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; the same command goes on from the finished shards", file=sys.stderr)
        return 130
    return 0


def _name(argv: Sequence[str]) -> str:
    path, _, name = argv[0].rpartition("/")
    if name == "__main__.py":  # of a package
        name = path.rpartition("/")[2]
    return name.removesuffix(".py")


def _program() -> str:
    """The name of the module that runs by `python -m`."""
    spec = sys.modules["__main__"].__spec__
    if spec is None:
        raise ValueError("--runner needs the program to be started as python -m deeplab2_kmax.data.convert.<name>")
    return spec.name
