"""Points in space, worked out by hand."""

import numpy as np
import pytest

from deeplab2_kmax.serving import point_cloud


def test_a_pixel_is_a_ray():
    camera = point_cloud.parse_camera("2, 4,1,0")
    depth = np.array([[8.0, 8.0, 2.0], [0.0, 1.0, 4.0]])
    expected = [[[-4, 0, 8], [0, 0, 8], [1, 0, 2]], [[0, 0, 0], [0, 0.25, 1], [2, 1, 4]]]
    found = point_cloud.points(depth, camera)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected)


def test_the_file_holds_what_is_known(tmp_path):
    places = np.array([[1, 2, 3], [4, 5, 0], [-1, 0, 9]], np.float32)
    colors = np.array([[1, 2, 3], [4, 5, 6], [250, 8, 9]], np.uint8)
    path = tmp_path / "points.ply"
    assert point_cloud.write_ply(path, places, colors) == 2
    header, body = path.read_bytes().split(b"end_header\n")
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty float x\n")
    assert body == (
        np.array([1, 2, 3], "<f4").tobytes() + bytes([1, 2, 3]) + np.array([-1, 0, 9], "<f4").tobytes()
        + bytes([250, 8, 9])
    )  # fmt: skip


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "0,1,2,3", "nan,1,1,1", ""])
def test_what_is_no_camera(text):
    with pytest.raises(ValueError, match="expected a camera fx,fy,cx,cy"):
        point_cloud.parse_camera(text)
