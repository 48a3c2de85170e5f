"""How every converter runs as a program: its flags, one clear line for a bad input, exit codes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence

from absl import flags


def new_flags() -> flags.FlagValues:
    """Flags of one converter, apart from those of other programs, with what all converters share."""
    values = flags.FlagValues()
    flags.DEFINE_string("output_dir", None, "Folder for the shards and manifests; made if missing.", flag_values=values)
    flags.DEFINE_integer(
        "num_processes",
        0,
        "Processes that write shards; 0: one per processor core.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "label_format",
        "raw",
        ["raw", "zlib", "png32"],
        "How labels are stored. DeepLab2 reads raw alone; the others take a small part of the space.",
        flag_values=values,
    )
    return values


def call(convert: Callable[[flags.FlagValues], str], values: flags.FlagValues, module: str, argv: Sequence[str]) -> int:
    """Parses a command line and converts.

    Args:
        convert: returns the closing line.
        values: the flags, from `new_flags` and more.
        module: the docstring of the converter, shown by --help.
        argv: the program's name and its arguments.

    Returns:
        the exit code: 0, 2 after a line about what is wrong with the input, 130 when stopped from the keyboard.
    """
    name = argv[0].rsplit("/", 1)[-1].removesuffix(".py")
    if any(re.fullmatch(r"-h|--?help(full|short)?", argument) for argument in argv[1:]):
        print(f"{module.strip()}\n{values.get_help()}")
        return 0
    try:
        rest = values(list(argv))
        if len(rest) > 1:
            raise ValueError(f"unexpected argument {rest[1]!r}; see --help")
        if not values.output_dir:
            raise ValueError("--output_dir is missing; see --help")
        print(convert(values))
    except (flags.Error, ValueError, OSError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; the same command goes on from the finished shards", file=sys.stderr)
        return 130
    return 0
