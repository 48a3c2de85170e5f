"""Runs all benchmarks and writes one JSON: `python benchmarks/run.py [--only=metrics,matching] [--output=FILE]`.

Each benchmark is a module here with `run(repeats) -> dict` and gets a process of its own, so that neither thread
settings nor peak memory of one reach another. The machine's own matmul speed stands beside them, so that runs on
different machines compare. Nothing here is a test: figures count on a quiet machine only.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

BENCHMARKS = (
    "import_time",
    "matching",
    "metrics",
    "saved_predictions",
    "data_pipeline",
    "prediction",
    "center_grouping",
    "panoptic_deeplab",
    "train_step",
)


def collect(names: list[str], *, repeats: int, timeout: int) -> dict:
    """Runs benchmarks one after the other; what is missing or fails stands in the result with the reason."""
    found: dict = {"load_average_before": os.getloadavg()[0], "machine": _in_child("machine", repeats, timeout)}
    found["benchmarks"] = {name: _in_child(name, repeats, timeout) for name in names}
    found["load_average_after"] = os.getloadavg()[0]
    return found


def _in_child(name: str, repeats: int, timeout: int) -> dict:
    """The outcome of one benchmark: `status` ok, missing or failed, `wall_seconds`, and `result` or `error`."""
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        return {"status": "missing", "error": f"there is no benchmarks/{name}.py"}
    print(f"{name} ...", file=sys.stderr, flush=True)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder, "result.json")
        command = [sys.executable, __file__, f"--child={name}", f"--repeats={repeats}", f"--output={output}"]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
        except subprocess.TimeoutExpired:
            return {"status": "failed", "error": f"not done after {timeout} s"}
        wall = round(time.perf_counter() - begin, 2)
        if done.returncode or not output.exists():
            return {"status": "failed", "wall_seconds": wall, "error": done.stderr.strip()[-2000:]}
        return {"status": "ok", "wall_seconds": wall, "result": json.loads(output.read_text())}


def main(argv: list[str]) -> int:
    """Prints the JSON; the exit code is 1 where a benchmark is missing or failed."""
    options = flags.FLAGS
    if options.child:
        result = importlib.import_module(f"benchmarks.{options.child}").run(repeats=options.repeats)
        pathlib.Path(options.output).write_text(json.dumps(result))
        return 0
    unknown = [name for name in options.only if name not in BENCHMARKS]
    if len(argv) > 1 or unknown:
        print(f"run: unknown argument {(argv[1:] or unknown)[0]!r}; see --help.", file=sys.stderr)
        return 2
    found = collect(options.only or list(BENCHMARKS), repeats=options.repeats, timeout=options.timeout)
    text = json.dumps(found, indent=1)
    print(text)
    if options.output:
        output = pathlib.Path(options.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n")
    failed = [name for name, outcome in found["benchmarks"].items() if outcome["status"] != "ok"]
    if failed:
        print(f"run: no figures from {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _define_flags() -> None:
    flags.DEFINE_list("only", [], f"Benchmarks to run, of: {', '.join(BENCHMARKS)}. Default: all.")
    flags.DEFINE_integer("repeats", 10, "Measurements behind every median.", lower_bound=1)
    flags.DEFINE_string("output", None, "JSON file to write. Default: standard output only.")
    flags.DEFINE_integer("timeout", 1200, "Seconds after which a benchmark is given up.", lower_bound=1)
    flags.DEFINE_string("child", None, "Internal, how this program calls itself: run this module, result to --output.")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
