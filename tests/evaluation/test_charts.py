import xml.etree.ElementTree

import pytest

from evaluation import charts


def test_ticks_are_round_and_enclose():
    assert charts.ticks(0, 97, 5) == [0, 25, 50, 75, 100]
    assert charts.ticks(0.013, 0.048, 5) == [0.01, 0.02, 0.03, 0.04, 0.05]
    assert charts.ticks(3, 3, 5)[0] <= 3 < charts.ticks(3, 3, 5)[-1]
    assert charts.ticks(-1, 1, 5) == [-1, -0.5, 0, 0.5, 1]


def test_short_numbers():
    assert [charts.short(v) for v in (0, 0.5, 25000, 0.001, 7.5e-5, 100)] == [
        "0",
        "0.5",
        "25k",
        "1e-3",
        "7.5e-5",
        "100",
    ]


def test_points_lie_where_they_should():
    chart = charts.Chart("PQ <all>", {"pq": [(0, 0.0), (50, 0.5), (100, 1.0)]}, percent=True)
    root = xml.etree.ElementTree.fromstring(charts.svg(chart))
    points = [tuple(map(float, p.split(","))) for p in root.find("polyline").get("points").split()]
    left, middle, right = points
    assert middle == pytest.approx(((left[0] + right[0]) / 2, (left[1] + right[1]) / 2), abs=0.1)
    assert right[1] < left[1]  # up
    assert [t.text for t in root.findall("text")] == ["0", "25", "50", "75", "100", "0", "20", "40", "60", "80", "100"]
    assert "100.0" in charts.legend(chart)


@pytest.mark.parametrize("series", [{}, {"loss": []}, {"loss": [(1, float("nan"))]}])
def test_nothing_to_draw(series):
    assert "no values yet" in charts.svg(charts.Chart("loss", series))


def test_values_that_are_not_finite_leave_gaps():
    text = charts.svg(charts.Chart("loss", {"loss": [(0, 1.0), (1, float("inf")), (2, 3.0)]}))
    assert len(xml.etree.ElementTree.fromstring(text).find("polyline").get("points").split()) == 2
