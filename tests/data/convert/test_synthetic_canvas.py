"""Quads seen by a pinhole camera, with numbers that can be checked by hand."""

import numpy as np
import pytest

from deeplab2_kmax.data.convert import synthetic_canvas

WHITE = (1.0, 1.0, 1.0)


@pytest.fixture
def canvas():
    # 11 x 21 pixels, the optical axis through row 5, column 10; 10 pixels per metre at a depth of 1 m.
    return synthetic_canvas.Canvas(11, 21, focal=10.0, horizon=5.0, background=7)


def paint(value):
    return lambda a, b, z: (np.full((len(a), 3), value, np.float32), None)


def test_a_wall_covers_what_geometry_says(canvas):
    # 2 m wide and 1 m high at 5 m: 10 / 5 = 2 pixels per metre, columns 8..12, rows 3..5.
    canvas.quad((-1.0, 0.0, 5.0), (2.0, 0, 0), (0, 1.0, 0), 1, paint(0.5))
    expected = np.full((11, 21), 7)
    expected[3:6, 8:13] = 1
    np.testing.assert_array_equal(canvas.panoptic, expected)
    np.testing.assert_allclose(canvas.depth[expected == 1], 5.0, rtol=1e-6)
    assert (canvas.depth[expected == 7] == synthetic_canvas.FAR).all()


def test_the_nearer_one_is_seen_in_any_order(canvas):
    walls = [((-1.0, 0.0, 5.0), 1), ((-1.0, 0.0, 4.0), 2), ((-1.0, 0.0, 6.0), 3)]
    seen = []
    for order in ((0, 1, 2), (2, 1, 0)):
        picture = synthetic_canvas.Canvas(11, 21, focal=10.0, horizon=5.0, background=7)
        for k in order:
            picture.quad(walls[k][0], (2.0, 0, 0), (0, 1.0, 0), walls[k][1], paint(0.5))
        seen.append(picture.panoptic)
    np.testing.assert_array_equal(*seen)
    assert seen[0][4, 10] == 2


def test_coordinates_and_depth_of_the_ground(canvas):
    found = []

    def shade(a, b, z):
        found.append((a, b, z))
        return np.zeros((len(a), 3), np.float32), None

    # The ground 1 m below, from 2 to 10 m: row 10 (5 below the axis) looks at 10 / 5 = 2 m, row 6 at 10 m.
    canvas.quad((-5.0, -1.0, 2.0), (10.0, 0, 0), (0, 0, 8.0), 1, shade)
    assert sorted(np.unique(np.nonzero(canvas.panoptic == 1)[0]).tolist()) == [6, 7, 8, 9, 10]
    np.testing.assert_allclose(canvas.depth[:, 10][6:], [10, 5, 10 / 3, 2.5, 2], rtol=1e-5)
    a, b, z = found[0]
    np.testing.assert_allclose(b, (z - 2) / 8, atol=1e-5)
    assert a.min() >= 0 and a.max() <= 1


def test_nothing_behind_the_camera_and_no_crash_across_it(canvas):
    canvas.quad((-1.0, -1.0, -5.0), (2.0, 0, 0), (0, 2.0, 0), 1, paint(0.5))
    assert (canvas.panoptic == 7).all()
    canvas.quad((1.0, -1.0, -5.0), (0, 0, 50.0), (0, 2.0, 0), 1, paint(0.5))  # a wall along the way
    rows, columns = np.nonzero(canvas.panoptic == 1)
    assert len(rows) and columns.min() > 10  # to the right only
    assert canvas.depth.min() > synthetic_canvas.NEAR


def test_a_shader_cuts_out(canvas):
    canvas.quad((-1.0, 0.0, 5.0), (2.0, 0, 0), (0, 1.0, 0), 1, lambda a, b, z: (np.zeros((len(a), 3)), a < 0.45))
    assert sorted(set(np.nonzero(canvas.panoptic == 1)[1].tolist())) == [8, 9]


def test_a_shadow_changes_colours_alone(canvas):
    canvas.quad((-5.0, -1.0, 2.0), (10.0, 0, 0), (0, 0, 8.0), 1, paint(0.8))
    before = canvas.panoptic.copy(), canvas.depth.copy()
    canvas.darken((-0.5, -0.99, 2.0), (1.0, 0, 0), (0, 0, 8.0), lambda a, b: np.full(len(a), 0.5, np.float32))
    np.testing.assert_array_equal(canvas.panoptic, before[0])
    np.testing.assert_array_equal(canvas.depth, before[1])
    np.testing.assert_allclose(canvas.image[8, 10], 0.4, rtol=1e-6)
    np.testing.assert_allclose(canvas.image[8, 0], 0.8, rtol=1e-6)


def test_noise_is_even_and_periodic():
    tile = synthetic_canvas.noise_tile()
    assert tile.shape == (256, 256, 2) and tile.dtype == np.float32
    np.testing.assert_allclose(np.quantile(tile[..., 0], [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=1e-3)
    u = np.array([-3.2, 0.0, 17.9])
    np.testing.assert_array_equal(synthetic_canvas.noise(u, u, 0), synthetic_canvas.noise(u + 256, u - 512, 0))
