"""The liver's right, left and caudate lobes, its clefts, nodular surface and texture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cirrnb.simulation.body import Body, Frame, cavity, diaphragm
from cirrnb.simulation.fields import Array, Cells, Points, Window, ellipsoid, smooth_max, smooth_min

BOX_LOW, BOX_HIGH = (-150.0, -110.0, -150.0), (140.0, 110.0, 105.0)


@dataclass(frozen=True)
class Liver:
    """The liver in a slab: `distance` with the nodular surface, `smooth` without, `parenchyma` shading by cells."""

    window: Window
    distance: Array
    smooth: Array


def fluid_depth(body: Body, points: Points) -> Array:
    """Depth in mm of ascites between the wall and what it surrounds: most to the right, least before the midline."""
    amount = 40 * body.shown["ascites"]
    if amount <= 0:
        return np.zeros((1, 1, 1), np.float32)
    side = np.clip(-points.x / 95, -1, 1)
    place = np.where(side > 0, 0.32 + 0.68 * np.maximum(side, 0) ** 1.5, 0.32 + 0.25 * side**2) * np.ones_like(points.y)
    behind = np.clip(1 - np.maximum(points.y - 15, 0) / 65, 0.1, 1)
    below = np.clip(1 - points.z / 110, 0.25, 1.25)
    rough = 1 + 0.35 * body.noise("fluid", 55.0)(points)
    return (amount * place * behind * below * np.clip(rough, 0.25, 2)).astype(np.float32)


def gap(body: Body, points: Points) -> Array:
    """Distance in mm that liver and spleen keep from the wall: fat, and ascites where there is some."""
    return 1.6 + fluid_depth(body, points)


def lobes(body: Body, moved: Points, inner: Array, keep: Array) -> Array:
    """Distance to the smooth liver, before its surface becomes nodular."""
    own, size, shift = body.own, body.liver_size, body.shown["lobes"]
    bend = body.noise("lobes", 60.0)(moved) * np.float32(3.5)
    x, y, z = moved.x + bend, moved.y, moved.z - 0.6 * bend
    top = z - diaphragm(body, moved) + 1.5
    wall = smooth_max(inner + keep, top, 10)
    medial = x + 21 - 24 * size + 15 * shift + 0.30 * y - (0.36 + 0.05 * own["visceral"]) * z
    hollow = 9 * np.exp(-(((y - 45) / 30) ** 2) - ((z + 50) / 40) ** 2)
    bottom = -96 - 26 * size + 26 * shift + 7 * own["visceral"] + 0.28 * (x + 100) + 0.12 * y - z
    right = smooth_max(smooth_max(wall + 9 * shift, (medial + hollow) / 1.15, 16), bottom / 1.05, 26)
    reach = 70 + 24 * own["left lobe"] + 26 * size + 26 * shift
    back = y + 24 - 7 * size - 11 * shift + 0.19 * x + 0.0022 * np.maximum(x, 0) ** 2 - 0.12 * z
    under = -44 - 14 * size - 22 * shift + 14 * own["left height"] + 0.42 * np.maximum(x, -20) + 0.15 * (y + 40) - z
    left = smooth_max(smooth_max(wall, back, 14), smooth_max((x - reach) * 0.85, under * 0.85, 16), 14)
    left = smooth_max(left, -x - 52, 10)
    grown = 1 + 0.55 * shift
    caudate = ellipsoid(moved, (-9, 2 + 2 * shift, 12), (17 * grown, 14 * grown, 33 * grown))
    return smooth_min(smooth_min(right, left, 12), caudate, 7)


def clefts(body: Body, moved: Points, distance: Array) -> Array:
    """The liver with its fissures, hilum, gallbladder fossa and the notch behind the right lobe cut out."""
    own, wide = body.own, body.shown["fossa"]
    x, y, z = moved.x, moved.y, moved.z
    bend = body.noise("clefts", 35.0)(moved) * np.float32(2.0)
    teres = np.maximum(np.abs(x + bend - 14 - 4 * own["fissure"]) - 1.4 - 2.5 * wide - 0.05 * np.maximum(-z, 0), 0)
    teres = np.sqrt(teres**2 + np.maximum(y + 27 + 0.3 * z, 0) ** 2 + np.maximum(z - 14, 0) ** 2) - 0.8
    venosum = np.abs(y + 14 + 0.25 * x + bend) - 1.0 - 1.0 * wide
    venosum = np.maximum(venosum, np.maximum(np.abs(x - 6) - 26, np.abs(z - 16) - 22))
    hilum = ellipsoid(moved, (-16, -7, -6), (21 + 5 * wide, 9 + 3 * wide, 12 + 4 * wide), 0.15)
    spot = (-44.0, -42.0, -52.0)
    fossa = ellipsoid(moved, spot, (14 + 13 * wide, 20 + 15 * wide, 31 + 16 * wide), 0.35)
    notch = ellipsoid(moved, (-66, 66, -16), (0.1 + 17 * wide, 0.1 + 30 * wide, 0.1 + 30 * wide), -0.5)
    cut = np.minimum(np.minimum(teres, venosum), np.minimum(hilum, fossa))
    if wide > 0.02:
        cut = np.minimum(cut, notch + 0.15 * bend)
    return smooth_max(distance, -cut.astype(np.float32), 3)


def build(body: Body, frame: Frame) -> Liver | None:
    """The liver within a slab, or None where there is none."""
    found = frame.moved.window(BOX_LOW, BOX_HIGH)
    if found is None:
        return None
    part = frame.part(found[0])
    inner = np.maximum(cavity(part.moved), cavity(part.still))
    smooth = clefts(body, part.moved, lobes(body, part.moved, inner, gap(body, part.moved)))
    return Liver(found[0], nodular(body, part.moved, smooth), smooth)


def nodular(body: Body, moved: Points, smooth: Array) -> Array:
    """The liver's surface pushed out by nodules and drawn in between them, up to about 4.5 mm."""
    depth = 5.2 * body.shown["nodularity"]
    if depth <= 0:
        return smooth
    random = body.random("surface")
    size = float(random.uniform(11, 15))
    centre, _, _ = Cells.draw(random, size)(moved)
    bump = (0.52 - centre) * 1.9 + 0.25 * body.noise("fine surface", 9.0)(moved)
    return (smooth - depth * bump).astype(np.float32)


def texture(body: Body, moved: Points, sequence: str) -> tuple[Array, Array]:
    """Shade of the parenchyma (near 1) and share of it that is septum (0 to 1).

    On T1W nodules are iso- to hyperintense among septa that enhance late; on T2W they are dark in a bright lace.
    """
    strength = body.shown[f"nodules_{sequence.lower()}"]
    patchy = 1 + 0.02 * body.noise("patches", 26.0)(moved) + 0.012 * body.noise("grain", 5.0)(moved)
    if strength <= 0:
        return patchy.astype(np.float32), np.zeros((1, 1, 1), np.float32)
    random = body.random("nodules")
    size = float(random.uniform(7.0, 9.0)) + 2.5 * strength
    centre, wall, name = Cells.draw(random, size)(moved)
    coarse = np.clip(0.6 + 0.5 * body.noise("confluent", 40.0)(moved), 0.1, 1.3)
    lace = np.clip(1 - wall * size / (0.9 + 1.3 * strength), 0, 1) * coarse
    inside = np.clip(1 - centre / 0.75, 0, 1)
    odd = (name > 0.72).astype(np.float32)
    sign = 0.22 if sequence == "T1W" else -0.30
    shade = patchy * (1 + strength * coarse * inside * (sign * 0.6 + sign * odd))
    return shade.astype(np.float32), (lace * min(1.0, 0.15 + 0.75 * strength) * min(1, 3 * strength)).astype(np.float32)


def volume(body: Body, step: float = 5.0) -> float:
    """Volume of the smooth liver in mL."""
    axes = [np.arange(low, high, step, dtype=np.float32) for low, high in zip(BOX_LOW, BOX_HIGH, strict=True)]
    points = Points((axes[0], axes[1], axes[2]))
    built = build(replace(body, shown={**body.shown, "nodularity": 0.0}), Frame(points, points, step))
    assert built is not None
    share = np.clip(0.5 - built.smooth / step, 0, 1).sum(dtype=np.float64)
    return float(share * step**3 * np.prod(body.scale) / 1000)


def solve_size(body: Body, wanted: float) -> Body:
    """The body with `liver_size` such that the liver has the wanted volume in mL, as near as shape allows."""
    low, high = -2.2, 3.2
    for _ in range(8):
        middle = (low + high) / 2
        if volume(replace(body, liver_size=middle), 8.0) < wanted:
            low = middle
        else:
            high = middle
    return replace(body, liver_size=(low + high) / 2)
