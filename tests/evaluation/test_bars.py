import xml.etree.ElementTree

from evaluation import bars


def test_stacked_bar_has_a_part_per_value():
    text = bars.stacked([bars.Slice("a & b", 0.25, (1, 2, 3)), bars.Slice("none", 0.0, (0, 0, 0))])
    parts = xml.etree.ElementTree.fromstring(text).findall("i")
    assert [part.get("title") for part in parts] == ["a & b: 25.0"]
    assert parts[0].get("style") == "width:25.00%;background:rgb(1, 2, 3)"


def rects(heat):
    root = xml.etree.ElementTree.fromstring(bars.heat_map(heat))
    return root.findall("rect"), [text.text for text in root.findall("text")]


def test_heat_map():
    cells, texts = rects(bars.Heat(["car", "<bus>"], ["car", "<bus>", "nothing"], [[0.5, 0.5, 0], [0.004, 0.996, 0]]))
    assert [cell.find("title").text for cell in cells[:2]] == ["car as car: 50.00 %", "car as <bus>: 50.00 %"]
    # Equal shares, but one of them is right: grey, not orange.
    assert cells[0].get("fill") != cells[1].get("fill")
    assert cells[2].get("fill") == "#f6f6f6"
    assert texts == ["car", "<bus>", "nothing", "car", "50", "50", "<bus>", "100"]


def test_many_classes_are_drawn_small_and_without_numbers():
    names = [f"a class with a long name {i}" for i in range(40)]
    cells, texts = rects(bars.Heat(names, names, [[0.5] * 40] * 40))
    assert len(cells) == 1600 and len(texts) == 80
    assert texts[0] == "a class with a long…"
