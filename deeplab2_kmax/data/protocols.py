"""How the official evaluation of each data set scores it, where data sets differ."""

from __future__ import annotations

from typing import NamedTuple

from deeplab2_kmax.data import datasets


class Protocol(NamedTuple):
    """Rules of one data set's evaluation; the defaults are those of data sets without an official one."""

    instances: str = "coco"  # rules of average precision: "coco" or "cityscapes"
    boundary_ratio: float = 0.02  # width of boundaries, as a share of the image's diagonal
    windows: tuple[int, ...] = (1, 2, 3, 4)  # frames of VPQ and DVPQ
    absent_as_zero: bool = False  # VPQ and DVPQ average over all classes, absent ones with 0
    max_depth: float | None = None  # metres; true depth beyond it is not scored
    depth_crop: str | None = None  # part of the image whose depth is scored, by its usual name


_CITYSCAPES = Protocol(instances="cityscapes", boundary_ratio=0.005)

PROTOCOLS: dict[str, Protocol] = {
    "cityscapes_panoptic": _CITYSCAPES,
    "cityscapes_vps": _CITYSCAPES,
    "cityscapes_dvps": _CITYSCAPES,
    "semkitti_dvps": Protocol(windows=(1, 5, 10, 20), absent_as_zero=True),
    "vipseg": Protocol(windows=(1, 2, 4, 6)),
    "vspw": Protocol(windows=(1, 2, 4, 6)),
    "nyud_v2": Protocol(max_depth=10.0, depth_crop="nyu"),
}


def of(dataset: datasets.Dataset) -> Protocol:
    """The rules of a data set; the defaults for one that is not in the table."""
    return PROTOCOLS.get(dataset.name, Protocol())
