import dataclasses

import numpy as np
import pytest

from deeplab2_kmax import visualize
from evaluation import error_analysis, error_findings, error_pictures
from evaluation.error_findings import Kind
from tests.evaluation.small_errors import DATASET, VOID

SIZE = (20, 40)


def example(true, pred, image=None):
    load = None if image is None else lambda: image
    return error_analysis.Example("a", 0.5, (), error_findings.runs(true, pred), load)


def halves(left, right):
    """A map whose left and right halves are of one label each."""
    labels = np.full(SIZE, left)
    labels[:, SIZE[1] // 2 :] = right
    return labels


def errors(true, pred, dataset=DATASET, image=None):
    return error_pictures.panels(example(true, pred, image), dataset)["errors"]


def mixed(kind, grey, opacity):
    return (np.full(3, grey) * (1 - opacity) + np.array(error_pictures.COLORS[kind]) * opacity).astype(int)


@pytest.mark.parametrize(
    ("left", "kind"),
    [
        ((21, 31), Kind.WRONG_CLASS),
        ((21, VOID), Kind.MISSED),
        ((10, VOID), Kind.MISSED),
    ],
)
def test_a_segment_has_the_colour_of_its_error(left, kind):
    true, pred = halves(left[0], 0), halves(left[1], 0)
    picture = errors(true, pred)
    background = error_pictures._GREY * error_pictures._FADED
    assert picture[2, 3].tolist() == mixed(kind, background, 0.75).tolist()
    assert picture[2, -3].tolist() == [int(background)] * 3  # right
    # Outlined, where it is not written over.
    assert picture[0, SIZE[1] // 2 - 1].tolist() == [255] * 3


def test_two_errors_in_one_place_are_striped():
    true, pred = halves(21, 0), halves(21, 0)
    true[:, :2], pred[:] = 22, 0
    pred[2:9, 3:12] = 31
    picture = errors(true, pred)
    colors = {tuple(color) for color in picture[3:8, 4:11].reshape(-1, 3).tolist()}
    background = error_pictures._GREY * error_pictures._FADED
    for kind in (Kind.MISSED, Kind.FALSE):
        assert tuple(mixed(kind, background, 0.75)) in colors


def test_false_positives_and_inexact_matches():
    true = halves(21, 0)
    pred = np.roll(true, 3, axis=1)  # 3 columns of either become the other
    pred[5:15, 30:38] = 31
    kinds = error_findings.find(error_findings.runs(true, pred), DATASET).overlaps
    assert {Kind(k) for k in kinds.kinds.ravel()} == {Kind.MATCHED, Kind.INEXACT, Kind.FALSE}
    picture = errors(true, pred)
    background = error_pictures._GREY * error_pictures._FADED
    assert picture[12, 20].tolist() == mixed(Kind.INEXACT, background, 0.55).tolist()
    assert picture[6, 31].tolist() == mixed(Kind.FALSE, background, 0.75).tolist()


def test_plain_classes():
    dataset = dataclasses.replace(DATASET, label_divisor=1)
    true, pred = halves(2, 0), halves(3, 255)
    picture = errors(true, pred, dataset)
    background = error_pictures._GREY * error_pictures._FADED
    assert picture[0, 1].tolist() == mixed(Kind.WRONG_CLASS, background, 0.75).tolist()
    assert picture[0, -2].tolist() == mixed(Kind.MISSED, background, 0.75).tolist()


def test_panels():
    true, pred = halves(21, VOID), halves(21, 0)
    image = np.full((*SIZE, 3), 200, np.uint8)
    panels = error_pictures.panels(example(true, pred, image), DATASET)
    assert list(panels) == ["image", "ground truth", "prediction", "errors"]
    assert all(panel.shape == (*SIZE, 3) and panel.dtype == np.uint8 for panel in panels.values())
    assert panels["ground truth"][5, -1].tolist() == [200] * 3  # void lets the picture through
    assert panels["prediction"][5, -1].tolist() != [200] * 3
    # The same object has the same colour in both.
    np.testing.assert_array_equal(panels["ground truth"][:, :15], panels["prediction"][:, :15])
    assert list(error_pictures.panels(example(true, pred), DATASET)) == ["ground truth", "prediction", "errors"]


def test_what_is_written(monkeypatch):
    written = []
    monkeypatch.setattr(
        visualize, "draw_names", lambda picture, ids, names, **_: written.append((ids, names)) or picture
    )
    true = np.array([[21] * 8 + [22] * 8 + [23] * 8 + [0] * 20]).repeat(16, axis=0)
    pred = np.array([[31] * 8 + [VOID] * 8 + [24] * 3 + [0] * 23 + [32] * 2]).repeat(16, axis=0)
    errors(true, pred)
    ((ids, names),) = written
    assert [names.get(i) for i in ids[0, [0, 8, 16, -1]]] == [
        "car, not truck",
        "missed: car",
        "poor: car",
        "false: truck",
    ]
    assert names.get(ids[0, 24]) is None
