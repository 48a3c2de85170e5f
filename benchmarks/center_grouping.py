"""Times Panoptic-DeepLab's post-processing at 1025x2049 with 400 centres: `python benchmarks/center_grouping.py`.

Logits at stride 4, heat map and offsets -> panoptic ids; things cover a fifth, or all of the image. Peak memory is what
a call takes beyond its inputs; the distances of all pixels to all centres at once would be 6.7 GB.
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from benchmarks import machine, timing
from deeplab2_kmax import structures
from deeplab2_kmax.postprocess import center_grouping
from deeplab2_kmax.protos import evaluator_pb2

SIZE, CENTERS = (1025, 2049), 400
CLASSES = structures.MaskClasses(tuple(range(11, 19)), tuple(range(11)), ignore_label=255, label_divisor=1000)


def scene(share_of_things: float) -> dict[str, tf.Tensor]:
    """Centres on a jittered grid, offsets to the nearest of them with noise, one class of things in a band."""
    random = np.random.RandomState(0)
    height, width = SIZE
    heatmap = np.zeros([1, height, width, 1], np.float32)
    places = random.permutation(height // 20 * (width // 20))[:CENTERS]
    rows, columns = places // (width // 20) * 20 + 10, places % (width // 20) * 20 + 10
    heatmap[0, rows, columns, 0] = random.uniform(0.2, 1.0, CENTERS)
    logits = random.standard_normal([1, (height - 1) // 4 + 1, (width - 1) // 4 + 1, 19]).astype(np.float32)
    logits[0, : int(share_of_things * logits.shape[1]), :, 13] += 20
    logits[0, int(share_of_things * logits.shape[1]) :, :, 2] += 20
    offsets = random.standard_normal([1, height, width, 2]).astype(np.float32) * 20
    maps = {"semantic_logits": logits, "center_heatmap": heatmap, "offset_map": offsets}
    return {name: tf.constant(values) for name, values in maps.items()}


def run(repeats: int = 5) -> dict:
    """Milliseconds of a call and the megabytes it takes, by the share of the image that things cover."""
    options = evaluator_pb2.EvaluatorOptions(nms_kernel=13, keep_k_centers=CENTERS, stuff_area_limit=2048)
    postprocess = center_grouping.build(options, CLASSES)
    function = tf.function(lambda maps: postprocess(maps, SIZE), autograph=False)
    found = {}
    for share in (0.2, 1.0):
        maps = scene(share)
        function.get_concrete_function(maps)
        before = machine.peak_megabytes()
        milliseconds = timing.median_ms(lambda: function(maps).panoptic[0, 0, 0].numpy(), repeats)  # noqa: B023
        found[f"things_{share:g}"] = {
            "milliseconds": milliseconds,
            "peak_memory_megabytes": round(machine.peak_megabytes() - before),
        }
    return found


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
