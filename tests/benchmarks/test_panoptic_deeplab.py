"""The benchmark of Panoptic-DeepLab on a small scene; its figures are nothing to test."""

import numpy as np
import pytest

from benchmarks import panoptic_deeplab
from deeplab2_kmax import structures
from deeplab2_kmax.postprocess import center_grouping

CLASSES = structures.MaskClasses(
    tuple(panoptic_deeplab.THINGS), tuple(panoptic_deeplab.STUFF), ignore_label=255, label_divisor=1000
)


def test_the_drawn_scene_has_the_promised_things():
    size = (257, 513)
    rules = center_grouping.Rules(nms_kernel=7)

    def postprocess(maps, size):
        options = {"classes": CLASSES, "num_classes": panoptic_deeplab.CLASSES, "rules": rules}
        pixels = center_grouping.semantic.classify(maps, size)
        return center_grouping.assemble(pixels, maps["center_heatmap"], maps["offset_map"], **options)

    ids = panoptic_deeplab._ids(panoptic_deeplab.scene(6, size), size, postprocess).numpy()
    things = ids // 1000 >= panoptic_deeplab.THINGS[0]
    assert np.mean(things) == pytest.approx(panoptic_deeplab.SHARE_OF_THINGS, abs=0.01)
    numbers, areas = np.unique(ids[things], return_counts=True)
    assert len(numbers[areas > 50]) == 6
    assert set(ids[~things] // 1000) == set(panoptic_deeplab.STUFF)


@pytest.mark.slow
def test_figures_of_a_small_image(monkeypatch):
    monkeypatch.setattr(panoptic_deeplab, "INSTANCES", (5,))
    figures = panoptic_deeplab.measure("mobilenet_v3_large", "bfloat16", 1, size=(65, 129))
    assert set(figures) == {"network_ms", "postprocess_5_ms", "image_5_ms", "share_5"}
    assert 0 < figures["share_5"] < 1
