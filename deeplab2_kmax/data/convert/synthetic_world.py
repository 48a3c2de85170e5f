"""What there is in a procedural street, and where: road, houses, plants, vehicles, people and weather, all by seed.

Coordinates follow the road: `s` metres along it, `u` metres to the right of its middle. The camera starts at s = 0.
"""

from __future__ import annotations

import dataclasses

import numpy as np

ROAD, SIDEWALK, BUILDING, VEGETATION, TERRAIN, SKY, CAR, BUS, PERSON = range(9)

_STRETCH = 330.0  # metres of road that a scene describes: enough for a video of 15 seconds
_CAR_COLORS = (
    ((0.86, 0.86, 0.87), 5),
    ((0.08, 0.08, 0.09), 4),
    ((0.45, 0.46, 0.48), 4),
    ((0.62, 0.08, 0.07), 3),
    ((0.08, 0.17, 0.45), 3),
    ((0.7, 0.63, 0.48), 1),
    ((0.1, 0.3, 0.2), 1),
    ((0.85, 0.66, 0.08), 1),
    ((0.75, 0.35, 0.1), 1),
)
_BUS_COLORS = (
    ((0.85, 0.7, 0.1), (0.15, 0.15, 0.15)),
    ((0.75, 0.12, 0.1), (0.9, 0.9, 0.88)),
    ((0.9, 0.9, 0.88), (0.1, 0.3, 0.6)),
    ((0.12, 0.4, 0.55), (0.9, 0.9, 0.88)),
)
_CLOTHES = (
    (0.75, 0.12, 0.12),
    (0.1, 0.2, 0.5),
    (0.9, 0.88, 0.82),
    (0.1, 0.1, 0.11),
    (0.85, 0.65, 0.12),
    (0.15, 0.45, 0.25),
    (0.5, 0.25, 0.5),
    (0.8, 0.4, 0.15),
)
_WALLS = (
    (0.66, 0.6, 0.5),
    (0.6, 0.36, 0.28),
    (0.52, 0.53, 0.55),
    (0.72, 0.7, 0.66),
    (0.5, 0.42, 0.36),
    (0.72, 0.6, 0.42),
    (0.44, 0.38, 0.4),
)
_GREENS = ((0.2, 0.36, 0.12), (0.28, 0.4, 0.12), (0.13, 0.3, 0.14), (0.36, 0.38, 0.12), (0.42, 0.32, 0.1))
_SKIN = ((0.85, 0.65, 0.52), (0.62, 0.43, 0.3), (0.4, 0.26, 0.18))


@dataclasses.dataclass(frozen=True)
class Light:
    """Time of day and weather."""

    sky_top: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    tint: tuple[float, float, float]
    gain: float
    sun: float  # share of directed light, 0: overcast
    fog: float  # metres at which half of the contrast is gone
    lit: float  # share of windows with the light on


_LIGHTS = (
    (Light((0.25, 0.47, 0.8), (0.72, 0.83, 0.93), (1.0, 0.98, 0.94), 1.0, 0.6, 900.0, 0.02), 4),
    (Light((0.62, 0.66, 0.71), (0.8, 0.82, 0.84), (0.96, 0.98, 1.0), 0.88, 0.15, 350.0, 0.05), 3),
    (Light((0.35, 0.42, 0.62), (0.96, 0.76, 0.56), (1.0, 0.88, 0.74), 0.88, 0.75, 600.0, 0.1), 2),
    (Light((0.13, 0.17, 0.32), (0.48, 0.38, 0.4), (0.78, 0.8, 1.0), 0.62, 0.1, 400.0, 0.35), 1),
)


@dataclasses.dataclass(frozen=True)
class Side:
    """The ground on one side of the road, as distances from the middle of the road."""

    kerb: float
    walk: float  # end of the sidewalk
    front: float  # where houses or the park begin
    built: bool

    @property
    def paved(self) -> float:
        """Where grass begins: at the sidewalk, or behind houses that stand on it."""
        return self.walk if not self.built or self.front > self.walk + 1.9 else self.front + 40.0


@dataclasses.dataclass(frozen=True)
class House:
    side: int
    s: float
    length: float
    front: float
    depth: float
    height: float
    color: tuple[float, ...]
    shop: tuple[float, ...]
    pitch: float
    window: tuple[float, float]
    offset: float


@dataclasses.dataclass(frozen=True)
class Plant:
    s: float
    u: float
    trunk: float
    width: float
    height: float
    color: tuple[float, ...]
    offset: float
    pointed: bool


@dataclasses.dataclass(frozen=True)
class Hedge:
    side: int
    s: float
    length: float
    u: float
    height: float
    color: tuple[float, ...]
    offset: float


@dataclasses.dataclass(frozen=True)
class Vehicle:
    class_id: int
    track: int
    s: float
    u: float
    speed: float  # metres per second along s
    heading: int  # +1: the way we drive, -1: towards us
    length: float
    width: float
    height: float
    waist: float  # height of the lower half
    slopes: tuple[float, float]
    color: tuple[float, ...]
    stripe: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Person:
    track: int
    s: float
    u: float
    speed_s: float
    speed_u: float
    height: float
    top: tuple[float, ...]
    trousers: tuple[float, ...]
    skin: tuple[float, ...]
    hair: tuple[float, ...]
    phase: float
    bag: bool


class World:
    """One street with all that is in it, fixed by its seed."""

    def __init__(self, seed: int):
        self.seed = seed
        self._random = random = np.random.RandomState(np.array([seed & 0xFFFFFFFF, seed >> 32, 7], np.uint32))
        self.light = _pick(random, _LIGHTS)
        self.sun_side = float(random.choice((-1.0, 1.0)))
        self.cloud = (random.uniform(0, 256), random.uniform(0, 256), random.uniform(0.25, 0.8))
        self.eye = random.uniform(1.35, 2.1)  # metres above the road
        self.horizon = random.uniform(0.38, 0.52)  # of the height
        self.focal = random.uniform(0.62, 0.9)  # of the width
        self.bend = random.uniform(-1, 1) ** 3 * 0.004  # 1 / radius
        lanes = int(random.choice((1, 1, 2)))
        self.lane = random.uniform(2.9, 3.4)
        self.half_road = lanes * self.lane + random.choice((0.3, 2.2))
        self.lanes = lanes
        self.eye_u = self.lane * (lanes - 0.5) + random.uniform(-0.3, 0.3)
        self.speed = float(random.choice((0.0, random.uniform(2, 10))))
        self.asphalt = random.uniform(0.24, 0.4) * np.array(
            [random.uniform(0.96, 1.04), 1.0, random.uniform(0.97, 1.08)]
        )
        self.paving = random.uniform(0.44, 0.62) * np.array([random.uniform(1.0, 1.1), 1.0, random.uniform(0.86, 0.98)])
        self.grass = np.array([random.uniform(0.28, 0.5), random.uniform(0.42, 0.54), random.uniform(0.14, 0.2)])
        self.green = _GREENS[random.randint(len(_GREENS))]
        self.marks = bool(random.random_sample() < 0.85)
        self.crossing = random.uniform(9, 60) if random.random_sample() < 0.35 else -1000.0
        self.hood = random.random_sample() < 0.12
        self.sides = {side: self._make_side() for side in (-1, 1)}
        self.skyline = (random.uniform(0, 256), random.random_sample() < 0.5, random.uniform(14, 30))
        self.houses: list[House] = []
        self.plants: list[Plant] = []
        self.hedges: list[Hedge] = []
        for side in (-1, 1):
            self._build(side)
        self.vehicles = self._make_traffic()
        self.people = self._make_people()

    def _make_side(self) -> Side:
        random = self._random
        kerb = self.half_road
        walk = kerb + random.uniform(1.8, 4.2)
        if random.random_sample() < 0.1:
            walk = kerb  # a country road without a sidewalk
        built = random.random_sample() < 0.68
        garden = random.choice((0.0, random.uniform(2.0, 7.0))) if built else random.uniform(4.0, 9.0)
        return Side(kerb=kerb, walk=walk, front=max(walk, kerb + 1.5) + garden, built=built)

    def _build(self, side: int) -> None:
        """Houses with gaps, or a park; trees and hedges in front of either."""
        random, ground = self._random, self.sides[side]
        tall = random.uniform(6, 16)
        s = random.uniform(-14, -4)
        while s < _STRETCH:
            length = random.uniform(8, 24)
            if ground.built:
                self.houses.append(
                    House(
                        side=side,
                        s=s,
                        length=length,
                        front=ground.front + random.choice((0.0, random.uniform(0, 1.5))),
                        depth=random.uniform(8, 16),
                        height=max(4.0, tall * random.uniform(0.6, 1.4)),
                        color=tuple(np.array(_WALLS[random.randint(len(_WALLS))]) * random.uniform(0.85, 1.15)),
                        shop=tuple(random.uniform(0.1, 0.7, 3)),
                        pitch=random.uniform(1.8, 3.4),
                        window=(random.uniform(0.35, 0.65), random.uniform(0.35, 0.55)),
                        offset=random.uniform(0, 256),
                    )
                )
            s += length + float(random.choice((0.0, 0.0, random.uniform(2, 10))))
        spacing = random.uniform(7, 16) if ground.built else random.uniform(4, 8)
        lively = random.random_sample() < (0.55 if ground.built else 0.95)
        pointed_share = random.choice((0.0, 0.6))
        s = random.uniform(2, 10)
        while lively and s < _STRETCH:
            height = random.uniform(2.6, 5.5)
            pointed = bool(random.random_sample() < pointed_share)
            out = ground.walk - 0.7 if ground.built else ground.front + random.uniform(-1.0, 8.0)
            if ground.built and ground.front > ground.walk + 2.5:
                out = random.uniform(ground.walk + 0.8, ground.front - 0.8)
            self.plants.append(
                Plant(
                    s=s,
                    u=side * max(out, ground.kerb + 0.8),
                    trunk=0.4 if pointed else random.uniform(1.6, 2.6),
                    width=height * (0.6 if pointed else random.uniform(0.8, 1.15)),
                    height=height * (1.5 if pointed else 1.0),
                    color=tuple(np.array(self.green) * random.uniform(0.8, 1.25)),
                    offset=random.uniform(0, 256),
                    pointed=pointed,
                )
            )
            s += spacing * random.uniform(0.7, 1.5)
        if ground.front > ground.walk + 1.2 and random.random_sample() < 0.6 or not ground.built:
            u = ground.walk + 0.8 if ground.built else ground.front + 9.0
            s = random.uniform(-5, 10)
            while s < _STRETCH:
                length = random.uniform(6, 22)
                height = random.uniform(0.8, 1.7) if ground.built else random.uniform(2.2, 4.5)
                color = tuple(np.array(self.green) * random.uniform(0.75, 1.1))
                self.hedges.append(Hedge(side, s, length, side * u, height, color, random.uniform(0, 256)))
                s += length + (random.uniform(1, 12) if ground.built else 0.0)

    def _make_traffic(self) -> list[Vehicle]:
        random = self._random
        counts = {CAR: 0, BUS: 0}
        vehicles: list[Vehicle] = []
        busy = random.uniform(0.25, 1.0)
        rows = []  # (u, heading, speed, first s, spacing)
        for lane in range(self.lanes):
            u = (lane + 0.5) * self.lane
            own = abs(u - self.eye_u) < 1.5
            rows.append((u, 1, self.speed + random.uniform(-2, 2), random.uniform(9 if own else 4, 32)))
            rows.append((-u, -1, random.uniform(3, 9), random.uniform(4, 30)))
        for side in (-1, 1):
            if self.half_road > self.lanes * self.lane + 1.5 and random.random_sample() < 0.85:
                rows.append((side * (self.half_road - 1.05), side, 0.0, random.uniform(1, 14)))
        for u, heading, speed, s in rows:
            parked = speed == 0.0
            while s < _STRETCH:
                if random.random_sample() < (0.75 if parked else busy):
                    class_id = BUS if random.random_sample() < (0.04 if parked else 0.22) else CAR
                    counts[class_id] += 1
                    if class_id == BUS:
                        color, stripe = _BUS_COLORS[random.randint(len(_BUS_COLORS))]
                        size = (random.uniform(8.5, 12), 2.5, random.uniform(2.9, 3.3))
                        waist, slopes = 0.0, (0.0, 0.0)
                    else:
                        stripe = (0.0, 0.0, 0.0)
                        color = tuple(np.clip(np.array(_pick(random, _CAR_COLORS)) * random.uniform(0.85, 1.15), 0, 1))
                        height = random.choice((1.42, 1.5, 1.68, 1.9)) + random.uniform(-0.04, 0.04)
                        size = (random.uniform(3.7, 4.8), random.uniform(1.66, 1.86), height)
                        waist = height * random.uniform(0.55, 0.62)
                        slopes = (random.uniform(0.06, 0.3), random.uniform(0.2, 0.34))
                    length, width, height = size
                    vehicles.append(
                        Vehicle(
                            class_id=class_id,
                            track=counts[class_id],
                            s=s + length / 2,
                            u=u + random.uniform(-0.2, 0.2),
                            speed=0.0 if parked else heading * abs(speed),
                            heading=heading,
                            length=length,
                            width=width,
                            height=height,
                            waist=waist,
                            slopes=slopes,
                            color=color,
                            stripe=stripe,
                        )
                    )
                    s += length
                s += random.uniform(0.8, 4.0) if parked else random.uniform(7, 28)
        return vehicles

    def _make_people(self) -> list[Person]:
        random = self._random
        people: list[Person] = []
        crowd = random.uniform(0.25, 1.0)

        def add(s: float, u: float, speed_s: float, speed_u: float) -> None:
            people.append(
                Person(
                    track=len(people) + 1,
                    s=s,
                    u=u,
                    speed_s=speed_s,
                    speed_u=speed_u,
                    height=random.uniform(1.55, 1.92) if random.random_sample() < 0.9 else random.uniform(1.1, 1.4),
                    top=_CLOTHES[random.randint(len(_CLOTHES))],
                    trousers=tuple(np.array(_CLOTHES[random.randint(len(_CLOTHES))]) * 0.45),
                    skin=_SKIN[random.randint(len(_SKIN))],
                    hair=tuple(np.array((0.3, 0.2, 0.12)) * random.uniform(0.2, 1.6)),
                    phase=random.uniform(0, 1),
                    bag=bool(random.random_sample() < 0.3),
                )
            )

        for side in (-1, 1):
            ground = self.sides[side]
            s = random.uniform(4, 14)
            while ground.walk > ground.kerb and s < _STRETCH:
                if random.random_sample() < crowd:
                    walk = float(random.choice((-1.0, 0.0, 1.0))) * random.uniform(0.9, 1.6)
                    u = side * random.uniform(ground.kerb + 0.4, ground.walk - 0.4)
                    add(s, u, walk, 0.0)
                s += random.uniform(3, 15)
        if random.random_sample() < 0.3:  # someone crosses the road
            s = self.crossing + 1.5 if self.crossing > 0 else random.uniform(9, 28)
            for _ in range(random.randint(1, 4)):
                add(
                    s + random.uniform(-1, 1),
                    random.uniform(-0.8, 0.8) * self.half_road,
                    0.0,
                    float(random.choice((-1.2, 1.2))),
                )
        return people


def _pick(random: np.random.RandomState, weighted):
    """One of (value, weight) pairs."""
    total = sum(weight for _, weight in weighted)
    place = random.random_sample() * total
    for value, weight in weighted:
        place -= weight
        if place < 0:
            return value
    return weighted[-1][0]
