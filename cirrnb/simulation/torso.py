"""Skin, fat, muscular wall, ribs, spine, back muscles, lungs and heart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cirrnb.simulation.body import Body, Frame, Layer, Layers, diaphragm
from cirrnb.simulation.fields import Array, Points, Window, capsule, coverage, ellipsoid, smooth_max

LEVEL = 34.0
"""Height of a vertebra with its disc, mm."""
ENDLESS = 1e5
BONY = ("cortical bone", "marrow", "disc", "muscle")
"""Tissues that a vertebra or a disc is made of; the rim of a disc is as dark as muscle."""


def flat(points: Points) -> Points:
    """The axial plane of some points, for what does not change along z."""
    return Points((points.axes[0], points.axes[1], np.zeros(1, np.float32)))


def hull(body: Body, points: Points, inner: Array) -> tuple[Array, Array]:
    """Depth of the muscular wall, and distance to the skin; `inner` is the distance to the cavity."""
    plane = flat(points)
    away = np.maximum(np.sqrt(plane.x**2 + plane.y**2), 1)
    front = np.maximum(-plane.y / away, 0)
    back = np.maximum(plane.y / away, 0)
    rectus = 3.5 * front * np.exp(-(((np.abs(plane.x) - 32) / 26) ** 2))
    wall = (6.0 + 6.5 * back + rectus + 2.5 * (np.abs(plane.x) / away) ** 4) * body.wall
    lumpy = body.noise("skin", 70.0)(points) * np.float32(0.05 * body.fat + 0.8)
    female = body.sex == "female"
    share = 0.72 + (0.45 if female else 0.2) * front**2 + (0.5 + 0.12 * body.own["fat shape"]) * back**2
    furrow = (7 + 0.3 * body.fat) * np.exp(-((plane.x / 15) ** 2)) * (plane.y > 0)
    fat = body.fat * share * (1 - 0.15 * (points.z / 100)) - furrow
    skin = inner - wall - np.maximum(fat, 3) - lumpy
    table = points.y - (HALF_BACK + 0.75 * body.fat)
    return wall, smooth_max(skin.astype(np.float32), table.astype(np.float32), 16)


HALF_BACK = 104.0


def outside(body: Body, frame: Frame) -> Layers:
    """Skin, fat and wall, and the fat that fills the cavity before its organs come."""
    points, width, window, inner = frame.still, frame.width, frame.everywhere, frame.inner
    wall, skin = hull(body, points, inner)
    yield Layer(window, coverage(skin, width), "skin")
    septa = body.noise("camper", 26.0, 9.0, 40.0)(points)
    yield Layer(window, coverage(skin + 2.2, width), "fat", 1 + 0.03 * septa)
    threads = coverage(np.abs(septa * 6 + 3) - 0.3, width) * coverage(skin + 4, width) * np.float32(0.35)
    yield Layer(window, threads, "fascia")
    muscle = coverage(np.maximum(inner - wall, -inner - 1), width)
    grain, broad = 1 + 0.10 * body.noise("wall", 12.0)(points), body.noise("planes", 30.0)(points)
    yield Layer(window, muscle, "muscle", grain)
    depth = inner / wall
    loose = np.clip(0.45 + 0.3 * broad + 0.12 * body.own["muscle fat"], 0, 1)
    for share, thin in ((0.5, 0.35), (1.0, 0.5)):
        plane = coverage(np.abs(depth - share) * wall - thin, width) * loose
        yield Layer(window, plane * muscle, "fat")
    linea = coverage(np.abs(points.x) - 2.5, width) * (points.y < 0) * muscle * np.float32(0.45)
    yield Layer(window, linea, "fat")
    yield from _latissimus(body, frame, wall, grain)
    yield from _ribs(body, frame, inner, wall)
    yield Layer(window, coverage(inner + 0.8, width), "stranded fat", _visceral(body, points, broad))


def _latissimus(body: Body, frame: Frame, wall: Array, grain: Array) -> Layers:
    """The flat muscle of the back's side, a sheet within the fat outside the ribs, in the upper half."""
    points = frame.still
    plane = flat(points)
    angle = np.arctan2(np.abs(plane.x), plane.y)
    upper = np.clip((points.z + 40) / 50, 0, 1)
    thick = 3.6 * np.clip(1 - ((angle - 1.15) / 0.62) ** 2, 0, 1) * upper * body.wall
    sheet = np.abs(frame.inner - wall - 3.2 - thick / 2) - thick / 2
    amount = coverage(sheet.astype(np.float32), frame.width) * (thick > 0.5)
    yield Layer(frame.everywhere, amount.astype(np.float32), "muscle", grain)


def _visceral(body: Body, points: Points, broad: Array) -> Array:
    strands = np.abs(body.noise("strands", 11.0)(points))
    patches = np.clip(0.6 + 0.6 * broad, 0, 1.4)
    amount = (0.09 + 0.04 * body.own["visceral fat"]) * patches
    misty = 0.035 * body.noise("misty fat", 16.0)(points) + 0.03 * patches
    return np.clip(1.04 - misty - amount * np.exp(-((strands / 0.2) ** 2)), 0.4, 1.15).astype(np.float32)


def _ribs(body: Body, frame: Frame, inner: Array, wall: Array) -> Layers:
    """Bows that fall from back to front, 27 mm apart; towards the front they end in cartilage and leave the flanks."""
    points = frame.still
    plane = flat(points)
    angle = np.arctan2(np.abs(plane.x), plane.y)
    fall = 74 * (angle / np.pi) ** 0.9 + 34 * (angle / np.pi) ** 3
    height = points.z + fall + 8 * body.own["spine"]
    turn = (height / 27) % 1 - 0.5
    reaches = (height > 2) & (angle < 2.75) & (angle > 0.5)
    distance = np.sqrt((turn * 27 / 1.75) ** 2 + (inner - 0.45 * wall - 0.6) ** 2) - 4.3
    rim = coverage(distance - 1.3, frame.width) * reaches
    yield Layer(frame.everywhere, rim.astype(np.float32) * np.float32(0.7), "fat")
    yield Layer(frame.everywhere, (coverage(distance, frame.width) * reaches).astype(np.float32), "cortical bone")
    core = (coverage(distance + 1.2, frame.width) * reaches).astype(np.float32)
    yield Layer(frame.everywhere, core, "marrow", np.where(angle > 2.1, 0.75, 1.0).astype(np.float32))


def chest(body: Body, frame: Frame) -> Layers:
    """The diaphragm's muscle, lungs with their vessels, and the heart in its fat between them."""
    region = frame.moved.window((-ENDLESS, -ENDLESS, -45), (ENDLESS, ENDLESS, ENDLESS))
    if region is None:
        return
    window, points = region
    width, inner = frame.width, frame.inner[window]
    above = (diaphragm(body, points) - points.z) * np.float32(0.75)
    yield Layer(window, coverage(np.maximum(above, inner + 1), width), "muscle")
    chestwise = np.maximum(above + 2.2, inner + 2)
    yield Layer(window, coverage(chestwise, width), "stranded fat")
    sac = ellipsoid(points, (22 + 4 * body.own["fat shape"], -36, 106), (66, 46, 56), -0.25)
    between = (15 - np.abs(points.x - 4)) - 0.12 * np.maximum(points.y - 10, 0)
    middle = np.maximum(between, 5 - sac)
    lung = smooth_max(smooth_max(above + 3.5, inner + 2.5, 5), middle.astype(np.float32), 6)
    specks = body.noise("lung", 8.0)(points)
    yield Layer(window, coverage(lung, width), "lung", 1 + 2.5 * np.clip(specks - 1.5, 0, 1))
    heart = np.maximum(sac + 3, above + 4)
    yield Layer(window, coverage(np.maximum(heart, inner + 3), width), "heart")
    for centre, radii in (((42, -30, 112), (27, 23, 38)), ((-2, -50, 112), (28, 20, 38))):
        chamber = np.maximum(ellipsoid(points, centre, radii, -0.5), heart + 6)
        yield Layer(window, coverage(chamber, width), "artery")
    yield from _oesophagus(window, points, width)


def _oesophagus(window: Window, points: Points, width: float) -> Layers:
    gullet = capsule(points, (16, -6, 52), (6, -8, 160), 7.5)
    yield Layer(window, coverage(gullet, width), "muscle", 1.25)


def spine(body: Body, frame: Frame) -> Layers:
    """Vertebrae with discs, canal and processes, back muscles, psoas and the diaphragm's crura."""
    for _, layer in spine_parts(body, frame):
        yield layer


def spine_parts(body: Body, frame: Frame) -> Iterator[tuple[str, Layer]]:
    """The layers of `spine`, each with the organ it belongs to: "vertebrae", "back muscle" or "body"."""
    region = frame.still.window((-85, -5, -ENDLESS), (85, 125, ENDLESS))
    if region is None:
        return
    window, points = region
    plane, width = flat(points), frame.width
    fatty = float(np.clip(0.35 + 0.22 * body.own["muscle fat"], 0.05, 1.0))
    level = ((points.z + 12 * body.own["spine"]) / LEVEL) % 1 - 0.5

    def tube(centre: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0) -> Array:
        return ellipsoid(plane, (*centre, 0), (*radii, ENDLESS), tilt)

    # Behind the spine the wall's own outline bounds the muscles of the back.
    behind = (47 + 0.0052 * plane.x**2 - plane.y).astype(np.float32)
    block = smooth_max(frame.inner[window] - 11 * body.wall, behind, 8)
    block = smooth_max(block, (np.abs(plane.x) - 84).astype(np.float32), 10)
    yield "body", Layer(window, coverage(block, width), "fat")
    yield "back muscle", Layer(window, coverage(block + 1.6, width), "muscle")
    for layer in _back_muscles(body, window, points, width, fatty, block):
        yield "back muscle", layer
    psoas = np.clip((-points.z - 5) / 70, 0, 1)
    for side in (-1, 1):
        distance = tube((side * 35, 39), (17, 20), side * 0.5) + 16 * (1 - psoas)
        yield "body", Layer(window, coverage(distance, width) * (psoas > 0.06), "muscle")
        flank = tube((side * 58, 57), (17, 9), side * 0.45) + 12 * (1 - psoas)
        yield "body", Layer(window, coverage(flank, width) * (psoas > 0.2), "muscle")
    for layer in _crura(body, window, points, width):
        yield "body", layer
    for layer in _vertebra(body, window, points, width, level):
        yield ("vertebrae" if layer.tissue in BONY else "body"), layer


def _back_muscles(body: Body, window: Window, points: Points, width: float, fatty: float, block: Array) -> Layers:
    """Three columns a side with feathery fat between their bundles, most of it deep and near the midline."""
    plane = flat(points)
    bundles = body.noise("bundles", 5.0, 9.0, 55.0)(points)
    fibres = body.noise("fibres", 2.8, 4.5, 45.0)(points)
    groups = (((12, 80), (11.5, 19), 0.0), ((31, 84), (18, 21), 0.12), ((54, 81), (21, 17), 0.30))
    away = np.abs(plane.x)
    medial = np.clip(1.25 - away / 32, 0.15, 1.0)
    for side in (-1, 1):
        for (x, y), radii, tilt in groups:
            edge = ellipsoid(plane, (side * x, y, 0), (*radii, ENDLESS), side * tilt) + 0.3 * bundles
            inside = coverage(np.maximum(edge, block + 2.2), width)
            yield Layer(window, inside, "muscle", 1 + 0.12 * fibres)
            amount = np.clip(0.5 * bundles + 0.5 * fibres - 1.05 + 1.5 * fatty * medial, 0, 1)
            yield Layer(window, inside * (0.5 * amount).astype(np.float32), "fat")


def _crura(body: Body, window: Window, points: Points, width: float) -> Layers:
    """Two bands of muscle that leave the vertebrae's sides and thin out before the aorta, the right one thicker."""
    plane = flat(points)
    high = np.clip((points.z + 50) / 30, 0, 1)
    uneven = body.noise("crura", 18.0)(points)
    arch = ellipsoid(plane, (6, 23, 0), (22.5, 27, ENDLESS)) + 0.8 * uneven
    front = np.clip((plane.y - 2) / 22, 0, 1)
    thick = 1.2 + 3.6 * front - 0.03 * plane.x
    inside = coverage(arch, width) * high
    yield Layer(window, inside, "muscle")
    yield Layer(window, coverage((arch + thick).astype(np.float32), width) * high, "stranded fat")


def _vertebra(body: Body, window: Window, points: Points, width: float, level: Array) -> Layers:
    plane = flat(points)
    shape = points.shape

    def both(distance: Array, along: Array | float = 1.0) -> Array:
        return (coverage(distance, width) * along * np.ones((1, 1, shape[2]), np.float32)).astype(np.float32)

    across = np.abs(plane.x)
    mirrored = Points((np.abs(plane.axes[0]), plane.axes[1], plane.axes[2]))
    pedicle = np.clip(5 - np.abs(level + 0.08) * LEVEL / 2.2, 0, 1)
    process = np.clip(3.4 - np.abs(level + 0.02) * LEVEL / 2.0, 0, 1)
    parts = (
        (capsule(mirrored, (13, 46, 0), (15, 62, 0), 5.2), pedicle),
        (capsule(mirrored, (16, 63, 0), (34, 68, 0), 4.4, 3.0), process),
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
    yield Layer(window, coverage(trunk - 0.2, width), "cortical bone")
    vein = np.exp(-((level * 9) ** 2)) * np.exp(-((plane.x / 3) ** 2)) * (plane.y > 36)
    yield Layer(window, coverage(trunk + 0.9, width), "marrow", (rich * (1 + 0.5 * vein)).astype(np.float32))
    core = coverage(trunk + 6, width)
    yield Layer(window, coverage(trunk + 0.8, width) * disc, "muscle", 1.15)
    yield Layer(window, core * disc, "disc", 0.75 + 0.1 * body.own["spine"])
    canal = ellipsoid(plane, (0, 60.5, 0), (11, 9.5, ENDLESS))
    yield Layer(window, both(canal), "fat", 0.9)
    yield Layer(window, both(ellipsoid(plane, (0, 59.3, 0), (8.0, 6.6, ENDLESS))), "csf")
    low = np.clip((points.z + 60) / 25, 0, 1)
    yield Layer(window, both(ellipsoid(plane, (0, 59.8, 0), (5.4, 4.4, ENDLESS)), low), "cord")
    roots = body.noise("roots", 2.6, 2.6, 80.0)(points)
    tail = both(ellipsoid(plane, (0, 61, 0), (8, 4.8, ENDLESS)), 1 - low)
    yield Layer(window, (tail * np.clip(roots - 0.2, 0, 1) * 0.9).astype(np.float32), "cord")
