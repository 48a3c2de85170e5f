"""Procedural street scenes: a seed gives a small world of roads, houses, plants, vehicles and people that moves.

A scene is drawn at any time, so pictures, video with stable track ids, panoptic labels and depth come from one source.
World coordinates follow the road: `s` metres along it, `u` metres to the right of its middle, y up.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from deeplab2_kmax.data.convert import synthetic_canvas, synthetic_surfaces

ROAD, SIDEWALK, BUILDING, VEGETATION, TERRAIN, SKY, CAR, BUS, PERSON = range(9)
IGNORE_LABEL = 255
LABEL_DIVISOR = 1000
FRAMES_PER_SECOND = 10

_VISIBLE_AHEAD = 130.0  # metres; beyond it there is only the skyline
_VEHICLES_AHEAD = 50.0  # farther ones would be specks
_PEOPLE_AHEAD = 26.0
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
class _Light:
    """Time of day and weather."""

    sky_top: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    tint: tuple[float, float, float]
    gain: float
    sun: float  # share of directed light, 0: overcast
    fog: float  # metres at which half of the contrast is gone
    lit: float  # share of windows with the light on


_LIGHTS = (
    (_Light((0.25, 0.47, 0.8), (0.72, 0.83, 0.93), (1.0, 0.98, 0.94), 1.0, 0.6, 900.0, 0.02), 4),
    (_Light((0.62, 0.66, 0.71), (0.8, 0.82, 0.84), (0.96, 0.98, 1.0), 0.88, 0.15, 350.0, 0.05), 3),
    (_Light((0.35, 0.42, 0.62), (0.96, 0.76, 0.56), (1.0, 0.88, 0.74), 0.88, 0.75, 600.0, 0.1), 2),
    (_Light((0.13, 0.17, 0.32), (0.48, 0.38, 0.4), (0.78, 0.8, 1.0), 0.62, 0.1, 400.0, 0.35), 1),
)


@dataclasses.dataclass(frozen=True)
class _Side:
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
class _House:
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
class _Plant:
    s: float
    u: float
    trunk: float
    width: float
    height: float
    color: tuple[float, ...]
    offset: float
    pointed: bool


@dataclasses.dataclass(frozen=True)
class _Hedge:
    side: int
    s: float
    length: float
    u: float
    height: float
    color: tuple[float, ...]
    offset: float


@dataclasses.dataclass(frozen=True)
class _Vehicle:
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
class _Person:
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


class Scene:
    """One street, fixed by its seed.

    Args:
        seed: any integer >= 0; the same seed is the same world at every size.
        height, width: pixels of the pictures.
    """

    def __init__(self, seed: int, *, height: int, width: int):
        if height < 33 or width < 33:
            raise ValueError(f"Pictures of at least 33 x 33 pixels are needed, not {height} x {width}.")
        self.seed, self.height, self.width = seed, height, width
        self._random = random = np.random.RandomState(np.array([seed & 0xFFFFFFFF, seed >> 32, 7], np.uint32))
        self._light = _pick(random, _LIGHTS)
        self._sun_side = float(random.choice((-1.0, 1.0)))
        self._cloud = (random.uniform(0, 256), random.uniform(0, 256), random.uniform(0.25, 0.8))
        self._eye = random.uniform(1.35, 2.1)  # metres above the road
        self._horizon = random.uniform(0.38, 0.52)  # of the height
        self._focal = random.uniform(0.62, 0.9)  # of the width
        self._bend = random.uniform(-1, 1) ** 3 * 0.004  # 1 / radius
        lanes = int(random.choice((1, 1, 2)))
        self._lane = random.uniform(2.9, 3.4)
        self._half_road = lanes * self._lane + random.choice((0.3, 2.2))
        self._lanes = lanes
        self._eye_u = self._lane * (lanes - 0.5) + random.uniform(-0.3, 0.3)
        self._speed = float(random.choice((0.0, random.uniform(2, 10))))
        self._asphalt = random.uniform(0.24, 0.4) * np.array(
            [random.uniform(0.96, 1.04), 1.0, random.uniform(0.97, 1.08)]
        )
        self._paving = random.uniform(0.44, 0.62) * np.array(
            [random.uniform(1.0, 1.1), 1.0, random.uniform(0.86, 0.98)]
        )
        self._grass = np.array([random.uniform(0.28, 0.5), random.uniform(0.42, 0.54), random.uniform(0.14, 0.2)])
        self._green = _GREENS[random.randint(len(_GREENS))]
        self._marks = bool(random.random_sample() < 0.85)
        self._crossing = random.uniform(9, 60) if random.random_sample() < 0.35 else -1000.0
        self._hood = random.random_sample() < 0.12
        self._sides = {side: self._make_side() for side in (-1, 1)}
        self._skyline = (random.uniform(0, 256), random.random_sample() < 0.5, random.uniform(14, 30))
        self._houses: list[_House] = []
        self._plants: list[_Plant] = []
        self._hedges: list[_Hedge] = []
        for side in (-1, 1):
            self._build(side)
        self._vehicles = self._make_traffic()
        self._people = self._make_people()

    @property
    def num_tracks(self) -> int:
        """Vehicles and people in this world, seen or not."""
        return len(self._vehicles) + len(self._people)

    def render(self, time: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The scene after `time` seconds.

        Returns:
            image [h, w, 3] uint8, panoptic [h, w] int32 (class * 1000 + track, void 255000) and depth [h, w] float32
            in metres, 0 where there is none (sky).
        """
        focal = self._focal * max(self.width, 1.6 * self.height)
        canvas = synthetic_canvas.Canvas(
            self.height,
            self.width,
            focal=focal,
            horizon=self._horizon * (self.height - 1),
            background=SKY * LABEL_DIVISOR,
        )
        view = _View(self, canvas, time)
        view.sky()
        view.ground()
        view.skyline()
        for vehicle in self._vehicles:
            view.shadow(*view.where(vehicle), vehicle.length, vehicle.width, _VEHICLES_AHEAD)
        for person in self._people:
            view.shadow(*view.where(person), 0.5, 0.6, _PEOPLE_AHEAD)
        for house in self._houses:
            view.house(house)
        for hedge in self._hedges:
            view.hedge(hedge)
        for plant in self._plants:
            view.plant(plant)
        for vehicle in self._vehicles:
            view.vehicle(vehicle)
        for person in self._people:
            view.person(person)
        return view.finish(self._hood)

    def _make_side(self) -> _Side:
        random = self._random
        kerb = self._half_road
        walk = kerb + random.uniform(1.8, 4.2)
        if random.random_sample() < 0.1:
            walk = kerb  # a country road without a sidewalk
        built = random.random_sample() < 0.68
        garden = random.choice((0.0, random.uniform(2.0, 7.0))) if built else random.uniform(4.0, 9.0)
        return _Side(kerb=kerb, walk=walk, front=max(walk, kerb + 1.5) + garden, built=built)

    def _build(self, side: int) -> None:
        """Houses with gaps, or a park; trees and hedges in front of either."""
        random, ground = self._random, self._sides[side]
        tall = random.uniform(6, 16)
        s = random.uniform(-14, -4)
        while s < _STRETCH:
            length = random.uniform(8, 24)
            if ground.built:
                self._houses.append(
                    _House(
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
            self._plants.append(
                _Plant(
                    s=s,
                    u=side * max(out, ground.kerb + 0.8),
                    trunk=0.4 if pointed else random.uniform(1.6, 2.6),
                    width=height * (0.6 if pointed else random.uniform(0.8, 1.15)),
                    height=height * (1.5 if pointed else 1.0),
                    color=tuple(np.array(self._green) * random.uniform(0.8, 1.25)),
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
                color = tuple(np.array(self._green) * random.uniform(0.75, 1.1))
                self._hedges.append(_Hedge(side, s, length, side * u, height, color, random.uniform(0, 256)))
                s += length + (random.uniform(1, 12) if ground.built else 0.0)

    def _make_traffic(self) -> list[_Vehicle]:
        random = self._random
        counts = {CAR: 0, BUS: 0}
        vehicles: list[_Vehicle] = []
        busy = random.uniform(0.25, 1.0)
        rows = []  # (u, heading, speed, first s, spacing)
        for lane in range(self._lanes):
            u = (lane + 0.5) * self._lane
            own = abs(u - self._eye_u) < 1.5
            rows.append((u, 1, self._speed + random.uniform(-2, 2), random.uniform(9 if own else 4, 32)))
            rows.append((-u, -1, random.uniform(3, 9), random.uniform(4, 30)))
        for side in (-1, 1):
            if self._half_road > self._lanes * self._lane + 1.5 and random.random_sample() < 0.85:
                rows.append((side * (self._half_road - 1.05), side, 0.0, random.uniform(1, 14)))
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
                        _Vehicle(
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

    def _make_people(self) -> list[_Person]:
        random = self._random
        people: list[_Person] = []
        crowd = random.uniform(0.25, 1.0)

        def add(s: float, u: float, speed_s: float, speed_u: float) -> None:
            people.append(
                _Person(
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
            ground = self._sides[side]
            s = random.uniform(4, 14)
            while ground.walk > ground.kerb and s < _STRETCH:
                if random.random_sample() < crowd:
                    walk = float(random.choice((-1.0, 0.0, 1.0))) * random.uniform(0.9, 1.6)
                    u = side * random.uniform(ground.kerb + 0.4, ground.walk - 0.4)
                    add(s, u, walk, 0.0)
                s += random.uniform(3, 15)
        if random.random_sample() < 0.3:  # someone crosses the road
            s = self._crossing + 1.5 if self._crossing > 0 else random.uniform(9, 28)
            for _ in range(random.randint(1, 4)):
                add(
                    s + random.uniform(-1, 1),
                    random.uniform(-0.8, 0.8) * self._half_road,
                    0.0,
                    float(random.choice((-1.2, 1.2))),
                )
        return people


class _View:
    """One drawing of a scene."""

    def __init__(self, scene: Scene, canvas: synthetic_canvas.Canvas, time: float):
        self.scene, self.canvas, self.time = scene, canvas, time
        self.light = scene._light
        self.eye_s = scene._speed * time

    def where(self, thing: _Vehicle | _Person) -> tuple[float, float]:
        """Position (s, u) at the time of the drawing. Who crosses the road turns back at its edges."""
        if isinstance(thing, _Vehicle):
            return thing.s + thing.speed * self.time, thing.u
        u = thing.u + thing.speed_u * self.time
        if thing.speed_u:
            edge = self.scene._half_road + 0.5
            u = abs((u + edge) % (4 * edge) - 2 * edge) - edge
        return thing.s + thing.speed_s * self.time, u

    def point(self, s: float, u: float, y: float = 0.0) -> tuple[float, float, float]:
        """World -> camera."""
        z = s - self.eye_s
        return u - self.scene._eye_u + 0.5 * self.scene._bend * z * z, y - self.scene._eye, z

    def sky(self) -> None:
        """A gradient, clouds, and a glow at the horizon."""
        canvas, light = self.canvas, self.light
        up = np.maximum(canvas.ray_y, 0.0)
        share = np.minimum(up / 0.55, 1.0)[:, None, None]
        canvas.image[:] = np.asarray(light.sky_low, np.float32) * (1 - share) + share * np.asarray(light.sky_top, np.float32)
        rows = int(np.count_nonzero(canvas.ray_y > 0.004))
        reach = (1.0 / (up[:rows, None] + 0.12)).astype(np.float32)
        x, y, cover = self.scene._cloud
        value = synthetic_canvas.noise(canvas.ray_x[None, :] * reach * 14 + x, reach * 14 + y, 1)
        value = np.clip((value - (1 - cover)) / 0.35, 0, 1) * 0.75 * np.minimum(up[:rows, None] / 0.12, 1)
        white = np.asarray(light.sky_low, np.float32) * 0.5 + 0.5
        canvas.image[:rows] += (white - canvas.image[:rows]) * value[..., None]

    def ground(self) -> None:
        """Road, sidewalks and grass below the horizon, with paint, joints and the shadows of houses."""
        scene, canvas, light = self.scene, self.canvas, self.light
        first = int(np.count_nonzero(canvas.ray_y > -0.004))
        z = (-scene._eye / canvas.ray_y[first:]).astype(np.float32)[:, None]
        u = canvas.ray_x[None, :] * z + np.float32(scene._eye_u) - np.float32(0.5 * scene._bend) * z * z
        s = np.broadcast_to(z + np.float32(self.eye_s), u.shape)
        left, right = scene._sides[-1], scene._sides[1]
        labels = np.full(u.shape, TERRAIN * LABEL_DIVISOR, np.int32)
        labels[(u > -left.paved) & (u < right.paved)] = SIDEWALK * LABEL_DIVISOR
        road = (u > -left.kerb) & (u < right.kerb)
        labels[road] = ROAD * LABEL_DIVISOR

        sharp = 1 / (1 + (z / 25) ** 2)
        grain = (synthetic_canvas.noise(u * 16, s * 16, 0) - 0.5) * sharp
        patches = synthetic_canvas.noise(u * 3, s * 1.5, 1) - 0.5
        colors = np.empty((*u.shape, 3), np.float32)
        colors[:] = scene._grass
        walk = labels == SIDEWALK * LABEL_DIVISOR
        colors[walk] = scene._paving
        colors[road] = scene._asphalt
        colors *= (1 + 0.35 * grain + 0.22 * patches)[..., None]
        grass = labels == TERRAIN * LABEL_DIVISOR
        tuft = synthetic_canvas.noise(u * 5, s * 5, 0)
        colors[grass] *= (0.75 + 0.5 * tuft[grass])[:, None]
        joint = walk & (((u * 1.25 - np.floor(u * 1.25)) < 0.07) | ((s * 1.25 - np.floor(s * 1.25)) < 0.07))
        colors[joint] *= 0.8
        kerb = walk & (((u > 0) & (u < right.kerb + 0.22)) | ((u < 0) & (u > -left.kerb - 0.22)))
        colors[kerb] *= 1.28
        if scene._marks:
            dash = (s / 7.0 - np.floor(s / 7.0)) < 0.45
            paint = (np.abs(u) < 0.09) & (dash if scene._lanes == 1 else True)
            for lane in range(1, scene._lanes + 1):
                edge = np.abs(np.abs(u) - lane * scene._lane) < 0.07
                paint |= edge & (dash if lane < scene._lanes else True)
            paint &= road
            colors[paint] = (0.78, 0.78, 0.74)
        bars = road & (np.abs(s - scene._crossing) < 1.5) & ((u - np.floor(u)) < 0.5)
        colors[bars] = (0.8, 0.8, 0.78)
        if light.sun > 0.3:
            side = self.scene._sun_side
            for house in scene._houses:
                if house.side == side and house.s - self.eye_s < _VISIBLE_AHEAD:
                    reach = house.front - 0.75 * house.height
                    under = (s > house.s) & (s < house.s + house.length) & (side * u > reach)
                    colors[under] *= 1 - 0.55 * light.sun
        canvas.image[first:] = colors
        canvas.panoptic[first:] = labels
        canvas.depth[first:] = z

    def skyline(self) -> None:
        """Closes the view between the end of the scene and the sky."""
        offset, steps, height = self.scene._skyline
        z = _VISIBLE_AHEAD + 60.0
        label = (BUILDING if steps else VEGETATION) * LABEL_DIVISOR
        color = (0.5, 0.49, 0.5) if steps else self.scene._green
        shader = synthetic_surfaces.skyline(color, light=0.9, offset=offset, cells=46, low=0.35, steps=steps)
        self.canvas.quad((-260.0, -self.scene._eye - 4, z), (520.0, 0, 0), (0, height, 0), label, shader)

    def shadow(self, s: float, u: float, length: float, width: float, reach: float) -> None:
        """A soft dark patch below something; long on the side away from the sun."""
        x, y, z = self.point(s, u, 0.012)
        if not 0.0 < z < reach:
            return
        slant = -self.scene._sun_side * (0.9 if self.light.sun > 0.3 else 0.0)
        wide = width * 1.25 + abs(slant)
        x += slant / 2
        strength = 0.55 + 0.2 * (self.light.sun > 0.3)
        turn = self.scene._bend * z

        def amount(a, b):
            far = np.maximum(np.abs(a - 0.5), np.abs(b - 0.5)) * 2
            return strength * np.clip((1 - far) / 0.3, 0, 1)

        corner = (x - wide / 2 - turn * length / 2, y, z - length / 2 * 1.1)
        self.canvas.darken(corner, (wide, 0, 0), (turn * length, 0, length * 1.1), amount)

    def house(self, house: _House) -> None:
        near, far = house.s - self.eye_s, house.s + house.length - self.eye_s
        if far < 1.0 or near > _VISIBLE_AHEAD:
            return
        label = BUILDING * LABEL_DIVISOR
        options = {
            "height": house.height,
            "pitch": house.pitch,
            "window": house.window,
            "lit": self.light.lit,
            "offset": house.offset,
            "shop": house.shop,
        }
        up = (0.0, house.height, 0.0)
        start = self.point(house.s, house.side * house.front)
        end = self.point(house.s + house.length, house.side * house.front)
        away = 1 - 0.4 * self.light.sun * (house.side == self.scene._sun_side)
        shader = synthetic_surfaces.facade(house.color, length=house.length, light=away, **options)
        self.canvas.quad(start, _minus(end, start), up, label, shader)
        if near > 0.7:
            back = self.point(house.s, house.side * (house.front + house.depth))
            shader = synthetic_surfaces.facade(house.color, length=house.depth, light=0.8, **options)
            self.canvas.quad(start, _minus(back, start), up, label, shader)

    def hedge(self, hedge: _Hedge) -> None:
        near, far = hedge.s - self.eye_s, hedge.s + hedge.length - self.eye_s
        if far < 1.0 or near > _VISIBLE_AHEAD:
            return
        label = VEGETATION * LABEL_DIVISOR
        start, end = self.point(hedge.s, hedge.u), self.point(hedge.s + hedge.length, hedge.u)
        options = {"offset": hedge.offset, "height": hedge.height}
        up, deep = (0.0, hedge.height, 0.0), (hedge.side * 0.9, 0.0, 0.0)
        shader = synthetic_surfaces.hedge(hedge.color, light=1.0, length=hedge.length, **options)
        self.canvas.quad(start, _minus(end, start), up, label, shader)
        shader = synthetic_surfaces.hedge(hedge.color, light=0.85, length=0.9, **options)
        self.canvas.quad(start, deep, up, label, shader)
        if hedge.height < self.scene._eye:
            top = (start[0], start[1] + hedge.height * 0.9, start[2])
            shader = synthetic_surfaces.plain(hedge.color, light=1.05, grain=0.9, scale=(hedge.length * 8, 8))
            self.canvas.quad(top, _minus(end, start), deep, label, shader)

    def plant(self, plant: _Plant) -> None:
        x, y, z = self.point(plant.s, plant.u)
        if not 1.5 < z < _VISIBLE_AHEAD:
            return
        label = VEGETATION * LABEL_DIVISOR
        bark = synthetic_surfaces.plain((0.24, 0.18, 0.13), light=1.0, grain=0.5, scale=(6, 30))
        self.canvas.quad((x - 0.16, y, z), (0.32, 0, 0), (0, plant.trunk + 0.6, 0), label, bark)
        leaves = synthetic_surfaces.crown(
            plant.color, light=1.1, offset=plant.offset, size=plant.height, pointed=plant.pointed
        )
        corner = (x - plant.width / 2, y + plant.trunk, z - 0.05)
        self.canvas.quad(corner, (plant.width, 0, 0), (0, plant.height, 0), label, leaves)

    def vehicle(self, vehicle: _Vehicle) -> None:
        """A box on wheels; cars carry a smaller, sloped box on top."""
        s, u = self.where(vehicle)
        center = self.point(s, u)
        if not vehicle.length / 2 + 1.0 < center[2] < _VEHICLES_AHEAD:
            return
        label = vehicle.class_id * LABEL_DIVISOR + vehicle.track
        slope = self.scene._bend * center[2]
        norm = 1 / math.sqrt(1 + slope * slope)
        ahead = np.array((slope * norm, 0.0, norm)) * vehicle.heading
        right = np.array((ahead[2], 0.0, -ahead[0]))
        up = np.array((0.0, 1.0, 0.0))
        middle = np.array(center)
        bus = vehicle.class_id == BUS
        height = vehicle.height if bus else vehicle.waist
        long, wide = ahead * vehicle.length, right * vehicle.width
        rear_left = middle - long / 2 - wide / 2

        def light(normal: np.ndarray) -> float:
            sun = np.array((self.scene._sun_side, 0.0, -0.5)) @ normal
            return float(0.85 + 0.35 * self.light.sun * sun)

        def quad(corner, side_a, side_b, shader) -> None:
            self.canvas.quad(tuple(corner), tuple(side_a), tuple(side_b), label, shader)

        for hand in (-1, 1):  # the two long sides
            normal = right * hand
            corner = rear_left + (wide if hand > 0 else 0)
            if normal @ corner > 0:
                continue  # turned away
            options = {"length": vehicle.length, "height": height, "light": light(normal)}
            if bus:
                shader = synthetic_surfaces.bus_side(vehicle.color, vehicle.stripe, doors=hand > 0, **options)
            else:
                shader = synthetic_surfaces.vehicle_side(vehicle.color, radius=0.31, **options)
            quad(corner, long, up * height, shader)
        for front in (False, True):
            normal = ahead if front else -ahead
            corner = rear_left + (long if front else 0)
            if normal @ corner > 0:
                continue
            options = {"width": vehicle.width, "height": height, "light": light(normal), "front": front}
            if bus:
                shader = synthetic_surfaces.bus_end(vehicle.color, vehicle.stripe, **options)
            else:
                shader = synthetic_surfaces.vehicle_end(vehicle.color, glow=self.light.lit, **options)
            quad(corner, wide, up * height, shader)
        if height < self.scene._eye:
            quad(rear_left + up * height, wide, long, synthetic_surfaces.plain(vehicle.color, light=1.12))
        if not bus:
            self._cabin(vehicle, rear_left + up * height, long, wide, up, light, right, quad)

    def _cabin(self, vehicle, corner, long, wide, up, light, right, quad) -> None:
        rise = vehicle.height - vehicle.waist
        back, front = 0.04 if vehicle.slopes[0] < 0.15 else 0.1, 0.76  # of the length
        base = corner + wide * 0.06 + long * back
        across, along = wide * 0.88, long * (front - back)
        for hand in (-1, 1):
            start = base + (across if hand > 0 else 0)
            if (right * hand) @ start < 0:
                shader = synthetic_surfaces.cabin_side(vehicle.color, light=light(right * hand), slopes=vehicle.slopes)
                quad(start, along, up * rise, shader)
        glass = synthetic_surfaces.windshield(vehicle.color, light=0.95)
        quad(base, across, up * rise + along * vehicle.slopes[0], glass)
        quad(base + along, across, up * rise - along * vehicle.slopes[1], glass)
        if vehicle.height < self.scene._eye:
            roof = base + up * rise + along * vehicle.slopes[0]
            length = along * (1 - vehicle.slopes[0] - vehicle.slopes[1])
            quad(roof, across, length, synthetic_surfaces.plain(vehicle.color, light=1.15))

    def person(self, person: _Person) -> None:
        s, u = self.where(person)
        x, y, z = self.point(s, u)
        if not 1.5 < z < _PEOPLE_AHEAD:
            return
        moving = person.speed_s or person.speed_u
        step = (person.phase + self.time * 1.8) % 1.0
        stride = (4 * abs(step - 0.5) - 1) if moving else 0.15
        shader = synthetic_surfaces.person(
            top=person.top,
            trousers=person.trousers,
            skin=person.skin,
            hair=person.hair,
            stride=stride,
            light=0.95 + 0.2 * self.light.sun,
            bag=person.bag,
        )
        wide = 0.46 * person.height
        distance = math.sqrt(x * x + z * z)
        side = (wide * z / distance, 0.0, -wide * x / distance)
        corner = (x - side[0] / 2, y, z - side[2] / 2)
        self.canvas.quad(corner, side, (0, person.height, 0), PERSON * LABEL_DIVISOR + person.track, shader)

    def finish(self, hood: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Haze, light and sensor; specks too small to tell and the own bonnet become void."""
        canvas, light = self.canvas, self.light
        image, panoptic, depth = canvas.image, canvas.panoptic, canvas.depth
        solid = depth < synthetic_canvas.FAR
        haze = np.where(solid, depth / (depth + np.float32(light.fog)), 0)[..., None]
        image += (np.asarray(light.sky_low, np.float32) - image) * haze
        depth[~solid] = 0.0
        if hood:
            self._hood(image, panoptic, depth)
        soft = image.copy()  # a lens: the label's edges stay sharp
        soft[:, 1:-1] = 0.7 * image[:, 1:-1] + 0.15 * (image[:, 2:] + image[:, :-2])
        image = soft.copy()
        image[1:-1] = 0.7 * soft[1:-1] + 0.15 * (soft[2:] + soft[:-2])
        random = np.random.RandomState(
            np.array([self.scene.seed & 0xFFFFFFFF, self.scene.seed >> 32, 11, round(self.time * 1000)], np.uint32)
        )
        row, column = random.randint(0, 200, 2)
        rows, columns = np.arange(canvas.height), np.arange(canvas.width)
        tile = synthetic_canvas.noise_tile()[..., 0]
        grain = [
            tile[((rows * 3 + row + 41 * k) & 255)[:, None], ((columns * 5 + column + 97 * k) & 255)[None]]
            for k in range(3)
        ]
        image = image * (np.asarray(light.tint, np.float32) * light.gain)
        image += (np.stack(grain, axis=-1) - 0.5) * np.float32(0.05)
        image = np.clip(image * 255, 0, 255).astype(np.uint8)

        small = max(6, int(8e-4 * canvas.height * canvas.width))
        counts = np.bincount(panoptic.ravel())
        ids = np.arange(len(counts), dtype=np.int32)
        ids[counts < small] = IGNORE_LABEL * LABEL_DIVISOR
        return image, ids[panoptic], depth

    def _hood(self, image, panoptic, depth) -> None:
        """The bonnet of the car that carries the camera."""
        height, width = panoptic.shape
        x = (np.arange(width) / (width - 1) - 0.5) * 2
        top = height * (0.93 + 0.06 * x * x)
        covered = np.arange(height)[:, None] >= top[None]
        shine = 0.1 + 0.25 * (np.arange(height)[:, None] / height - 0.9) + 0 * x[None]
        image[covered] = shine[covered][:, None].astype(np.float32)
        panoptic[covered] = IGNORE_LABEL * LABEL_DIVISOR
        depth[covered] = 0.0


def _pick(random: np.random.RandomState, weighted):
    """One of (value, weight) pairs."""
    total = sum(weight for _, weight in weighted)
    place = random.random_sample() * total
    for value, weight in weighted:
        place -= weight
        if place < 0:
            return value
    return weighted[-1][0]


def _minus(a, b) -> tuple[float, float, float]:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]
