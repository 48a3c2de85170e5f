"""How the programs of a checkout start: bad flags are one line and exit code 2, as all bad input is."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable

from absl import app, flags


def run(main: Callable[[list[str]], int | None]) -> None:
    """Runs a program as `app.run` does; what the parser has against its flags is one line on standard error.

    Args:
        main: the arguments that are no flags, after the program's name -> the exit code.
    """
    app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"{pathlib.Path(argv[0]).stem}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
