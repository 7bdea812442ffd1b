"""Spleen, kidneys, adrenals, pancreas, gallbladder, stomach and bowel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cirrnb.simulation.body import Body, Frame, Layer, Layers
from cirrnb.simulation.fields import Array, Points, Vector, Window, capsule, coverage, ellipsoid, smooth_max, smooth_min
from cirrnb.simulation.liver import gap, lattice, solve
from cirrnb.simulation.vessels import Segment, chain, coated, tubes

SPLEEN_LOW, SPLEEN_HIGH = (5.0, -95.0, -160.0), (145.0, 112.0, 100.0)


def _spleen_centre(body: Body) -> Vector:
    """A spleen that grows sinks, and comes forward and towards the midline."""
    more = body.spleen_size - 1
    return 94 - 16 * more, 36 - 14 * more, 20 + 5 * body.own["spleen place"] - 22 * more


def where_spleen(bodies: Sequence[Body], frame: Frame) -> Window | None:
    """The part of a slab that holds the spleens of all these bodies."""
    reaches = [np.array((36, 46, 44)) * body.spleen_size + 10 for body in bodies]
    centres = [np.array(_spleen_centre(body)) for body in bodies]
    low = np.max([np.min(np.subtract(centres, reaches), axis=0), SPLEEN_LOW], axis=0).tolist()
    high = np.min([np.max(np.add(centres, reaches), axis=0), SPLEEN_HIGH], axis=0).tolist()
    region = frame.moved.window((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return None if region is None else region[0]


def spleen(body: Body, points: Points, inner: Array) -> Array:
    """Distance to the spleen: a crescent against the left wall, hollow towards stomach and kidney.

    `inner` is the distance to what confines it.
    """
    size = body.spleen_size
    whole = ellipsoid(points, _spleen_centre(body), (32 * size, 46 * size, 44 * size), -0.35)
    hollow = ellipsoid(points, (48 - 26 * (size - 1), 2 - 8 * (size - 1), 22), (34, 40, 62), 0.3)
    kidney = ellipsoid(points, (55, 46, -62), (32, 29, 56))
    bend = body.noise("spleen", 42.0).kept(points) * np.float32(2.5)
    lower = smooth_max(whole + bend, -np.minimum(hollow, kidney) + 0.5 * bend, 9)
    return smooth_max(lower, inner + 0.4 * gap(body, points) + 0.2, 6)


def spleen_volume(body: Body, step: float = 5.0) -> float:
    """Volume of the spleen in mL."""
    frame = lattice(SPLEEN_LOW, SPLEEN_HIGH, step)
    window = where_spleen([body], frame)
    assert window is not None
    share = coverage(spleen(body, frame.part(window).moved, frame.inner[window]), step).sum(dtype=np.float64)
    return float(share * step**3 * np.prod(body.scale) / 1000)


def solve_spleen(body: Body, wanted: float) -> Body:
    """The body with `spleen_size` such that the spleen has the wanted volume in mL."""

    def width(size: float) -> float:  # nearly linear in the size, unlike the volume itself
        return float(np.cbrt(spleen_volume(replace(body, spleen_size=size), 7.0)))

    return replace(body, spleen_size=solve(width, float(np.cbrt(wanted)), 0.6, 2.1))


def splenic_branches(body: Body, frame: Frame) -> Layers:
    """Veins that gather in the spleen's hilum."""
    random = body.random("splenic branches")
    size = body.spleen_size
    for _ in range(7):
        end = (float(random.uniform(82, 96)), float(random.uniform(10, 52)), float(random.uniform(-25, 45) * size))
        middle = (78.0 + float(random.uniform(-3, 3)), 0.5 * (22 + end[1]), 0.5 * (8 + end[2]))
        yield from tubes(frame, chain([(70, 24, 8), middle, end], 2.4 * size, 1.0), "vein")


def kidneys(body: Body, frame: Frame) -> Layers:
    """Two beans in their fat: cortex with columns, medullary pyramids, and a sinus of fat and urine."""
    lift = 6 * body.own["kidney"]
    for side, centre in ((-1, (-56.0, 44.0, -70.0 + lift)), (1, (58.0, 44.0, -56.0 + lift))):
        reach = (44.0, 42.0, 66.0)
        low, high = np.subtract(centre, reach), np.add(centre, reach)
        region = frame.moved.window((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        if region is None:
            continue
        window, points = region
        x, y, z = centre
        wavy = body.noise("kidney", 16.0)(points)
        shape = ellipsoid(points, centre, (24, 28, 53), side * 0.75) + 0.9 * wavy
        hilum = (x - side * 21, y - 17, z)
        notch = ellipsoid(points, hilum, (9, 8, 15), side * 0.75)
        outline = smooth_max(shape, -notch, 6)
        sinus = ellipsoid(points, (x - side * 10, y - 8, z), (12, 7, 29), side * 0.75)
        yield Layer(window, coverage(shape - 4.5, frame.width), "fat")
        yield Layer(window, coverage(outline, frame.width), "renal cortex")
        pyramids = body.noise("pyramids", 13.0)(points)
        medulla = np.maximum(np.maximum(outline + 6, 3 - sinus), 5 * (-pyramids - 0.35))
        yield Layer(window, coverage(medulla, frame.width), "renal medulla")
        yield Layer(window, coverage(sinus + 0.8 * wavy, frame.width), "fat")
        urine = np.maximum(sinus + 4.5 + 2.2 * body.noise("calyces", 10.0)(points), -2.0 + 0 * sinus)
        yield Layer(
            window,
            coverage(np.minimum(urine, ellipsoid(points, hilum, (9, 4, 7), side * 0.75)), frame.width),
            "urine",
            0.8,
        )
        yield from _cyst(body, frame, side, centre)


def _cyst(body: Body, frame: Frame, side: int, centre: Vector) -> Layers:
    random = body.random(f"cyst {side}")
    if random.random() < 0.25:
        place = np.add(centre, random.normal(0, 1, 3) * (8, 8, 34) + (side * 16, 0, 0)).tolist()
        yield from tubes(frame, [((place[0], place[1], place[2]),) * 2 + (float(random.uniform(3, 10)),) * 2], "urine")


def adrenals(body: Body, frame: Frame) -> Layers:
    for side, at in ((-1, (-36.0, 24.0, 2.0)), (1, (33.0, 24.0, -4.0))):
        limbs: list[Segment] = []
        for turn in (-4, 9):
            limbs += chain([at, (at[0] + side * turn, at[1] + 16, at[2] + 2)], 2.2, 1.6)
            limbs += chain([(at[0], at[1], at[2] - 12), (at[0] + side * turn, at[1] + 14, at[2] - 11)], 2.0, 1.5)
        yield from tubes(frame, limbs, "adrenal")


def pancreas(body: Body, frame: Frame) -> Layers:
    """Head within the duodenum's bow, body across the midline, tail to the spleen; lobulated, fatty with age."""
    region = frame.moved.window((-60, -50, -90), (95, 45, 30))
    if region is None:
        return
    window, points = region
    line = chain(
        [(-28, -14, -66), (-22, -18, -46), (2, -25, -38), (30, -15, -24), (58, 10, -8), (76, 22, 6)], 13, 10, 8, 8, 7
    )
    lobes = body.noise("pancreas", 7.0)(points)
    distance = np.full(points.shape, 1e3, np.float32)
    for start, end, radius, tip in line:
        distance = smooth_min(distance, capsule(points, start, end, radius, tip), 6)
    fatty = np.clip(0.10 + 0.10 * body.own["muscle fat"], 0, 0.45)
    inside = coverage(distance + 1.8 * lobes, frame.width)
    yield Layer(window, inside, "pancreas", (1 + 0.07 * lobes).astype(np.float32))
    yield Layer(window, (inside * np.clip(lobes - 1.1 + 2 * fatty, 0, 1)).astype(np.float32), "fat")
    yield from tubes(frame, chain([(-26, -16, -66), (-12, -20, -44), (60, 8, -8)], 0.9), "duct", share=0.7)


def gallbladder(body: Body, frame: Frame) -> Layers:
    """Gallbladder in its fossa and the common duct beside the portal vein; one in six patients has lost the first."""
    yield from tubes(
        frame, chain([(-27, -14, -8), (-25, -13, -34), (-27, -6, -68)], 2.3 + 0.4 * body.own["gallbladder"]), "duct"
    )
    if body.own["gallbladder"] < -1:
        return
    full = 1 + 0.16 * body.own["gallbladder"]
    pear = chain([(-36, -26, -30), (-44, -42, -50), (-48, -54, -66)], 6 * full, 12 * full, 14 * full)
    thick = 1.6 + 2.2 * body.shown["ascites"]
    yield from coated(frame, pear, (("hollow wall", thick, 1.0), ("bile", 0.0, 1.0)))


def stomach(body: Body, frame: Frame) -> Layers:
    """Fundus under the left dome, body, and antrum across the midline: folded wall, fluid and food, air in front."""
    region = frame.moved.window((-35, -95, -85), (118, 70, 95))
    if region is None:
        return
    window, points = region
    full, place = 1.04 + 0.15 * body.own["stomach"], 9 * body.own["stomach place"]
    line: tuple[tuple[Vector, Vector, float, float], ...] = (
        ((58, 20, 48), (66, -4, 22), 31, 29),
        ((66, -4, 22), (62, -38, -18 + place), 29, 23),
        ((62, -38, -18 + place), (22, -54, -44 + place), 23, 17),
        ((22, -54, -44 + place), (-12, -42, -38), 16, 9),
    )
    distance = np.full(points.shape, 1e3, np.float32)
    for start, end, radius, tip in line:
        distance = smooth_min(distance, capsule(points, start, end, radius * full, tip * full), 12)
    distance = distance + 2.5 * body.noise("stomach", 28.0)(points)
    folds = np.abs(body.noise("folds", 11.0)(points))
    thick = 3.0 + np.float32(5.5 * np.clip(1.45 - full, 0.1, 1)) * np.exp(-((folds / 0.5) ** 2))
    yield Layer(window, coverage(distance, frame.width), "hollow wall", (1 + 0.05 * folds).astype(np.float32))
    lumen = distance + thick
    food = body.noise("food", 5.0)(points)
    mixed = float(np.clip(0.35 + 0.25 * body.own["fat shape"], 0.05, 0.8))
    inside = coverage(lumen, frame.width)
    yield Layer(window, inside, "stomach content", np.clip(1 - mixed * (0.45 + 0.4 * food), 0.2, 1).astype(np.float32))
    level = -16.0 - 14 * body.own["stomach place"]
    yield Layer(window, (coverage(np.maximum(lumen, points.y - level), frame.width)).astype(np.float32), "air")


def bowel(body: Body, frame: Frame) -> Layers:
    """Colon along its frame with gas and stool, loops of small bowel, and the duodenum's bow."""
    yield from _colon(body, frame)
    random = body.random("loops")
    for _ in range(40):
        centre = np.array((random.uniform(-82, 92), random.uniform(-66, 14), random.uniform(-150, 2)))
        # The upper loops lie to the left before the kidney; those to the right only where the liver leaves room.
        if (centre[2] > -70 and -40 < centre[0] < 28) or (centre[0] < -40 and centre[2] > -25):
            continue
        knots = [centre + random.normal(0, 12, 3) for _ in range(4)]
        loop = chain([(float(k[0]), float(k[1]), float(k[2])) for k in knots], float(random.uniform(7, 11)))
        filling = str(random.choice(("bowel content", "bowel content", "stomach content", "hollow wall")))
        yield from coated(frame, loop, (("hollow wall", 0.0, 1.0), (filling, -2.4, 1.0)))
    duodenum = chain([(-12, -42, -38), (-38, -30, -40), (-44, -8, -62), (-36, 4, -98), (4, -4, -108)], 9, 11, 10)
    filling = "bowel content" if body.own["colon"] < 0.4 else "stomach content"
    yield from coated(frame, duodenum, (("hollow wall", 0.0, 1.0), (filling, -2.8, 1.0)))


def _colon(body: Body, frame: Frame) -> Layers:
    drop = 12 * body.own["colon"]
    line = [(-90, 24, -160), (-90, 12, -96), (-82, -28, -52 - drop), (-46, -62, -72 - drop), (8, -72, -88 - drop)]
    line += [
        (52, -66, -62 - drop / 2),
        (88, -40, -10 - drop),
        (102, -4, 14),
        (106, 24, -36),
        (101, 38, -110),
        (98, 40, -170),
    ]
    segments = chain(line, 21, 19, 18, 18, 22, 15, 13)
    gas_above = 2.0 + 4 * body.own["colon"]
    for start, end, radius, tip in segments:
        reach = radius + 7
        low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
        region = frame.moved.window((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        if region is None:
            continue
        window, points = region
        haustra = body.noise("haustra", 19.0)(points) * np.float32(2.6)
        distance = capsule(points, start, end, radius, tip) + haustra
        yield Layer(window, coverage(distance, frame.width), "hollow wall")
        lumps = np.clip(1 + 0.25 * body.noise("stool", 8.0)(points), 0.4, 1.6).astype(np.float32)
        yield Layer(window, coverage(distance + 2.2, frame.width), "stool", lumps)
        middle = (start[1] + end[1]) / 2
        gas = np.maximum(distance + 2.6, points.y - middle - gas_above + 10)
        yield Layer(window, coverage(gas, frame.width), "air")


def between_loops(body: Body, points: Points) -> Array:
    """Share of the fat between the loops that ascites has taken, 0 to 1."""
    amount = body.shown["ascites"]
    pools = body.noise("pools", 38.0)(points) - 0.004 * (points.z + 40)
    front = np.clip((25 - points.y) / 20, 0, 1)
    return (np.clip((pools - 2.6 + 2.6 * amount) * 3, 0, 1) * front * (amount > 0.12)).astype(np.float32)
