"""The IoU tracker against DeepLab2."""

from tests.parity import tracking


def test_tracks_are_those_of_deeplab2():
    assert [row for row in tracking.measure("eager") if not row.share <= 1] == []
