"""Draws the world of a procedural street at a moment: picture, panoptic label and depth."""

from __future__ import annotations

import math

import numpy as np

from deeplab2_kmax.data.convert import synthetic_canvas, synthetic_surfaces, synthetic_world

IGNORE_LABEL = 255
LABEL_DIVISOR = 1000

_VISIBLE_AHEAD = 130.0  # metres; beyond it there is only the skyline
_VEHICLES_AHEAD = 50.0  # farther ones would be specks
_PEOPLE_AHEAD = 26.0


class View:
    """One drawing of a scene."""

    def __init__(self, world: synthetic_world.World, canvas: synthetic_canvas.Canvas, time: float):
        self.world, self.canvas, self.time = world, canvas, time
        self.light = world.light
        self.eye_s = world.speed * time

    def draw(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The ground first, then everything that stands on it; the depth buffer sorts it out."""
        self.sky()
        self.ground()
        self.skyline()
        for vehicle in self.world.vehicles:
            self.shadow(*self.where(vehicle), vehicle.length, vehicle.width, _VEHICLES_AHEAD)
        for person in self.world.people:
            self.shadow(*self.where(person), 0.5, 0.6, _PEOPLE_AHEAD)
        for house in self.world.houses:
            self.house(house)
        for hedge in self.world.hedges:
            self.hedge(hedge)
        for plant in self.world.plants:
            self.plant(plant)
        for vehicle in self.world.vehicles:
            self.vehicle(vehicle)
        for person in self.world.people:
            self.person(person)
        return self.finish(self.world.hood)

    def where(self, thing: synthetic_world.Vehicle | synthetic_world.Person) -> tuple[float, float]:
        """Position (s, u) at the time of the drawing. Who crosses the road turns back at its edges."""
        if isinstance(thing, synthetic_world.Vehicle):
            return thing.s + thing.speed * self.time, thing.u
        u = thing.u + thing.speed_u * self.time
        if thing.speed_u:
            edge = self.world.half_road + 0.5
            u = abs((u + edge) % (4 * edge) - 2 * edge) - edge
        return thing.s + thing.speed_s * self.time, u

    def point(self, s: float, u: float, y: float = 0.0) -> tuple[float, float, float]:
        """World -> camera."""
        z = s - self.eye_s
        return u - self.world.eye_u + 0.5 * self.world.bend * z * z, y - self.world.eye, z

    def sky(self) -> None:
        """A gradient, clouds, and a glow at the horizon."""
        canvas, light = self.canvas, self.light
        up = np.maximum(canvas.ray_y, 0.0)
        share = np.minimum(up / 0.55, 1.0)[:, None, None]
        low, top = np.asarray(light.sky_low, np.float32), np.asarray(light.sky_top, np.float32)
        canvas.image[:] = low * (1 - share) + share * top
        rows = int(np.count_nonzero(canvas.ray_y > 0.004))
        reach = (1.0 / (up[:rows, None] + 0.12)).astype(np.float32)
        x, y, cover = self.world.cloud
        value = synthetic_canvas.noise(canvas.ray_x[None, :] * reach * 14 + x, reach * 14 + y, 1)
        value = np.clip((value - (1 - cover)) / 0.35, 0, 1) * 0.75 * np.minimum(up[:rows, None] / 0.12, 1)
        white = low * 0.5 + 0.5
        canvas.image[:rows] += (white - canvas.image[:rows]) * value[..., None]

    def ground(self) -> None:
        """Road, sidewalks and grass below the horizon, with paint, joints and the shadows of houses."""
        world, canvas, light = self.world, self.canvas, self.light
        first = int(np.count_nonzero(canvas.ray_y > -0.004))
        z = (-world.eye / canvas.ray_y[first:]).astype(np.float32)[:, None]
        u = canvas.ray_x[None, :] * z + np.float32(world.eye_u) - np.float32(0.5 * world.bend) * z * z
        s = np.broadcast_to(z + np.float32(self.eye_s), u.shape)
        left, right = world.sides[-1], world.sides[1]
        labels = np.full(u.shape, synthetic_world.TERRAIN * LABEL_DIVISOR, np.int32)
        labels[(u > -left.paved) & (u < right.paved)] = synthetic_world.SIDEWALK * LABEL_DIVISOR
        road = (u > -left.kerb) & (u < right.kerb)
        labels[road] = synthetic_world.ROAD * LABEL_DIVISOR

        sharp = 1 / (1 + (z / 25) ** 2)
        grain = (synthetic_canvas.noise(u * 16, s * 16, 0) - 0.5) * sharp
        patches = synthetic_canvas.noise(u * 3, s * 1.5, 1) - 0.5
        colors = np.empty((*u.shape, 3), np.float32)
        colors[:] = world.grass
        walk = labels == synthetic_world.SIDEWALK * LABEL_DIVISOR
        colors[walk] = world.paving
        colors[road] = world.asphalt
        colors *= (1 + 0.35 * grain + 0.22 * patches)[..., None]
        grass = labels == synthetic_world.TERRAIN * LABEL_DIVISOR
        tuft = synthetic_canvas.noise(u * 5, s * 5, 0)
        colors[grass] *= (0.75 + 0.5 * tuft[grass])[:, None]
        joint = walk & (((u * 1.25 - np.floor(u * 1.25)) < 0.07) | ((s * 1.25 - np.floor(s * 1.25)) < 0.07))
        colors[joint] *= 0.8
        kerb = walk & (((u > 0) & (u < right.kerb + 0.22)) | ((u < 0) & (u > -left.kerb - 0.22)))
        colors[kerb] *= 1.28
        if world.marks:
            dash = (s / 7.0 - np.floor(s / 7.0)) < 0.45
            paint = (np.abs(u) < 0.09) & (dash if world.lanes == 1 else True)
            for lane in range(1, world.lanes + 1):
                edge = np.abs(np.abs(u) - lane * world.lane) < 0.07
                paint |= edge & (dash if lane < world.lanes else True)
            paint &= road
            colors[paint] = (0.78, 0.78, 0.74)
        bars = road & (np.abs(s - world.crossing) < 1.5) & ((u - np.floor(u)) < 0.5)
        colors[bars] = (0.8, 0.8, 0.78)
        if light.sun > 0.3:
            side = self.world.sun_side
            for house in world.houses:
                if house.side == side and house.s - self.eye_s < _VISIBLE_AHEAD:
                    reach = house.front - 0.75 * house.height
                    under = (s > house.s) & (s < house.s + house.length) & (side * u > reach)
                    colors[under] *= 1 - 0.55 * light.sun
        canvas.image[first:] = colors
        canvas.panoptic[first:] = labels
        canvas.depth[first:] = z

    def skyline(self) -> None:
        """Closes the view between the end of the scene and the sky."""
        offset, steps, height = self.world.skyline
        z = _VISIBLE_AHEAD + 60.0
        label = (synthetic_world.BUILDING if steps else synthetic_world.VEGETATION) * LABEL_DIVISOR
        color = (0.5, 0.49, 0.5) if steps else self.world.green
        shader = synthetic_surfaces.skyline(color, light=0.9, offset=offset, cells=46, low=0.35, steps=steps)
        self.canvas.quad((-260.0, -self.world.eye - 4, z), (520.0, 0, 0), (0, height, 0), label, shader)

    def shadow(self, s: float, u: float, length: float, width: float, reach: float) -> None:
        """A soft dark patch below something; long on the side away from the sun."""
        x, y, z = self.point(s, u, 0.012)
        if not 0.0 < z < reach:
            return
        slant = -self.world.sun_side * (0.9 if self.light.sun > 0.3 else 0.0)
        wide = width * 1.25 + abs(slant)
        x += slant / 2
        strength = 0.55 + 0.2 * (self.light.sun > 0.3)
        turn = self.world.bend * z

        def amount(a, b):
            far = np.maximum(np.abs(a - 0.5), np.abs(b - 0.5)) * 2
            return strength * np.clip((1 - far) / 0.3, 0, 1)

        corner = (x - wide / 2 - turn * length / 2, y, z - length / 2 * 1.1)
        self.canvas.darken(corner, (wide, 0, 0), (turn * length, 0, length * 1.1), amount)

    def house(self, house: synthetic_world.House) -> None:
        near, far = house.s - self.eye_s, house.s + house.length - self.eye_s
        if far < 1.0 or near > _VISIBLE_AHEAD:
            return
        label = synthetic_world.BUILDING * LABEL_DIVISOR
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
        away = 1 - 0.4 * self.light.sun * (house.side == self.world.sun_side)
        shader = synthetic_surfaces.facade(house.color, length=house.length, light=away, **options)
        self.canvas.quad(start, _minus(end, start), up, label, shader)
        if near > 0.7:
            back = self.point(house.s, house.side * (house.front + house.depth))
            shader = synthetic_surfaces.facade(house.color, length=house.depth, light=0.8, **options)
            self.canvas.quad(start, _minus(back, start), up, label, shader)

    def hedge(self, hedge: synthetic_world.Hedge) -> None:
        near, far = hedge.s - self.eye_s, hedge.s + hedge.length - self.eye_s
        if far < 1.0 or near > _VISIBLE_AHEAD:
            return
        label = synthetic_world.VEGETATION * LABEL_DIVISOR
        start, end = self.point(hedge.s, hedge.u), self.point(hedge.s + hedge.length, hedge.u)
        options = {"offset": hedge.offset, "height": hedge.height}
        up, deep = (0.0, hedge.height, 0.0), (hedge.side * 0.9, 0.0, 0.0)
        shader = synthetic_surfaces.hedge(hedge.color, light=1.0, length=hedge.length, **options)
        self.canvas.quad(start, _minus(end, start), up, label, shader)
        shader = synthetic_surfaces.hedge(hedge.color, light=0.85, length=0.9, **options)
        self.canvas.quad(start, deep, up, label, shader)
        if hedge.height < self.world.eye:
            top = (start[0], start[1] + hedge.height * 0.9, start[2])
            shader = synthetic_surfaces.plain(hedge.color, light=1.05, grain=0.9, scale=(hedge.length * 8, 8))
            self.canvas.quad(top, _minus(end, start), deep, label, shader)

    def plant(self, plant: synthetic_world.Plant) -> None:
        x, y, z = self.point(plant.s, plant.u)
        if not 1.5 < z < _VISIBLE_AHEAD:
            return
        label = synthetic_world.VEGETATION * LABEL_DIVISOR
        bark = synthetic_surfaces.plain((0.24, 0.18, 0.13), light=1.0, grain=0.5, scale=(6, 30))
        self.canvas.quad((x - 0.16, y, z), (0.32, 0, 0), (0, plant.trunk + 0.6, 0), label, bark)
        leaves = synthetic_surfaces.crown(
            plant.color, light=1.1, offset=plant.offset, size=plant.height, pointed=plant.pointed
        )
        corner = (x - plant.width / 2, y + plant.trunk, z - 0.05)
        self.canvas.quad(corner, (plant.width, 0, 0), (0, plant.height, 0), label, leaves)

    def vehicle(self, vehicle: synthetic_world.Vehicle) -> None:
        """A box on wheels; cars carry a smaller, sloped box on top."""
        s, u = self.where(vehicle)
        center = self.point(s, u)
        if not vehicle.length / 2 + 1.0 < center[2] < _VEHICLES_AHEAD:
            return
        label = vehicle.class_id * LABEL_DIVISOR + vehicle.track
        slope = self.world.bend * center[2]
        norm = 1 / math.sqrt(1 + slope * slope)
        ahead = np.array((slope * norm, 0.0, norm)) * vehicle.heading
        right = np.array((ahead[2], 0.0, -ahead[0]))
        up = np.array((0.0, 1.0, 0.0))
        middle = np.array(center)
        bus = vehicle.class_id == synthetic_world.BUS
        height = vehicle.height if bus else vehicle.waist
        long, wide = ahead * vehicle.length, right * vehicle.width
        rear_left = middle - long / 2 - wide / 2

        def light(normal: np.ndarray) -> float:
            sun = np.array((self.world.sun_side, 0.0, -0.5)) @ normal
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
            options = {"width": vehicle.width, "height": height, "light": light(normal)}
            if bus:
                shader = synthetic_surfaces.bus_end(vehicle.color, vehicle.stripe, front=front, **options)
            else:
                shader = synthetic_surfaces.vehicle_end(vehicle.color, front=front, glow=self.light.lit, **options)
            quad(corner, wide, up * height, shader)
        if height < self.world.eye:
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
        if vehicle.height < self.world.eye:
            roof = base + up * rise + along * vehicle.slopes[0]
            length = along * (1 - vehicle.slopes[0] - vehicle.slopes[1])
            quad(roof, across, length, synthetic_surfaces.plain(vehicle.color, light=1.15))

    def person(self, person: synthetic_world.Person) -> None:
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
        self.canvas.quad(
            corner, side, (0, person.height, 0), synthetic_world.PERSON * LABEL_DIVISOR + person.track, shader
        )

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
            np.array([self.world.seed & 0xFFFFFFFF, self.world.seed >> 32, 11, round(self.time * 1000)], np.uint32)
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


def _minus(a, b) -> tuple[float, float, float]:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]
