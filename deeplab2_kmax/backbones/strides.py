"""Output strides of backbones that are a row of modules: strides beyond the output stride become dilation."""

from __future__ import annotations

from collections.abc import Sequence

OUTPUT_STRIDES = (4, 8, 16, 32)


def dilate(strides: Sequence[int], output_stride: int, name: str) -> list[tuple[int, int]]:
    """The stride and the dilation of each of a row of modules that have `strides` at output stride 32.

    A module that would stride beyond `output_stride` keeps the resolution, and what follows it dilates by as much. So
    every output stride gives the same values where their grids meet.

    Raises:
        ValueError: the backbone called `name` has no such output stride.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"{name}: output_stride is one of {OUTPUT_STRIDES}, but got {output_stride}.")
    current, dilation = 1, 1
    plan = []
    for stride in strides:
        if current == output_stride:
            plan.append((1, dilation))
            dilation *= stride
        else:
            plan.append((stride, 1))
            current *= stride
    return plan


def of_levels(output_stride: int) -> tuple[int, ...]:
    """The strides of levels 1 to 5."""
    return tuple(min(2**level, output_stride) for level in range(1, 6))
