"""Tracks of a video over its frames: which predicted id follows each object, and where it changes; drawn as SVG.

An object is followed by the prediction that it has an IoU above one half with, of whatever class. As in STQ ("STEP",
Weber et al., 2021, arXiv 2102.11859) a label is a class and an id, so another class is another track. It switches
where that label is another one than the last time it was followed, any number of frames ago.
"""

from __future__ import annotations

import collections
import colorsys
import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

_ROW, _BAR, _LEFT, _WIDTH, _TOP = 20, 13, 190, 900, 8


class Track(NamedTuple):
    """One ground-truth object: the frames it is in, ascending, and the predicted label there (None: lost)."""

    label: int
    frames: Sequence[int]  # positions in the sequence, from 0
    followed: Sequence[int | None]

    def switches(self) -> list[int]:
        """The frames (as in `frames`) where another label takes over."""
        found, last = [], None
        for frame, label in zip(self.frames, self.followed):
            if label is not None:
                if last is not None and label != last:
                    found.append(frame)
                last = label
        return found

    def held(self) -> int:
        """Frames in which the label that follows most follows."""
        counts = collections.Counter(label for label in self.followed if label is not None)
        return max(counts.values(), default=0)


class Timeline(NamedTuple):
    """All tracks of one sequence, in the order of their first frames."""

    name: str
    frames: Sequence[int]  # the frames' own numbers
    tracks: Sequence[Track]

    @property
    def score(self) -> float:
        """Share of the objects' frames in which they are followed by one and the same label each."""
        return sum(track.held() for track in self.tracks) / max(sum(len(track.frames) for track in self.tracks), 1)

    @property
    def num_switches(self) -> int:
        """Switches of all tracks."""
        return sum(len(track.switches()) for track in self.tracks)


class Worst:
    """The sequences whose objects are followed worst; only those are kept."""

    def __init__(self, keep: int):
        """Keeps `keep` sequences."""
        self._keep = keep
        self._num_switches = 0  # of the sequences that have ended
        self._names: set[str] = set()
        self._found: list[Timeline] = []
        self._open = ""
        self._frames: list[int] = []
        self._tracks: dict[int, tuple[list[int], list[int | None]]] = {}

    @property
    def num_sequences(self) -> int:
        """Sequences so far."""
        return len(self._names)

    @property
    def num_switches(self) -> int:
        """Switches in all sequences."""
        return self._num_switches + self._current().num_switches

    def add(self, sequence: str, frame: int, followed: Mapping[int, int | None]) -> None:
        """Adds a frame: ground-truth label -> predicted label, None where nothing follows it.

        Raises:
            ValueError: frames are not in order, or a sequence comes back after another one.
        """
        if sequence != self._open:
            if sequence in self._names:
                raise ValueError(f"Sequence {sequence!r} comes in pieces; add all of its frames one after another.")
            self._found, self._num_switches = self.timelines(), self.num_switches
            self._open, self._frames, self._tracks = sequence, [], {}
            self._names.add(sequence)
        if self._frames and frame <= self._frames[-1]:
            raise ValueError(f"Sequence {sequence!r}: frame {frame} comes after frame {self._frames[-1]}.")
        for label, prediction in followed.items():
            frames, labels = self._tracks.setdefault(label, ([], []))
            frames.append(len(self._frames))
            labels.append(prediction)
        self._frames.append(frame)

    def merge(self, other: Worst) -> None:
        """Adds what another one collected.

        Raises:
            ValueError: a sequence is in both.
        """
        if twice := self._names & other._names:
            raise ValueError(f"Sequence {min(twice)!r} comes in pieces; add all of its frames one after another.")
        self._names |= other._names
        self._num_switches += other.num_switches
        self._found = self._worst_of([*self._found, *other.timelines()])

    def timelines(self) -> list[Timeline]:
        """The worst sequences, worst first; those without an object are left out."""
        return self._worst_of([*self._found, self._current()])

    def _current(self) -> Timeline:
        """The sequence that is open, as far as it is known."""
        tracks = [Track(label, tuple(frames), tuple(labels)) for label, (frames, labels) in self._tracks.items()]
        return Timeline(self._open, tuple(self._frames), sorted(tracks, key=lambda t: (t.frames[0], t.label)))

    def _worst_of(self, found: Sequence[Timeline]) -> list[Timeline]:
        with_objects = [timeline for timeline in found if timeline.tracks]
        return sorted(with_objects, key=lambda t: (t.score, -t.num_switches, t.name))[: self._keep]


def svg(
    timeline: Timeline, *, name_of: Callable[[int], str], class_of: Callable[[int], int], max_tracks: int = 40
) -> str:
    """A bar per object over the frames.

    Frames followed by one label have one colour, other labels other colours; stripes mean a wrong class, an empty
    outline that nothing follows, and a dark mark a switch.

    Args:
        timeline: what to draw.
        name_of: the name of a label.
        class_of: the class of a label.
        max_tracks: draws the longest tracks only.
    """
    longest = sorted(timeline.tracks, key=lambda track: -len(track.frames))[:max_tracks]
    tracks = [track for track in timeline.tracks if track in longest]
    colors = _colors(tracks)
    bottom = _TOP + _ROW * len(tracks)
    scale = (_WIDTH - _LEFT) / max(len(timeline.frames), 1)
    alt = html.escape(f"Tracks of {timeline.name}", quote=True)
    stripes = "stripes-" + re.sub(r"[^A-Za-z0-9]", "-", timeline.name)  # ids are shared by all drawings of a page
    body = [
        f'<svg viewBox="0 0 {_WIDTH} {bottom + 24}" role="img" aria-label="{alt}">',
        f'<defs><pattern id="{stripes}" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="3" height="6" fill="#fff" fill-opacity="0.75"/></pattern></defs>',
    ]
    for row, track in enumerate(tracks):
        y = _TOP + _ROW * row
        name = html.escape(name_of(track.label))
        body.append(f'<text x="{_LEFT - 10}" y="{y + _BAR - 2}" text-anchor="end" class="tick">{name}</text>')
        for first, last, label in _stretches(track):
            x, width = _LEFT + first * scale, (last - first + 1) * scale
            span = f"frame {timeline.frames[first]}" + (f" to {timeline.frames[last]}" if last > first else "")
            place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}"'
            if label is None:
                title = f"<title>{name}, {span}: lost</title>"
                body.append(f'<rect {place} class="lost">{title}</rect>')
                continue
            title = f"<title>{name}, {span}: {html.escape(name_of(label))}</title>"
            body.append(f'<rect {place} fill="{colors[label]}">{title}</rect>')
            if class_of(label) != class_of(track.label):
                body.append(f'<rect {place} fill="url(#{stripes})" pointer-events="none"/>')
        for frame in track.switches():
            x = _LEFT + frame * scale
            body.append(f'<rect x="{x - 1.5:.1f}" y="{y - 3}" width="3" height="{_BAR + 6}" class="switch"/>')
    for position, anchor in ((0, "start"), (len(timeline.frames) - 1, "end")):
        x = _LEFT if anchor == "start" else _WIDTH
        text = f"frame {timeline.frames[position]}"
        body.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="{anchor}" class="tick">{text}</text>')
    left_out = len(timeline.tracks) - len(tracks)
    note = f'<p class="lead">{left_out} shorter tracks are not drawn.</p>' if left_out else ""
    return "".join([*body, "</svg>", note])


def _stretches(track: Track) -> list[tuple[int, int, int | None]]:
    """Frames in a row that one label follows: first, last, label."""
    found: list[tuple[int, int, int | None]] = []
    for frame, label in zip(track.frames, track.followed):
        if found and found[-1][1] == frame - 1 and found[-1][2] == label:
            found[-1] = (found[-1][0], frame, label)
        else:
            found.append((frame, frame, label))
    return found


def _colors(tracks: Sequence[Track]) -> dict[int, str]:
    """A colour per predicted label, neighbours in the order of appearance far apart."""
    labels = dict.fromkeys(label for track in tracks for label in track.followed if label is not None)
    colors = {}
    for number, label in enumerate(labels):
        hue = (0.58 + number * 0.618034) % 1.0
        red, green, blue = colorsys.hls_to_rgb(hue, 0.45 + 0.1 * (number % 3), 0.62)
        colors[label] = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
    return colors
