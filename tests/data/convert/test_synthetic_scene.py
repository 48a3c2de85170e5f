"""Procedural scenes: the same for a seed, consistent labels and depth, tracks that last."""

import hashlib

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import synthetic_scene, synthetic_world

DATASET = datasets.lookup("synthetic_panoptic")
NAMES = ("road", "sidewalk", "building", "vegetation", "terrain", "sky", "car", "bus", "person")


@pytest.fixture(scope="module")
def rendered():
    """Twelve scenes: (image, panoptic, depth) each."""
    return [synthetic_scene.Scene(seed, height=97, width=193).render() for seed in range(12)]


def test_classes_are_those_of_the_table():
    assert DATASET.class_names == NAMES
    assert DATASET.thing_ids == (synthetic_world.CAR, synthetic_world.BUS, synthetic_world.PERSON) == (6, 7, 8)
    assert DATASET.ignore_label == synthetic_scene.IGNORE_LABEL
    assert DATASET.label_divisor == synthetic_scene.LABEL_DIVISOR
    assert datasets.lookup("synthetic_dvps").is_video and datasets.lookup("synthetic_dvps").has_depth


def test_types_and_label_ranges(rendered):
    for image, panoptic, depth in rendered:
        assert image.shape == (97, 193, 3) and image.dtype == np.uint8
        assert panoptic.shape == depth.shape == (97, 193)
        assert panoptic.dtype == np.int32 and depth.dtype == np.float32
        classes, instances = panoptic // 1000, panoptic % 1000
        assert set(np.unique(classes)) <= {*range(9), 255}
        assert ((instances > 0) == np.isin(classes, DATASET.thing_ids)).all()  # no crowd; stuff has no instances


def test_a_seed_is_a_scene(rendered):
    again = synthetic_scene.Scene(3, height=97, width=193).render()
    for first, second in zip(rendered[3], again):
        np.testing.assert_array_equal(first, second)
    assert (rendered[3][0] != rendered[4][0]).mean() > 0.5


def test_the_scenes_of_this_version():
    # Labels do not depend on the machine. When the generator is changed on purpose, raise synthetic.VERSION as well.
    labels = [synthetic_scene.Scene(seed, height=65, width=129).render()[1] for seed in (0, 1, 2**40)]
    assert hashlib.sha256(np.stack(labels).astype("<i4").tobytes()).hexdigest()[:16] == "f6bf76711df5c972"


def test_every_class_occurs_and_void_is_rare(rendered):
    classes = np.stack([panoptic // 1000 for _, panoptic, _ in rendered])
    assert set(range(9)) <= set(np.unique(classes))
    assert (classes == 255).mean() < 0.03
    assert all((c == synthetic_world.ROAD).mean() > 0.05 for c in classes)


def test_depth_fits_the_classes(rendered):
    for _, panoptic, depth in rendered:
        classes = panoptic // 1000
        assert (depth[classes == synthetic_world.SKY] == 0).all()
        solid = ~np.isin(classes, (synthetic_world.SKY, 255))
        assert (depth[solid] > 0.5).all() and np.isfinite(depth).all()
        road = classes == synthetic_world.ROAD
        rows = [depth[row, road[row]].mean() for row in range(len(road)) if road[row].any()]
        assert (np.diff(rows) < 0).all()  # the road comes nearer from row to row


def test_specks_are_void(rendered):
    smallest = max(6, int(8e-4 * 97 * 193))
    for _, panoptic, _ in rendered:
        ids, counts = np.unique(panoptic[panoptic < 255000], return_counts=True)
        assert (counts >= smallest).all(), dict(zip(ids, counts))


def test_tracks_last_and_things_move():
    scene = synthetic_scene.Scene(21, height=97, width=193)
    frames = [scene.render(t / synthetic_scene.FRAMES_PER_SECOND) for t in range(4)]
    things = [set(np.unique(p[(p % 1000 > 0)])) for _, p, _ in frames]
    assert things[0] and len(things[0] & things[3]) >= 0.5 * len(things[0])
    for track in things[0] & things[1]:
        centers = [np.argwhere(p == track).mean(axis=0) for _, p, _ in frames[:2]]
        assert np.abs(centers[0] - centers[1]).max() < 12  # pixels in a tenth of a second
    assert (frames[0][1] != frames[3][1]).any()


def test_a_scene_is_the_same_world_at_every_size():
    small = synthetic_scene.Scene(5, height=65, width=129).render()[1][::8, ::8] // 1000
    large = synthetic_scene.Scene(5, height=129, width=257).render()[1][::16, ::16] // 1000
    assert (small == large).mean() > 0.85


@pytest.mark.parametrize(("options", "message"), [((-1, 65, 129), "at least 0"), ((1, 32, 129), "33 x 33")])
def test_bad_requests(options, message):
    seed, height, width = options
    with pytest.raises(ValueError, match=message):
        synthetic_scene.Scene(seed, height=height, width=width)
