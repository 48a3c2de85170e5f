import xml.etree.ElementTree

import pytest

from evaluation import timelines

CAR, BUS, PERSON = 101, 201, 301


def filled(sequences, keep=5):
    """Sequence -> list of frames: object -> what follows it."""
    worst = timelines.Worst(keep)
    for name, frames in sequences.items():
        for number, followed in enumerate(frames):
            worst.add(name, 10 * number, followed)
    return worst


def test_switches_by_hand():
    # Lost frames in between do not hide a switch, and going back to the first id is another one.
    track = timelines.Track(CAR, [0, 1, 2, 3, 5, 6], [101, None, 101, 105, None, 101])
    assert track.switches() == [3, 6]
    assert track.held() == 3
    assert timelines.Track(CAR, [0, 1], [None, None]).switches() == []
    assert timelines.Track(CAR, [0, 1], [None, None]).held() == 0


def test_worst_sequences_first():
    good = [{CAR: 101}, {CAR: 101}]
    lost = [{CAR: 101}, {CAR: None}]
    switched = [{CAR: 101, BUS: 201}, {CAR: 102, BUS: 201}]
    worst = filled({"good": good, "lost": lost, "empty": [{}], "switched": switched}, keep=2)
    assert [(t.name, t.score, t.num_switches) for t in worst.timelines()] == [("lost", 0.5, 0), ("switched", 0.75, 1)]
    assert (worst.num_sequences, worst.num_switches) == (4, 1)


def test_merging_is_the_same_as_one_run():
    sequences = {f"s{i}": [{CAR: 101}] * i + [{CAR: None}] for i in range(5)}
    whole = filled(sequences, keep=3)
    one, other = (filled({n: sequences[n] for n in part}, keep=3) for part in (("s3", "s1"), ("s0", "s4", "s2")))
    one.merge(other)
    assert one.timelines() == whole.timelines()
    assert one.num_sequences == whole.num_sequences == 5
    with pytest.raises(ValueError, match="'s0' comes in pieces"):
        one.merge(other)


def test_frames_out_of_order():
    worst = timelines.Worst(1)
    worst.add("a", 4, {})
    with pytest.raises(ValueError, match="'a': frame 4 comes after frame 4"):
        worst.add("a", 4, {})


def draw(timeline, **options):
    names = {1: "car", 2: "bus", 3: "person"}
    text = timelines.svg(
        timeline, name_of=lambda i: f"{names[i // 100]} <{i % 100}>", class_of=lambda i: i // 100, **options
    )
    end = text.index("</svg>") + len("</svg>")
    return xml.etree.ElementTree.fromstring(text[:end]), text[end:]


def test_drawing():
    frames = [{CAR: 101}, {CAR: 101, PERSON: None}, {CAR: 102, PERSON: 101}, {PERSON: 101}]
    (timeline,) = filled({"a & b": frames}).timelines()
    root, note = draw(timeline)
    bars = [r for r in root.findall("rect") if r.find("title") is not None]
    assert [bar.find("title").text for bar in bars] == [
        "car <1>, frame 0 to 10: car <1>",
        "car <1>, frame 20: car <2>",
        "person <1>, frame 10: lost",
        "person <1>, frame 20 to 30: car <1>",
    ]
    widths = [float(bar.get("width")) for bar in bars]
    assert widths[0] == widths[3] == pytest.approx(2 * widths[1], abs=0.2)
    fills = [bar.get("fill") for bar in bars]
    assert fills[0] == fills[3] != fills[1] and bars[2].get("class") == "lost"
    # The person is taken for a car: striped. The car's id changes once: one mark.
    assert len([r for r in root.findall("rect") if r.get("fill") == "url(#stripes-a---b)"]) == 1
    marks = [r for r in root.findall("rect") if r.get("class") == "switch"]
    assert [float(m.get("x")) + 1.5 for m in marks] == [float(bars[1].get("x"))]
    assert note == ""


def test_only_the_longest_tracks_are_drawn():
    (timeline,) = filled({"a": [{CAR: 101, BUS: 201}, {BUS: 201}]}).timelines()
    root, note = draw(timeline, max_tracks=1)
    assert [t.text for t in root.findall("text")] == ["bus <1>", "frame 0", "frame 10"]
    assert "1 shorter tracks" in note


def test_looking_changes_nothing():
    worst = timelines.Worst(3)
    worst.add("a", 0, {CAR: 101})
    assert (worst.num_switches, worst.timelines()[0].frames) == (0, (0,))
    worst.add("a", 1, {CAR: 102})
    assert (worst.num_sequences, worst.num_switches, worst.timelines()[0].frames) == (1, 1, (0, 1))
