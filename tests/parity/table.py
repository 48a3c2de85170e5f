"""How far models, losses and post-processing are from DeepLab2, case by case, as docs/parity.md.

`python -m tests.parity.table`, run in the checkout, writes the page anew; it takes some minutes.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable

import tensorflow as tf

from tests import shared
from tests.parity import deeplab, losses, motion_deeplab, networks, postprocess, recursive, tracking, vip_deeplab

PAGE = shared.ROOT / "docs/parity.md"

_INTRODUCTION = """# Parity with DeepLab2

Every row is a case whose expected values come from DeepLab2: same inputs, and its checkpoint rebuilt under its own
names and read by `load_deeplab2_checkpoint` (`rfp_fusion`: from the authors' code, in PyTorch's names). *Error* is
the absolute difference of the output that comes nearest to its limit, *tolerance* what the case allows there; for
labels and assignments both are the share of elements that differ. Tolerances are the cases' own and the same in
graph, eager mode and XLA (float32). In bfloat16 there is no such limit: the column gives the largest root mean square
of the differences, in standard deviations of the expected output, which the slow tests hold below {rms:g} ({gain:g}
for `kmax_resnet50_gain2` behind its first assignment: one pixel that changes its cluster there moves everything that
follows).

Written by `python -m tests.parity.table` with TensorFlow {tensorflow} on {machine}.

| case | outputs | nearest its limit | error | tolerance | eager: share of the tolerance | XLA | bfloat16, rms |
| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |
"""


def _worst(rows: Iterable[networks.Row]) -> networks.Row:
    return max(rows, key=lambda row: row.share)


def _share(rows: Iterable[networks.Row]) -> str:
    share = _worst(rows).share
    return f"{share:.2f}" if share < 100 else f"{share:.0e}"


def _line(name: str, measure: Callable[[str], list[networks.Row]], *, bfloat16: bool, xla: bool = True) -> str:
    graph = measure("graph")
    worst = _worst(graph)
    rms = f"{max(row.rms for row in measure('bfloat16')):.2g}" if bfloat16 else "float32 only"
    compiled = _share(measure("xla")) if xla else "not compiled"
    numbers = f"{worst.error:.2g} | {worst.allowed:.2g} | {_share(measure('eager'))} | {compiled} | {rms}"
    return f"| `{name}` | {len(graph)} | {worst.output} | {numbers} |"


def _lines() -> Iterable[str]:
    for case in (*networks.CASES, *deeplab.CASES):
        yield _line(
            case.name, lambda mode, case=case: networks.measure(case, mode, training=mode == "graph"), bfloat16=True
        )
    yield _line(recursive.CASE, recursive.measure, bfloat16=True)
    for prefix in losses.SETTINGS:
        yield _line(
            f"max_deeplab_loss {prefix}", lambda mode, prefix=prefix: losses.measure_loss(prefix, mode), bfloat16=False
        )
    yield _line(
        "hungarian",
        lambda mode: [row for name in losses.MATRICES for row in losses.measure_hungarian(name, mode)],
        bfloat16=False,
    )
    for name in postprocess.CASES:
        yield _line(
            name,
            lambda mode, name=name: [
                row for prefix in postprocess.SETTINGS for row in postprocess.measure(name, prefix, mode)
            ],
            bfloat16=False,
            xla=False,
        )
    yield _line(
        "panoptic_deeplab_loss",
        lambda mode: [row for name in deeplab.LOSSES for row in deeplab.measure_loss(name, mode)],
        bfloat16=False,
    )
    yield _line(
        "panoptic_deeplab_postprocess",
        lambda mode: [row for prefix in deeplab.SETTINGS for row in deeplab.measure_postprocess(prefix, mode)],
        bfloat16=False,
        xla=False,
    )
    yield _line(
        motion_deeplab.NAME,
        lambda mode: [row for prefix in motion_deeplab.VIDEOS for row in motion_deeplab.measure(prefix, mode)],
        bfloat16=False,
        xla=False,
    )
    yield _line(tracking.CASE, tracking.measure, bfloat16=False, xla=False)
    yield _line("vip_deeplab_two_frame", vip_deeplab.measure_two_frames, bfloat16=False, xla=False)
    yield _line("vip_deeplab_stitching", vip_deeplab.measure_stitching, bfloat16=False, xla=False)


def main() -> None:
    from tests.parity import test_networks

    page = _INTRODUCTION.format(
        rms=test_networks.BFLOAT16_RMS,
        gain=max(test_networks.BFLOAT16_RMS_AFTER_ASSIGNMENT.values()),
        tensorflow=tf.__version__,
        machine=platform.machine(),
    )
    for line in _lines():
        print(line, flush=True)
        page += line + "\n"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
