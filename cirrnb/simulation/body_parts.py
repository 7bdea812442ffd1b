"""Slabs of other parts of the body: head, neck, shoulders, pelvis, thighs, knees, lower legs, arm.

They show what an abdomen has too, muscle, fat, bone, vessels and organs of soft tissue, and no liver: negatives for the
check of presence. Signals and acquisition are those of simulated abdomens. One file in three has a header that names a
wrong plane or voxels of a wrong size, as conversions leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cirrnb.simulation.acquisition import acquire_slab, shading
from cirrnb.simulation.contrast import draw_signals, draw_usual_signals
from cirrnb.simulation.fields import Array, Noise, Points, Vector, capsule, coverage, ellipsoid
from cirrnb.simulation.rendering import BODY, PIXEL, SIZE, Slab

LONG = 1e4
"""mm: half the length of what runs through the whole part."""


@dataclass(frozen=True)
class Part:
    """A part of the body, mm: x to the left, y to the back, z to the head.

    `reach` : lowest and highest place of its middle slice. `layers` : tissues from the outside in, with the distance to
    each (negative inside); later ones cover earlier ones.
    """

    reach: tuple[float, float]
    layers: Callable[[np.random.Generator, Points], Iterator[tuple[str, Array]]]


def render_part(random: np.random.Generator, slices: int, name: str) -> Slab:
    """A slab of `slices` slices of one of `PARTS`; all of it is labelled as body."""
    signals = _signals(random)
    spacing = float(random.uniform(3.5, 9))
    points, plane = _points(random, slices, spacing, PARTS[name].reach)
    bulge = float(random.uniform(1, 4)) * Noise.draw(random, float(random.uniform(30, 70)))(points)
    width = float(points.axes[plane[2]][1] - points.axes[plane[2]][0])
    image = np.zeros(points.shape, np.float32)
    inside = np.zeros(points.shape, np.float32)
    for tissue, distance in PARTS[name].layers(random, points):
        share = coverage(np.asarray(distance + bulge, np.float32), width)
        image += share * (abs(signals[tissue]) - image)
        inside = np.maximum(inside, share)
    image *= inside > 0
    painted, label = (
        torch.from_numpy(np.ascontiguousarray(_in_plane(array, plane))) for array in (image, inside > 0.5)
    )
    label = label.to(torch.uint8) * BODY
    if random.random() < 0.4:
        painted = painted * shading(random, painted.shape) ** float(random.uniform(0.3, 1.0))
    return Slab(acquire_slab(random, painted, label, usual=random.random() < 0.8), label, spacing)


def _signals(random: np.random.Generator) -> dict[str, float]:
    if random.random() < 0.2:
        return draw_signals(random)[0]
    return draw_usual_signals(random, str(random.choice(("T1W", "T2W"))))


def _points(
    random: np.random.Generator, slices: int, spacing: float, reach: tuple[float, float]
) -> tuple[Points, tuple[int, int, int]]:
    """Places of the voxels in the part, and its axes (x 0, y 1, z 2) along slices, rows and columns."""
    plane, zoom = (2, 1, 0), float(random.uniform(0.85, 1.15))
    if random.random() < 1 / 3:
        plane = ((2, 1, 0), (1, 2, 0), (0, 2, 1))[int(random.integers(3))]
        zoom *= float(np.exp(random.uniform(0, np.log(2.2))))
    axes: list[Array] = [np.zeros(0)] * 3
    for axis, count, step in zip(plane, (slices, *SIZE), (spacing, PIXEL, PIXEL), strict=True):
        middle = float(random.uniform(*reach) if axis == 2 else random.normal(0, 8))
        step = step if axis == plane[0] else step / zoom
        axes[axis] = (middle + (np.arange(count) - (count - 1) / 2) * step).astype(np.float32)
    return Points((axes[0], axes[1], axes[2])), plane


def _in_plane(volume: NDArray, plane: tuple[int, int, int]) -> NDArray:
    """(x, y, z) to (slices, rows, columns); rows go to the feet where they run along the body."""
    turned = volume.transpose(plane)
    return turned[:, ::-1] if plane[1] == 2 else turned


def _tube(points: Points, x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Array:
    """Distance to an elliptic tube along the body."""
    return ellipsoid(points, (x, y, 0.0), (rx, ry, LONG), tilt)


def _bone(distance: Array, cortex: float) -> Iterator[tuple[str, Array]]:
    yield "cortical bone", distance
    yield "marrow", distance + cortex


def _vessels(points: Points, x: float, y: float, radius: float, lean: float) -> Iterator[tuple[str, Array]]:
    """Artery and vein side by side on either side of the body."""
    for side in (-1, 1):
        ends = [(side * (x + lean * share), y, 300.0 * share) for share in (-1, 1)]
        yield "artery", capsule(points, ends[0], ends[1], radius)
        ends = [(a + side * 2.3 * radius, b + radius, c) for a, b, c in ends]
        yield "vein", capsule(points, ends[0], ends[1], 1.3 * radius)


def _spine(random: np.random.Generator, points: Points, y: float, size: float) -> Iterator[tuple[str, Array]]:
    """Vertebrae with discs, the canal with cord, spinous processes; `size` is half the width of a vertebra."""
    height = 1.8 * size
    phase = float(random.uniform(0, height))
    row = _tube(points, 0, y, size, 0.75 * size)
    yield "disc", row
    body = np.maximum(row, np.abs((points.z - phase) % height - height / 2) - 0.42 * height)
    yield from _bone(np.asarray(body, np.float32), 2)
    behind = y + 1.45 * size
    yield "cortical bone", _tube(points, 0, behind, 0.85 * size, 0.8 * size)
    process = np.maximum(
        _tube(points, 0, behind + 1.1 * size, 0.2 * size, 1.1 * size),
        np.abs((points.z - phase) % height - height / 2) - 0.25 * height,
    )
    yield "cortical bone", np.asarray(process, np.float32)
    yield "csf", _tube(points, 0, behind, 0.6 * size, 0.5 * size)
    yield "cord", _tube(points, 0, behind, 0.38 * size, 0.28 * size)


def neck(random: np.random.Generator, points: Points) -> Iterator[tuple[str, Array]]:
    """From the shoulders' slope to the floor of the mouth."""
    rx, ry = float(random.uniform(48, 72)), float(random.uniform(52, 72))
    fat = float(random.uniform(3, 14))
    outer = _tube(points, 0, 0, rx, ry)
    slope = ellipsoid(points, (0, 25, -135), (190, 75, 75))
    jaw = ellipsoid(points, (0, -30, 95), (62, 75, 55))
    skin = np.minimum(np.minimum(outer, slope), jaw)
    yield "skin", skin
    yield "fat", skin + 2
    yield "stranded fat", skin + fat
    yield "muscle", np.maximum(skin + fat + 3, 0.22 * ry - points.y)  # of the nape
    yield "fat", np.maximum(np.abs(points.x) - 1.5, np.maximum(skin, 0.4 * ry - points.y))
    for side in (-1, 1):
        yield (
            "fascia",
            np.maximum(
                np.abs(_tube(points, side * 0.4 * rx, 0.5 * ry, 0.35 * rx, 0.3 * ry)) - 1,
                0.2 * ry - points.y + 0 * points.x,
            ),
        )
        yield "muscle", capsule(points, (side * 0.35 * rx, -0.75 * ry, -90), (side * 0.85 * rx, 0.3 * ry, 90), 11)
        yield "muscle", _tube(points, side * 0.25 * rx, -0.02 * ry, 0.16 * rx, 0.12 * ry)
        yield "adrenal", ellipsoid(points, (side * 20, -0.5 * ry, -35), (10, 13, 26))  # thyroid
        yield "pancreas", ellipsoid(points, (side * 0.62 * rx, -0.35 * ry, 62), (16, 18, 22))  # salivary glands
        for _ in range(int(random.integers(0, 5))):  # lymph nodes
            place = (side * float(random.uniform(0.5, 0.8)) * rx, float(random.uniform(-20, 20)))
            yield "spleen", ellipsoid(points, (*place, float(random.uniform(-60, 60))), (4, 5, 9))
    yield from _vessels(points, 0.42 * rx, -0.18 * ry, float(random.uniform(2.8, 4.2)), float(random.uniform(-4, 4)))
    yield from _spine(random, points, 0.08 * ry, float(random.uniform(11, 15)))
    yield "muscle", ellipsoid(points, (0, -0.75 * ry, 85), (26, 34, 26))  # tongue
    yield "cortical bone", np.maximum(np.abs(jaw + 16) - 4, np.abs(points.z - 75) - 14 + 0.4 * (points.y + 60))
    radius = float(random.uniform(6, 10))
    yield "hollow wall", capsule(points, (0, -0.42 * ry, -300), (0, -0.42 * ry, 60), radius + 3)
    yield "air", capsule(points, (0, -0.42 * ry, -300), (0, -0.42 * ry, 60), radius)
    yield "hollow wall", _tube(points, 3, -0.42 * ry + radius + 8, 8, 4)


def shoulders(random: np.random.Generator, points: Points) -> Iterator[tuple[str, Array]]:
    """Upper chest with the tops of the lungs, arms beside it."""
    rx, ry, fat = float(random.uniform(140, 185)), float(random.uniform(75, 105)), float(random.uniform(5, 25))
    skin = ellipsoid(points, (0, 0, -40), (rx, ry, 160))
    for side in (-1, 1):
        joint = (side * (rx + 5), 5.0, 20.0)
        arm = capsule(points, joint, (side * (rx + 25), 10, -300), float(random.uniform(45, 60)))
        skin = np.minimum(skin, arm)
    yield "skin", skin
    yield "fat", skin + 2
    yield "muscle", skin + fat
    chest = ellipsoid(points, (0, 0, -60), (0.66 * rx, 0.72 * ry, 130))
    yield "stranded fat", chest
    ribs = np.maximum(np.abs(chest) - 4, np.abs((points.z + 0.5 * points.y) % 28 - 14) - 6)
    yield from _bone(ribs, 1.5)
    for side in (-1, 1):
        yield "lung", ellipsoid(points, (side * 0.35 * rx, 5, -85), (0.27 * rx, 0.6 * ry, 125))
        head = ellipsoid(points, (side * (rx - 2), 5, 12), (25, 25, 26))
        yield from _bone(head, 2)
        yield from _bone(capsule(points, (side * rx, 5, 0), (side * (rx + 20), 10, -300), 12), 4)
        yield from _bone(ellipsoid(points, (side * 0.78 * rx, 0.5 * ry, -30), (45, 7, 70), -side * 0.6), 2)
        yield "fat", ellipsoid(points, (side * 0.8 * rx, -0.1 * ry, -50), (20, 22, 50))
    yield from _vessels(points, 16, -0.25 * ry, float(random.uniform(5, 9)), float(random.uniform(-5, 5)))
    yield "artery", ellipsoid(points, (8, -5, -70), (22, 34, 16))
    yield "heart", ellipsoid(points, (20, -0.3 * ry, -150), (60, 45, 60))
    yield from _spine(random, points, 0.35 * ry, float(random.uniform(14, 18)))
    yield "hollow wall", _tube(points, 0, 0.0, 11, 11)
    yield "air", _tube(points, 0, 0.0, 8, 8)


def pelvis(random: np.random.Generator, points: Points) -> Iterator[tuple[str, Array]]:
    """Hips, bladder and gluteal muscles, and the thighs below."""
    rx, ry, fat = float(random.uniform(150, 195)), float(random.uniform(90, 125)), float(random.uniform(8, 45))
    skin = ellipsoid(points, (0, 0, 60), (rx, ry, 190))
    for side in (-1, 1):
        skin = np.minimum(skin, capsule(points, (side * 0.5 * rx, 0, 20), (side * 0.5 * rx, 0, -300), 0.5 * rx))
    yield "skin", skin
    yield "fat", skin + 2
    yield "muscle", skin + fat
    yield "stranded fat", ellipsoid(points, (0, -0.1 * ry, 60), (0.52 * rx, 0.6 * ry, 120))
    for side in (-1, 1):
        yield "fat", np.abs(ellipsoid(points, (side * 0.5 * rx, 0.5 * ry, 20), (0.42 * rx, 0.4 * ry, 95))) - 2
        yield "muscle", capsule(points, (side * 0.3 * rx, -0.1 * ry, 200), (side * 0.45 * rx, -0.3 * ry, -10), 20)
        wing = ellipsoid(points, (side * 0.55 * rx, 0.1 * ry, 90), (18, 60, 75), side * 0.6)
        yield from _bone(wing, 3)
        yield from _bone(ellipsoid(points, (side * 0.56 * rx, 0, 5), (32, 32, 32)), 3)
        yield from _bone(ellipsoid(points, (side * 0.57 * rx, 0, 3), (24, 24, 24)), 2)
        yield from _bone(capsule(points, (side * 0.62 * rx, 5, 0), (side * 0.52 * rx, 0, -300), 16), 5)
        yield "muscle", ellipsoid(points, (side * 0.28 * rx, 0, 5), (14, 40, 30))
    size = random.uniform(18, 50, 3)
    yield "hollow wall", ellipsoid(points, (0, -0.35 * ry, 15), (size[0] + 4, size[1] + 4, size[2] + 4))
    yield "urine", ellipsoid(points, (0, -0.35 * ry, 15), (size[0], size[1], size[2]))
    womb = random.uniform(15, 45, 2)
    yield "spleen", ellipsoid(points, (float(random.normal(0, 8)), 0.05 * ry, 30), (womb[0], womb[1], 35))
    yield "hollow wall", _tube(points, 0, 0.38 * ry, 20, 17)
    yield str(random.choice(("stool", "air", "bowel content"))), _tube(points, 0, 0.38 * ry, 14, 12)
    for _ in range(int(random.integers(2, 7))):
        middle = (float(random.uniform(-55, 55)), float(random.uniform(-60, 10)), float(random.uniform(70, 150)))
        yield "hollow wall", ellipsoid(points, middle, (19, 17, 25))
        yield str(random.choice(("bowel content", "air", "stool"))), ellipsoid(points, middle, (15, 13, 21))
    yield from _bone(ellipsoid(points, (0, 0.62 * ry, 75), (48, 18, 60)), 2)
    yield from _vessels(points, 0.42 * rx, -0.35 * ry, float(random.uniform(4, 7)), float(random.uniform(-10, 10)))


def _limb(
    random: np.random.Generator, points: Points, axis: tuple[Vector, Vector], radius: float, bones: int
) -> Iterator[tuple[str, Array]]:
    """Fat, muscles parted by septa, one bone or two, vessels, along an axis."""
    start, end = axis
    fat, tip = float(random.uniform(0.06, 0.35)) * radius, radius * float(random.uniform(0.8, 1.2))
    skin = capsule(points, start, end, radius, tip)
    yield "skin", skin
    yield "fat", skin + 2
    flesh = skin + fat
    yield "muscle", flesh
    for _ in range(int(random.integers(2, 6))):  # septa are planes through the limb
        angle, away = float(random.uniform(0, np.pi)), float(random.normal(0, 0.25)) * radius
        across = (points.x - start[0]) * np.cos(angle) + (points.y - start[1]) * np.sin(angle) - away
        thick = float(random.uniform(0.5, 2.5))
        yield ("fat" if thick > 1.2 else "fascia"), np.maximum(np.abs(across) - thick, flesh + 3)
    for bone in range(bones):
        x, y = (radius * float(random.normal(0, 0.15) + share * bone) for share in (0.45, 0.1))
        places = [(place[0] + x, place[1] + y, place[2]) for place in axis]
        size = (0.2 if bones == 1 else 0.24 - 0.08 * bone) * radius
        yield from _bone(capsule(points, places[0], places[1], size), 0.4 * size)
    for tissue, share in (("artery", 0.06), ("vein", 0.08), ("vein", 0.05)):
        angle, away = float(random.uniform(0, 2 * np.pi)), float(random.uniform(0.3, 0.55)) * radius
        x, y = away * float(np.cos(angle)), away * float(np.sin(angle))
        places = [(place[0] + x, place[1] + y, place[2]) for place in axis]
        yield tissue, capsule(points, places[0], places[1], share * radius)


def _pair(radius: tuple[float, float], bones: int, both: float) -> Callable[..., Iterator[tuple[str, Array]]]:
    """Two limbs side by side, or one: `both` is the chance of two."""

    def layers(random: np.random.Generator, points: Points) -> Iterator[tuple[str, Array]]:
        size = float(random.uniform(*radius))
        sides = (-1, 1) if random.random() < both else (0,)
        away, lean = size * float(random.uniform(0.98, 1.3)), float(random.uniform(-0.1, 0.1))
        for side in sides:
            axis = ((side * (away + 400 * lean), 0.0, -400.0), (side * (away - 400 * lean), 0.0, 400.0))
            yield from _limb(random, points, axis, size, bones)

    return layers


def knees(random: np.random.Generator, points: Points) -> Iterator[tuple[str, Array]]:
    """Ends of femur and tibia with a joint between them, in a flesh that is thick behind."""
    size = float(random.uniform(46, 64))
    for side in (-1, 1) if random.random() < 0.6 else (0,):
        x = side * size * float(random.uniform(1.02, 1.4))
        yield from _limb(random, points, ((x, 0.0, -400.0), (x, 0.0, 400.0)), size, 0)
        yield "fat", ellipsoid(points, (x, 0.35 * size, 0), (0.5 * size, 0.35 * size, 60))
        yield "csf", ellipsoid(points, (x, -0.1 * size, 0), (0.8 * size, 0.62 * size, 8))
        yield from _bone(ellipsoid(points, (x, -0.12 * size, 32), (0.72 * size, 0.56 * size, 31)), 2)
        yield from _bone(ellipsoid(points, (x, -0.12 * size, -32), (0.74 * size, 0.52 * size, 30)), 2)
        yield from _bone(capsule(points, (x, -0.12 * size, 30), (x, -0.1 * size, 400), 0.3 * size), 5)
        yield from _bone(capsule(points, (x, -0.12 * size, -30), (x, -0.1 * size, -400), 0.28 * size), 5)
        yield from _bone(ellipsoid(points, (x, -0.82 * size, 30), (0.36 * size, 0.14 * size, 22)), 2)


def head(random: np.random.Generator, points: Points) -> Iterator[tuple[str, Array]]:
    """Brain in a skull, face below."""
    rx, ry, rz = float(random.uniform(66, 80)), float(random.uniform(84, 100)), float(random.uniform(78, 92))
    skull = ellipsoid(points, (0, 0, 40), (rx, ry, rz))
    face = ellipsoid(points, (0, -35, -45), (58, 62, 75))
    skin = np.minimum(np.minimum(skull - 6, face), _tube(points, 0, 25, 55, 55) + 0.6 * np.maximum(points.z, 0))
    yield "skin", skin
    yield "fat", skin + 2
    yield "muscle", skin + 6
    yield from _bone(skull, 2)
    yield "cortical bone", skull + 5
    yield "csf", skull + 7
    yield "hollow wall", skull + 10 + 2 * np.sin(points.x / 4) * np.sin(points.y / 4.5) * np.sin(points.z / 5)
    yield "cord", ellipsoid(points, (0, 0, 45), (0.72 * rx, 0.74 * ry, 0.66 * rz))
    yield "csf", np.maximum(np.abs(points.x) - 1, skull + 9)
    for side in (-1, 1):
        yield "csf", ellipsoid(points, (side * 11, 0, 48), (7, 32, 13), side * 0.15)
        yield "hollow wall", ellipsoid(points, (side * 18, -5, 30), (10, 16, 13))
        yield "csf", ellipsoid(points, (side * 32, -72, -12), (13, 13, 13))
        yield "air", ellipsoid(points, (side * 28, -52, -42), (15, 17, 16))
    yield "hollow wall", ellipsoid(points, (0, 45, -20), (48, 30, 24))
    yield "air", ellipsoid(points, (0, -48, -45), (9, 32, 26))
    yield "muscle", ellipsoid(points, (0, -48, -88), (24, 34, 22))


PARTS = {
    "head": Part((-70.0, 90.0), head),
    "neck": Part((-75.0, 75.0), neck),
    "shoulders": Part((-110.0, 20.0), shoulders),
    "pelvis": Part((-60.0, 120.0), pelvis),
    "thighs": Part((-100.0, 100.0), _pair((62.0, 105.0), 1, 0.85)),
    "knees": Part((-60.0, 60.0), knees),
    "lower legs": Part((-100.0, 100.0), _pair((42.0, 68.0), 2, 0.8)),
    "arm": Part((-100.0, 100.0), _pair((32.0, 58.0), 1, 0.1)),
}
"""Parts of the body without a liver, by name."""
