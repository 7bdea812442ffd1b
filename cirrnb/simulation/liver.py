"""The liver's right, left and caudate lobes, its clefts, nodular surface and texture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cirrnb.simulation.body import Body, Frame, diaphragm
from cirrnb.simulation.fields import Array, Cells, Points, Vector, Window, coverage, ellipsoid, smooth_max, smooth_min

BOX_LOW, BOX_HIGH = (-150.0, -110.0, -150.0), (140.0, 110.0, 105.0)


@dataclass(frozen=True)
class Liver:
    """The liver in a slab: `distance` with nodular surface, `smooth` without, `closed` without wide clefts either."""

    distance: Array
    smooth: Array
    closed: Array


def fluid_depth(body: Body, points: Points) -> Array:
    """Depth in mm of ascites between the wall and what it surrounds: most to the right, least before the midline."""
    amount = 40 * body.shown["ascites"]
    if amount <= 0:
        return np.zeros((1, 1, 1), np.float32)
    side = np.clip(-points.x / 110, -1, 1)
    place = np.where(side > 0, 0.42 + 0.58 * side, 0.42 - 0.05 * side) * np.ones_like(points.y)
    behind = np.clip(1 - np.maximum(points.y - 15, 0) / 65, 0.1, 1)
    below = np.clip(1 - points.z / 110, 0.25, 1.25)
    rough = 1 + 0.35 * body.noise("fluid", 55.0)(points)
    return (amount * place * behind * below * np.clip(rough, 0.25, 2)).astype(np.float32)


def gap(body: Body, points: Points) -> Array:
    """Distance in mm that liver and spleen keep from the wall: none but for ascites."""
    return -0.4 + fluid_depth(body, points)


def lobe_distances(body: Body, moved: Points, inner: Array) -> tuple[Array, Array, Array]:
    """Distances to the right, left and caudate lobe, before they are joined; arguments as for `lobes`.

    Where a bound is a plane or a sum of lines, numpy works it out in two dimensions before it adds the third.
    """
    variations, size, shift = body.own, body.liver_size, body.shown["lobes"]
    x, y, z = moved.x, moved.y, moved.z
    bend = body.noise("lobes", 60.0).kept(moved) * np.float32(3.2)
    wall = smooth_max(inner, z - diaphragm(body, moved) + 1.5, 10)
    hollow = 14 * np.exp(-(((y - 45) / 30) ** 2)) * np.exp(-(((z + 50) / 40) ** 2))
    lean = 0.36 + 0.05 * variations["visceral"]
    # High up the lobe reaches the vena cava whatever its size; behind and below it draws back from the spine.
    aslant = 0.70 * np.maximum(y, 0) + 0.25 * np.minimum(y, 0)
    drawn = np.clip((y + 22) / 50, 0.15, 1) * (13 * shift + 9 - 16 * size)
    medial = (x + 17 + drawn + aslant) / 1.25 + (hollow - lean * z) / 1.25
    bottom = (-82 - 26 * size + 20 * shift + 7 * variations["visceral"] + 0.28 * (x + 100) + 0.12 * y) / 1.05 - z / 1.05
    right = smooth_max(smooth_max(wall + 9 * shift, medial + bend, 16), bottom - bend, 26)
    reach = 80 + 24 * variations["left lobe"] + 13 * size + 26 * shift
    back = (30 - 10 * size - 11 * shift + 0.24 * x + 0.0012 * np.maximum(x, 0) ** 2 + y) - 0.12 * z
    under = (
        -34 - 13 * size - 22 * shift + 14 * variations["left height"] + 0.42 * np.maximum(x, -20) + 0.15 * (y + 40)
    ) - z
    sides = smooth_max((x - reach) * 0.85 - bend, (under * 0.85).astype(np.float32) + bend, 30)
    left = smooth_max(smooth_max(wall, (back - bend).astype(np.float32), 18), sides, 24)
    left = smooth_max(left, (-x - 52).astype(np.float32), 10)
    grown = 1 + 0.55 * shift
    caudate = ellipsoid(moved, (-11 + 3 * shift, -13, 14), (17 * grown, 11.5 * grown, 31 * grown))
    return right.astype(np.float32), left.astype(np.float32), caudate


def lobes(body: Body, moved: Points, inner: Array) -> Array:
    """Distance to the smooth liver, before clefts are cut and its surface becomes nodular.

    `inner` is the distance to what confines it.
    """
    right, left, caudate = lobe_distances(body, moved, inner)
    return smooth_min(smooth_min(right, left, 12), caudate, 7)


def clefts(body: Body, moved: Points, distance: Array, wide: float | None = None) -> Array:
    """The liver with its fissures, hilum, gallbladder fossa and the notch behind the right lobe cut out.

    `wide` is how far they are opened, by default by the strength of the patient's sign.
    """
    variations, wide = body.own, body.shown["fossa"] if wide is None else wide
    x, y, z = moved.x, moved.y, moved.z
    bend = body.noise("clefts", 35.0).kept(moved) * np.float32(2.0)
    teres = np.maximum(
        np.abs(x + bend - 14 - 4 * variations["fissure"]) - 1.4 - 2.5 * wide - 0.05 * np.maximum(-z, 0), 0
    )
    teres = np.sqrt(teres**2 + np.maximum(y + 27 + 0.3 * z, 0) ** 2 + np.maximum(z - 14, 0) ** 2) - 0.8
    venosum = np.abs(y + 28 + 0.25 * x + bend) - 1.0 - 1.0 * wide
    venosum = np.maximum(venosum, np.maximum(np.abs(x - 6) - 26, np.abs(z - 16) - 22))
    hilum = ellipsoid(moved, (-16, -7, -6), (21 + 5 * wide, 9 + 3 * wide, 12 + 4 * wide), 0.15)
    spot = (-44.0, -42.0, -52.0)
    fossa = ellipsoid(moved, spot, (14 + 17 * wide, 20 + 19 * wide, 31 + 19 * wide), 0.35)
    notch = ellipsoid(moved, (-66, 66, -16), (0.1 + 22 * wide, 0.1 + 34 * wide, 0.1 + 34 * wide), -0.5)
    cut = np.minimum(np.minimum(teres, venosum), np.minimum(hilum, fossa))
    if wide > 0.02:
        cut = np.minimum(cut, notch + 0.15 * bend)
    return smooth_max(distance, -cut.astype(np.float32), 3)


def where(bodies: Sequence[Body], frame: Frame) -> Window | None:
    """The part of a slab that holds the livers of all these bodies, as the bounds in `lobes` leave it."""
    low, high = BOX_HIGH[2], BOX_LOW[0]
    for body in bodies:
        size, shift = body.liver_size, body.shown["lobes"]
        right = -92 - 26 * size + 20 * shift + 7 * body.own["visceral"]
        left = -52 - 13 * size - 22 * shift + 14 * body.own["left height"]
        low = min(low, right - 22, left - 22, -47)
        high = max(high, 80 + 24 * body.own["left lobe"] + 13 * size + 26 * shift + 22, 47)
    bottom = (BOX_LOW[0], BOX_LOW[1], max(BOX_LOW[2], low))
    region = frame.moved.window(bottom, (min(BOX_HIGH[0], high), BOX_HIGH[1], BOX_HIGH[2]))
    return None if region is None else region[0]


def build(body: Body, moved: Points, confines: Array) -> Liver:
    """The liver at some points; `confines` is their distance to the structures that confine organs."""
    whole = lobes(body, moved, confines + gap(body, moved))
    smooth = clefts(body, moved, whole)
    closed = clefts(body, moved, whole, 0.0) if body.shown["fossa"] > 0 else smooth
    return Liver(nodular(body, moved, smooth), smooth, closed)


def nodular(body: Body, moved: Points, smooth: Array) -> Array:
    """The liver's surface pushed out by nodules and drawn in between them, up to about 4.5 mm."""
    depth = 5.2 * body.shown["nodularity"]
    if depth <= 0:
        return smooth
    near = np.abs(smooth) < 2.2 * depth + 4
    random = body.random("surface")
    size = float(random.uniform(11, 15))
    centre = Cells.draw(random, size).centres(moved, near)
    bump = (0.52 - centre) * 1.9 + 0.25 * body.noise("fine surface", 9.0)(moved)[near]
    result = smooth.copy()
    result[near] -= np.float32(depth) * bump
    return result


def texture(body: Body, moved: Points, sequence: str, inside: NDArray[np.bool_]) -> tuple[Array, Array | None]:
    """Shade of the parenchyma (near 1) and share of it that is septum (0 to 1, None for none), where `inside`.

    On T1W nodules are iso- to hyperintense among septa that enhance late; on T2W they are dark in a bright lace.
    """
    strength = body.shown[f"nodules_{sequence.lower()}"]
    shade = 1 + 0.022 * body.noise("patches", 26.0).kept(moved) + 0.025 * body.noise("grain", 4.0).kept(moved)
    if strength <= 0 or not inside.any():
        return shade, None
    random = body.random("nodules")
    size = float(random.uniform(5.0, 7.0)) + 2.5 * strength
    centre, wall, name = Cells.draw(random, size).at(moved, inside)
    coarse = np.clip(0.65 + 0.45 * body.noise("confluent", 36.0)(moved)[inside], 0.15, 1.3)
    broken = np.clip(0.62 + 0.5 * body.noise("broken lace", 7.0)(moved)[inside], 0.05, 1.25)
    lace = np.zeros(inside.shape, np.float32)
    thread = np.clip(1.1 - wall * size / (0.8 + 0.9 * strength), 0, 1) * coarse * broken
    lace[inside] = thread * np.float32(min(0.65 * strength + 0.1, 3 * strength))
    odd = (name > 0.74).astype(np.float32)
    sign = 0.28 if sequence == "T1W" else -0.34
    round_off = np.clip(1.25 - 1.5 * centre, 0, 1)
    shade[inside] *= 1 + strength * sign * coarse * round_off * (0.45 + 1.1 * odd)
    return shade, lace


def volume(body: Body, step: float = 5.0) -> float:
    """Volume of the smooth liver in mL."""
    frame = lattice(BOX_LOW, BOX_HIGH, step)
    window = where([body], frame)
    assert window is not None
    moved = frame.part(window).moved
    whole = lobes(body, moved, frame.inner[window] + gap(body, moved))
    share = coverage(clefts(body, moved, whole), step).sum(dtype=np.float64)
    return float(share * step**3 * np.prod(body.scale) / 1000)


@cache
def lattice(low: Vector, high: Vector, step: float) -> Frame:
    """Points `step` mm apart on which volumes are counted; the same for all bodies."""
    axes = [np.arange(a, b, step, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    points = Points((axes[0], axes[1], axes[2]))
    return Frame(points, points, step)


def solve_size(body: Body, wanted: float) -> Body:
    """The body with `liver_size` such that the liver has the wanted volume in mL, as near as shape allows."""
    return replace(body, liver_size=solve(lambda size: volume(replace(body, liver_size=size), 8.0), wanted, -3.2, 1.9))


def solve(grows: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where a growing function takes the wanted value between two ends, or the nearer end; by false position."""
    below, above = grows(low) - wanted, grows(high) - wanted
    if below >= 0 or above <= 0:
        return low if below >= 0 else high
    middle = low
    for _ in range(3):
        middle = low - below * (high - low) / (above - below)
        missed = grows(middle) - wanted
        if missed < 0:
            low, below = middle, missed
        else:
            high, above = middle, missed
    return low - below * (high - low) / (above - below)
