"""Depth and colours as points in space, in a PLY file that viewers of point clouds open."""

from __future__ import annotations

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

Array = Any  # np.ndarray


class Camera(NamedTuple):
    """A pinhole: where a point (X, Y, Z) is in a picture, column fx X / Z + cx and row fy Y / Z + cy, in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float


def parse_camera(text: str) -> Camera:
    """A camera from "fx,fy,cx,cy".

    Raises:
        ValueError: not four numbers, or a focal length that is none.
    """
    try:
        camera = Camera(*(float(part) for part in text.split(",")))
    except (TypeError, ValueError):
        raise ValueError(f"expected a camera fx,fy,cx,cy in pixels, got {text!r}") from None
    if not (np.isfinite(camera).all() and camera.fx > 0 and camera.fy > 0):
        raise ValueError(f"expected a camera fx,fy,cx,cy with focal lengths above 0, got {text!r}")
    return camera


def points(depth: Array, camera: Camera) -> Array:
    """What a camera sees, [H, W] metres along its axis -> [H, W, 3] float32: right, down and forward of it, metres."""
    rows, columns = np.indices(depth.shape, np.float32)
    return np.stack(
        [(columns - camera.cx) / camera.fx * depth, (rows - camera.cy) / camera.fy * depth, depth], axis=-1
    ).astype(np.float32)


def write_ply(path: str | os.PathLike[str], places: Array, colors: Array) -> int:
    """Writes points [..., 3] and their colours [..., 3] uint8 as a binary PLY file; those with Z <= 0 are left out.

    Returns:
        How many points were written.
    """
    known = places[..., 2] > 0
    kept = np.zeros(np.count_nonzero(known), [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in "rgb"])
    for axis, name in enumerate("xyz"):
        kept[name] = places[known][:, axis]
    for channel, name in enumerate("rgb"):
        kept[name] = colors[known][:, channel]
    properties = [f"property float {name}" for name in "xyz"]
    properties += [f"property uchar {name}" for name in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(kept)}", *properties, "end_header", ""]
    pathlib.Path(path).write_bytes("\n".join(header).encode() + kept.tobytes())
    return len(kept)
