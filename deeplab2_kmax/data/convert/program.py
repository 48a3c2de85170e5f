"""What the converters' command lines share: flags made when the program starts, bad input told in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from deeplab2_kmax.data import example


def run(name: str, define_flags: Callable[[], None], convert: Callable[[flags.FlagValues], None]) -> None:
    """Runs a converter. Exit code 2 and one line on stderr for wrong flags or input.

    Args:
        name: of the program, before its messages.
        define_flags: declares its flags. They are not declared on import, so that converters can be imported together.
        convert: does the work; a ValueError or OSError tells what is wrong with the input.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            _fail(name, error)

    def main(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
            convert(flags.FLAGS)
        except (ValueError, OSError) as error:
            _fail(name, error)
        except KeyboardInterrupt:
            print(f"{name}: stopped; the same command goes on from the finished shards", file=sys.stderr)
            sys.exit(130)

    define_flags()
    app.run(main, flags_parser=parse)


def define_common_flags() -> None:
    """The flags of every converter."""
    flags.DEFINE_string("output_dir", None, "Folder for the records.", required=True)
    flags.DEFINE_enum("label_format", example.RAW, example.MAP_FORMATS, "How labels are stored; DeepLab2 reads raw.")
    flags.DEFINE_integer("processes", 0, "Processes that work in parallel; 0: one per core.", lower_bound=0)
    flags.DEFINE_bool("overwrite", False, "Replace records that were made with other settings.")


def report(name: str, split: str, output_dir: str, summary) -> None:
    """Says what a conversion did."""
    kept = f", {summary.num_kept} of them there already" if summary.num_kept else ""
    print(f"{name}: {split}: {summary.num_records} records in {summary.num_shards} shards{kept}: {output_dir}")


def _fail(name: str, error: BaseException) -> None:
    print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)
