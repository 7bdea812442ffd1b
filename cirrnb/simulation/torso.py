"""Skin, fat, muscular wall, ribs, spine, back muscles, lungs and heart."""

from __future__ import annotations

import numpy as np

from cirrnb.simulation.body import Body, Frame, Layer, Layers, diaphragm
from cirrnb.simulation.fields import Array, Points, capsule, coverage, ellipsoid, smooth_max

LEVEL = 34.0
"""Height of a vertebra with its disc, mm."""
ENDLESS = 1e5


def flat(points: Points) -> Points:
    """The axial plane of some points, for what does not change along z."""
    return Points((points.axes[0], points.axes[1], np.zeros(1, np.float32)))


def hull(body: Body, points: Points, inner: Array) -> tuple[Array, Array, Array]:
    """Distance to the cavity, depth of the wall there, and distance to the skin."""
    plane = flat(points)
    away = np.maximum(np.sqrt(plane.x**2 + plane.y**2), 1)
    front = np.maximum(-plane.y / away, 0)
    back = np.maximum(plane.y / away, 0)
    side = (np.abs(plane.x) / away) ** 2
    wall = (9 + 7 * side**2 + 10 * back) * body.wall
    lumpy = body.noise("skin", 90.0)(points) * np.float32(0.06 * body.fat)
    female = body.sex == "female"
    share = 0.75 + (0.35 if female else 0.15) * front + (0.45 + 0.1 * body.own["fat shape"]) * back
    furrow = 9 * np.exp(-((plane.x / 13) ** 2)) * (plane.y > 0)
    fat = body.fat * share * (1 - 0.12 * (points.z / 100)) - furrow
    skin = inner - wall - np.maximum(fat, 3) - lumpy
    return inner, wall, smooth_max(skin, points.y - (HALF_BACK + 0.85 * body.fat), 14).astype(np.float32)


HALF_BACK = 108.0


def outside(body: Body, frame: Frame) -> Layers:
    """Skin, fat and wall; what lies within the cavity comes after."""
    points, width, window = frame.still, frame.width, frame.everywhere
    inner, wall, skin = hull(body, points, frame.inner)
    yield Layer(window, coverage(skin, width), "skin")
    septa = body.noise("camper", 30.0, 8.0, 40.0)(points)
    yield Layer(window, coverage(skin + 2.2, width), "fat", 1 + 0.04 * septa)
    yield Layer(window, coverage(np.abs(septa * 6 + 3) - 0.35, width) * coverage(skin + 4, width) * 0.3, "fascia")
    muscle = coverage(np.maximum(inner - wall, -inner - 2), width)
    yield Layer(window, muscle, "muscle", 1 + 0.08 * body.noise("wall", 14.0)(points))
    depth = inner / wall
    loose = 0.55 + 0.25 * body.noise("planes", 35.0)(points) + 0.1 * body.own["muscle fat"]
    for share in (0.36, 0.68):
        plane = coverage(np.abs(depth - share) * wall - 0.45, width) * np.clip(loose, 0, 1)
        yield Layer(window, plane * muscle, "fat")
    away = np.abs(points.x)
    linea = coverage(np.abs(away - 3) - 2.5, width) * (points.y < 0) * muscle
    yield Layer(window, (linea * 0.7).astype(np.float32), "fat")
    yield from _ribs(body, frame, inner, wall, muscle)
    yield Layer(window, coverage(inner + 1.0, width), "stranded fat", _visceral(body, points))


def _visceral(body: Body, points: Points) -> Array:
    strands = np.abs(body.noise("strands", 11.0)(points))
    amount = 0.16 + 0.05 * body.own["visceral fat"]
    return np.clip(1.06 - amount * np.exp(-((strands / 0.3) ** 2)), 0.4, 1.1).astype(np.float32)


def _ribs(body: Body, frame: Frame, inner: Array, wall: Array, muscle: Array) -> Layers:
    """Bows that fall from back to front, 26 mm apart, from the tenth rib up; the lowest end free."""
    points = frame.still
    plane = flat(points)
    angle = np.arctan2(np.abs(plane.x), plane.y)
    fall = 62 * (angle / np.pi) ** 0.8 + 30 * (angle / np.pi) ** 3
    height = points.z + fall + 8 * body.own["spine"]
    turn = (height / 26) % 1 - 0.5
    reaches = (height > 9) & (angle < 2.45) & (angle > 0.55) & (points.z > -75)
    across = np.abs(inner - 0.42 * wall)
    distance = np.sqrt((turn * 26 / 1.6) ** 2 + across**2) - 4.2
    rib = coverage(distance, frame.width) * reaches
    yield Layer(frame.everywhere, coverage(distance - 1.6, frame.width) * reaches * 0.55, "fat")
    yield Layer(frame.everywhere, rib.astype(np.float32), "cortical bone")
    yield Layer(frame.everywhere, (coverage(distance + 1.5, frame.width) * reaches).astype(np.float32), "marrow")


def chest(body: Body, frame: Frame) -> Layers:
    """Lungs with their vessels, the diaphragm's muscle, and the heart."""
    points, width = frame.moved, frame.width
    top = diaphragm(body, points)
    found = points.window((-ENDLESS, -ENDLESS, -40), (ENDLESS, ENDLESS, ENDLESS))
    if found is None:
        return
    window, points = found
    part = frame.part(window)
    inner = frame.inner[window]
    above = (top - points.z) * np.float32(0.8)
    between = 17 - np.abs(points.x - 4) - 0.15 * np.maximum(points.y - 10, 0)
    middle = smooth_max(between, np.abs(points.y + 5) - 62, 8) * 0 + between
    muscle = coverage(np.maximum(above, inner + 1), width)
    yield Layer(window, muscle, "muscle")
    lung = smooth_max(smooth_max(above + 3, inner + 2.5, 5), middle, 8)
    yield Layer(window, coverage(np.maximum(above + 2.5, -lung - 2) + 0 * lung, width) * muscle, "stranded fat")
    specks = body.noise("lung", 9.0)(points)
    yield Layer(window, coverage(lung, width), "lung", (1 + 2.2 * np.clip(specks - 1.6, 0, 1)).astype(np.float32))
    sac = ellipsoid(points, (24 + 4 * body.own["fat shape"], -34, 126), (64, 50, 50), -0.3)
    heart = np.maximum(sac, above + 3)
    yield Layer(window, coverage(np.maximum(heart - 4, inner + 2), width), "stranded fat")
    yield Layer(window, coverage(heart, width), "heart")
    for centre, radii in (((44, -28, 128), (28, 24, 34)), ((-4, -48, 128), (26, 20, 36))):
        chamber = np.maximum(ellipsoid(points, centre, radii, -0.5), heart + 7)
        yield Layer(window, coverage(chamber, width), "artery")


def spine(body: Body, frame: Frame) -> Layers:
    """Vertebrae with discs, canal and processes, back muscles, psoas and the diaphragm's crura."""
    found = frame.still.window((-85, -5, -ENDLESS), (85, 125, ENDLESS))
    if found is None:
        return
    window, points = found
    plane, width = flat(points), frame.width
    fatty = float(np.clip(0.35 + 0.22 * body.own["muscle fat"], 0.05, 1.0))
    level = ((points.z + 12 * body.own["spine"]) / LEVEL) % 1 - 0.5

    def tube(centre: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0) -> Array:
        return ellipsoid(plane, (*centre, 0), (*radii, ENDLESS), tilt)

    block = smooth_max(tube((0, 78), (66, 31)), 52 - plane.y - 0.12 * np.abs(plane.x), 6)
    yield Layer(window, np.broadcast_to(coverage(block, width), points.shape), "fat")
    yield from _back_muscles(body, window, points, width, fatty)
    psoas = np.clip((-points.z - 5) / 70, 0, 1)
    for side in (-1, 1):
        distance = tube((side * 35, 39), (17, 20), side * 0.5) + 16 * (1 - psoas)
        yield Layer(window, coverage(distance, width) * (psoas > 0.06), "muscle")
        flank = tube((side * 58, 57), (17, 9), side * 0.45) + 12 * (1 - psoas)
        yield Layer(window, coverage(flank, width) * (psoas > 0.2), "muscle")
    yield from _crura(window, points, width)
    yield from _vertebra(body, window, points, width, level)


def _back_muscles(body: Body, window: tuple[slice, slice, slice], points: Points, width: float, fatty: float) -> Layers:
    plane = flat(points)
    streaks = body.noise("streaks", 7.0, 9.0, 60.0)(points)
    fine = body.noise("fine streaks", 3.5, 5.0, 50.0)(points)
    groups = (((13, 77), (10.5, 15), 0.0), ((29, 80), (14, 16.5), 0.15), ((47, 77), (14, 13), 0.5))
    for side in (-1, 1):
        for (x, y), radii, tilt in groups:
            edge = ellipsoid(plane, (side * x, y, 0), (*radii, ENDLESS), side * tilt) + 0.8 * streaks
            inside = coverage(edge, width)
            yield Layer(window, inside, "muscle", (1 + 0.1 * fine).astype(np.float32))
            threads = np.clip((fine + 0.6 * streaks - 1.5 + 1.3 * fatty) * 0.9, 0, 1) * 0.75
            yield Layer(window, (inside * threads).astype(np.float32), "fat")


def _crura(window: tuple[slice, slice, slice], points: Points, width: float) -> Layers:
    """Two bands of muscle that leave the vertebrae and arch before the aorta."""
    plane = flat(points)
    high = np.clip((points.z + 45) / 25, 0, 1)
    arch = ellipsoid(plane, (5, 21, 0), (24, 29, ENDLESS))
    inside = np.broadcast_to(coverage(arch, width), points.shape)
    yield Layer(window, inside * high, "muscle")
    yield Layer(window, np.broadcast_to(coverage(arch + 3.8, width), points.shape) * high, "stranded fat")


def _vertebra(body: Body, window: tuple[slice, slice, slice], points: Points, width: float, level: Array) -> Layers:
    plane = flat(points)
    shape = points.shape

    def both(distance: Array, along: Array | float = 1.0) -> Array:
        return (coverage(distance, width) * along * np.ones((1, 1, shape[2]), np.float32)).astype(np.float32)

    across = np.abs(plane.x)
    mirrored = Points((np.abs(plane.axes[0]), plane.axes[1], plane.axes[2]))
    pedicle = np.clip(5 - np.abs(level + 0.08) * LEVEL / 2.2, 0, 1)
    process = np.clip(4 - np.abs(level + 0.02) * LEVEL / 2.0, 0, 1)
    parts = (
        (capsule(mirrored, (13, 46, 0), (15, 62, 0), 5.2), pedicle),
        (capsule(mirrored, (16, 63, 0), (38, 68, 0), 4.6, 3.2), process),
        (capsule(mirrored, (15, 64, 0), (1, 76, 0), 4.0), 1.0),
        (capsule(mirrored, (0, 74, 0), (0, 95, 0), 4.2, 3.4), 0.45 + 0.55 * process),
        (capsule(mirrored, (17, 63, 0), (18, 68, 0), 6.5), np.clip(np.abs(level) * 4 - 0.8, 0, 1)),
    )
    rich = 1 + 0.10 * body.noise("marrow", 6.0)(points) + 0.06 * body.noise("coarse marrow", 15.0)(points)
    for distance, along in parts:
        yield Layer(window, both(distance, along), "cortical bone")
    for distance, along in parts:
        yield Layer(window, both(distance + 1.5, along), "marrow", rich.astype(np.float32) * 0.92)
    waist = 1.6 * (1 - (2 * level) ** 2)
    heart = (np.abs(plane.x / 23) ** 2.4 + np.abs((plane.y - 33) / 17.5) ** 2.4 + 1e-6) ** (1 / 2.4)
    trunk = (heart - 1) * 19 + waist + 2.5 * np.exp(-((across / 9) ** 2)) * (plane.y > 40)
    disc = np.clip((np.abs(level) - 0.365) * 12, 0, 1)
    yield Layer(window, coverage(trunk - 0.6, width), "cortical bone")
    vein = np.exp(-((level * 9) ** 2)) * np.exp(-((plane.x / 3) ** 2)) * (plane.y > 36)
    yield Layer(window, coverage(trunk + 1.2, width), "marrow", (rich * (1 + 0.5 * vein)).astype(np.float32))
    core = coverage(trunk + 6, width)
    yield Layer(window, coverage(trunk + 0.8, width) * disc, "muscle", 1.15)
    yield Layer(window, core * disc, "disc", 0.75 + 0.1 * body.own["spine"])
    canal = ellipsoid(plane, (0, 60, 0), (12.5, 10.5, ENDLESS))
    yield Layer(window, both(canal), "fat", 0.9)
    yield Layer(window, both(ellipsoid(plane, (0, 59, 0), (10, 8.2, ENDLESS))), "csf")
    low = np.clip((points.z + 60) / 25, 0, 1)
    yield Layer(window, both(ellipsoid(plane, (0, 59.5, 0), (5.2, 4.1, ENDLESS)), low), "cord")
    roots = body.noise("roots", 2.6, 2.6, 80.0)(points)
    tail = both(ellipsoid(plane, (0, 61, 0), (8, 4.8, ENDLESS)), 1 - low)
    yield Layer(window, (tail * np.clip(roots - 0.2, 0, 1) * 0.9).astype(np.float32), "cord")
