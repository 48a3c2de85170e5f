"""The tasks over maps of depth and of surface normals."""

from __future__ import annotations

from collections.abc import Mapping

from deeplab2_kmax.data import datasets, protocols
from deeplab2_kmax.data.targets import keys
from evaluation import depth, surface_normals
from evaluation.tasks import Options, Result, Task


class Depth(Task):
    """Errors of depth, within the cap and crop of the data set's protocol."""

    prefix = "evaluation/depth"
    truth, prediction = (keys.DEPTH_RAW,), ("depth_pred",)
    knows_size = True  # crops are shares of the image
    _NAMES = {  # the first four are DeepLab2's
        "silog": "SILog",
        "sq_rel_kitti": "SqErrorRel",
        "abs_rel": "AbsErrorRel",
        "delta1": "DepthInlier",
        "delta2": "DepthInlier2",
        "delta3": "DepthInlier3",
    }

    def __init__(self, dataset: datasets.Dataset, options: Options):
        protocol = protocols.of(dataset)
        self.metric = depth.DepthErrors(max_depth=protocol.max_depth, crop=protocol.depth_crop)

    def values(self, result: Result) -> dict[str, float]:
        flat = {
            f"{self.prefix}/{self._NAMES.get(measure, measure)}{suffix}": float(result[measure + suffix])
            for suffix in ("", "_pooled")
            for measure in depth.MEASURES
        }
        return {**flat, f"{self.prefix}/num_images": float(result["n_images"])}

    @classmethod
    def lines(cls, values: Mapping[str, float]) -> list[str]:
        shown = {name: values[f"{cls.prefix}/{name}"] for name in ("AbsErrorRel", "SILog", "rmse", "DepthInlier")}
        return [
            f"{'depth':24s} relative error {100.0 * shown['AbsErrorRel']:.2f}   SILog {shown['SILog']:.2f}   "
            f"RMSE {shown['rmse']:.3f} m   within 1.25 {100.0 * shown['DepthInlier']:.2f}"
        ]


class Normals(Task):
    """Angles between surface normals, in degrees."""

    prefix = "evaluation/normals"
    truth, prediction = (keys.NORMALS_RAW,), ("normals_pred",)
    _NAMES = ("mean", "median", "rmse", "below_11_25", "below_22_5", "below_30")

    def __init__(self, dataset: datasets.Dataset, options: Options):
        self.metric = surface_normals.SurfaceNormalErrors()

    def values(self, result: Result) -> dict[str, float]:
        flat = {f"{self.prefix}/{name}": float(result[name]) for name in self._NAMES}
        return {**flat, f"{self.prefix}/num_pixels": float(result["n_pixels"])}

    @classmethod
    def lines(cls, values: Mapping[str, float]) -> list[str]:
        mean, median, _, *shares = (values[f"{cls.prefix}/{name}"] for name in cls._NAMES)
        below = ", ".join(f"{100.0 * share:.2f}" for share in shares)
        return [f"{'normals':24s} mean {mean:.2f}, median {median:.2f} degrees   within 11.25, 22.5, 30: {below}"]
