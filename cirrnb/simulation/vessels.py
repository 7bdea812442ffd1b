"""Aorta, vena cava, portal and hepatic veins with their branches, and the vessels about them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from cirrnb.simulation.body import Body, Frame, Layer, Layers
from cirrnb.simulation.fields import Array, Vector, Window, capsule, coverage

Segment = tuple[Vector, Vector, float, float]
THINNEST = 0.4
"""Radius in voxels below which a tube is left out: it cannot be seen there."""


Coat = tuple[str, float, float]
"""Tissue, mm by which its tube is wider than the segments say, and share of a voxel within that it takes."""


def tubes(frame: Frame, segments: Sequence[Segment], tissue: str, grow: float = 0.0, share: float = 1.0) -> Layers:
    """Tubes one after another, each computed only in its own box."""
    return coated(frame, segments, ((tissue, grow, share),))


def coated(frame: Frame, segments: Sequence[Segment], coats: Sequence[Coat]) -> Layers:
    """Tubes within tubes along the same segments: all of the first coat, then all of the next."""
    bottom, top = float(frame.moved.axes[2][0]), float(frame.moved.axes[2][-1])
    wide = max(grow for _, grow, _ in coats)
    capsules: list[tuple[Window, Array, float]] = []
    for start, end, radius, tip in segments:
        widest = max(radius, tip)
        reach = widest + wide + 1.5 * frame.width
        if widest + wide < THINNEST * frame.width:
            continue
        if min(start[2], end[2]) - reach > top or max(start[2], end[2]) + reach < bottom:
            continue
        low = (min(start[0], end[0]) - reach, min(start[1], end[1]) - reach, min(start[2], end[2]) - reach)
        high = (max(start[0], end[0]) + reach, max(start[1], end[1]) + reach, max(start[2], end[2]) + reach)
        region = frame.moved.window(low, high)
        if region is not None:
            capsules.append((region[0], capsule(region[1], start, end, radius, tip), widest))
    for tissue, grow, share in coats:
        for window, distance, widest in capsules:
            if widest + grow >= THINNEST * frame.width:
                inside = coverage(distance - np.float32(grow) if grow else distance, frame.width)
                yield Layer(window, inside if share == 1 else inside * np.float32(share), tissue)


def chain(points: Sequence[Vector], *radii: float) -> list[Segment]:
    """A tube along a line of points whose radius goes evenly from the first to the last of `radii`."""
    wide = np.interp(np.linspace(0, 1, len(points)), np.linspace(0, 1, len(radii)), radii)
    return [(a, b, float(r), float(s)) for (a, b), (r, s) in zip(pairwise(points), pairwise(wide), strict=True)]


def aorta_segments(body: Body) -> list[Segment]:
    """The aorta without its branches."""
    wide = 9.5 + 0.9 * body.own["aorta"]
    bow = 3 * body.own["aorta"]
    return chain([(7 + bow, 4, -200), (9 + bow, 4, -60), (10, 5, 30), (12, 9, 150)], wide, wide + 1.5)


def great_vessels(body: Body, frame: Frame) -> Layers:
    """Aorta with its branches to the front, vena cava, renal and splenic vessels."""
    aorta = aorta_segments(body)
    cava = 8.2 + 1.1 * body.own["cava"]
    line = [(-25, 2, -200), (-25, 2, -70), (-25, 2, 10), (-22, -1, 66), (-16, -12, 92), (-12, -24, 112)]
    kidneys = [
        *chain([(-25, 6, -62), (-44, 26, -66)], 4.0, 3.2),
        *chain([(-18, -4, -56), (22, -8, -54), (46, 28, -56)], 4, 3),
    ]
    arteries = [
        *chain([(9, -4, -38), (9, -18, -46), (8, -20, -130)], 3.6, 3.0),
        *chain([(9, -4, -20), (10, -20, -17)], 3.4, 2.8),
        *chain([(10, -20, -17), (-8, -20, -18), (-20, -14, -10)], 2.2, 1.8),
        *chain([(10, -20, -17), (30, -8, -8), (52, 12, 4), (70, 20, 12)], 2.3, 1.9),
    ]
    # Two tubes side by side give the vena cava its oval.
    sides = [chain([(x + step, y + 0.25 * step, z) for x, y, z in line], cava) for step in (-3.6, 3.6)]
    walls = ("vessel wall", 0.9, 1.0)
    yield from tubes(frame, [*sides[0], *sides[1]], "vessel wall", 0.9)
    yield from coated(frame, [*aorta, *arteries], (walls, ("artery", 0.0, 1.0)))
    yield from tubes(frame, [*sides[0], *sides[1], *kidneys], "vein")


@lru_cache(maxsize=4)
def _mesentery(body: Body) -> tuple[Segment, ...]:
    """Small vessels that fan out through the fat of mesentery and omentum."""
    random = body.random("mesentery")
    segments: list[Segment] = []
    for _ in range(26):
        start = np.array((random.uniform(-10, 35), random.uniform(-30, -5), random.uniform(-120, 20)))
        aim = start + np.array((random.normal(25, 34), random.normal(-18, 22), random.normal(0, 26)))
        segments += _branch(random, _vector(start), _vector(aim), float(random.uniform(1.2, 1.9)), 1)
    for _ in range(10):
        start = np.array((random.uniform(-60, 80), random.uniform(-82, -66), random.uniform(-130, -10)))
        aim = start + random.normal(0, 1, 3) * (22, 5, 20)
        segments += _branch(random, _vector(start), _vector(aim), 1.2, 1)
    return tuple(segments)


def mesentery(body: Body, frame: Frame) -> Layers:
    """Small vessels in the fat between the loops."""
    yield from tubes(frame, _mesentery(body), "vein", share=0.85)


def portal_radius(body: Body) -> float:
    """Radius of the main portal vein in mm."""
    return 5.1 + 0.35 * body.own["portal"] + 3.9 * body.shown["portal"]


def portal_system(body: Body, frame: Frame) -> Layers:
    """Main portal, splenic and mesenteric veins; where the sign is strong, collaterals wind about them."""
    wide = portal_radius(body)
    main = chain([(6, -12, -46), (-8, -10, -26), (-19, -7, -6)], wide)
    feeding = chain([(6, -12, -46), (26, -6, -24), (48, 10, -8), (70, 24, 8)], 0.78 * wide, 0.6 * wide)
    mesenteric = chain([(6, -12, -46), (-6, -22, -90), (-4, -24, -140)], 0.8 * wide, 0.6 * wide)
    coats = (("vessel wall", 0.9, 1.0), ("portal vein", 0.0, 1.0))
    yield from coated(frame, [*main, *feeding, *mesenteric], coats)
    strength = body.shown["portal"]
    if strength < 0.35:
        return
    random = body.random("varices")
    for centre, spread in (((66, 22, 10), (11, 9, 16)), ((30, -2, 40), (9, 9, 20)), ((22, -30, 8), (14, 8, 12))):
        count = round(9 * (strength - 0.25))
        knots = [tuple(np.add(centre, spread * random.standard_normal(3)).tolist()) for _ in range(count + 1)]
        radius = 1.5 + 2.6 * strength * random.uniform(0.6, 1.0)
        yield from tubes(frame, chain([(k[0], k[1], k[2]) for k in knots], radius), "portal vein")
    if body.own["portal"] + 3 * strength > 2.4:
        fissure = 14 + 4 * body.own["fissure"]
        recanalised = chain([(13, -28, 12), (fissure, -44, -6), (fissure, -78, -40)], 2.0 + 2 * strength)
        yield from tubes(frame, recanalised, "portal vein")


PORTAL_BRANCHES: tuple[tuple[Vector, Vector, float], ...] = (
    ((-50, 2, 6), (-84, -34, 26), 0.58),
    ((-50, 2, 6), (-88, 40, 14), 0.58),
    ((-46, 0, 4), (-82, -14, -40), 0.5),
    ((-44, 2, 4), (-80, 36, -38), 0.5),
    ((14, -42, 10), (52, -46, 22), 0.42),
    ((10, -30, 14), (44, -32, 34), 0.36),
    ((14, -42, 10), (-14, -62, -8), 0.36),
    ((12, -38, 12), (-12, -52, 30), 0.34),
)
"""Where branches begin, where they aim, and their width against the main vein's."""

HEPATIC_VEINS: tuple[tuple[tuple[Vector, Vector, Vector], float], ...] = (
    (((-24, 0, 66), (-58, 10, 50), (-90, 18, 12)), 5.2),
    (((-23, -4, 66), (-34, -26, 42), (-46, -46, -4)), 5.0),
    (((-20, -6, 68), (10, -28, 50), (42, -40, 30)), 4.4),
    (((-27, 4, 14), (-56, 28, -16), (-72, 40, -42)), 3.0),
)
"""Right, middle, left and inferior right hepatic vein: line and radius at the vena cava."""


@lru_cache(maxsize=2)
def within_liver(body: Body) -> tuple[tuple[Segment, ...], tuple[Segment, ...]]:
    """Branches of the portal vein and the hepatic veins inside the liver, the finest about 1 mm thick.

    They do not depend on the signs, so that patient and twin share them; only the main portal vein widens.
    """
    random = body.random("tree")
    wide = 5.4 + 0.35 * body.own["portal"]
    portal = chain([(-19, -7, -6), (-38, -2, 2), (-50, 2, 6)], wide, 0.72 * wide)
    portal += chain([(-19, -7, -6), (-8, -18, 8), (8, -28, 14), (14, -42, 10)], 0.8 * wide, 0.5 * wide)
    for start, aim, share in PORTAL_BRANCHES:
        portal += _branch(random, start, aim, share * wide, 3)
    veins: list[Segment] = []
    for line, radius in HEPATIC_VEINS:
        trunk = chain(line, radius, 0.6 * radius)
        veins += trunk
        for start, end, begin, _ in trunk:
            for _ in range(3):
                origin = np.add(start, random.uniform(0.2, 1) * np.subtract(end, start))
                aim_at = origin + random.normal(0, 1, 3) * (22, 22, 20)
                veins += _branch(random, _vector(origin), _vector(aim_at), 0.52 * begin, 1)
    return tuple(portal), tuple(veins)


def liver_vessels(body: Body, frame: Frame, window: Window) -> list[tuple[Array, str, float]]:
    """Share, tissue and opacity of what runs through the liver: portal tracts, veins, portal branches."""
    portal, veins = within_liver(body)
    part = frame.part(window)
    kinds: tuple[tuple[Sequence[Segment], Sequence[Coat]], ...] = (
        ([segment for segment in portal if segment[2] > 1.0], (("stranded fat", 0.9, 1.0), ("portal vein", 0.0, 1.0))),
        ([segment for segment in portal if segment[2] <= 1.0], (("portal vein", 0.0, 1.0),)),
        (veins, (("vein", 0.0, 1.0),)),
    )
    shares = {tissue: np.zeros(part.moved.shape, np.float32) for tissue in ("stranded fat", "vein", "portal vein")}
    for segments, coats in kinds:
        for layer in coated(part, segments, coats):
            view = shares[layer.tissue][layer.window]
            np.maximum(view, layer.amount, out=view)
    return [(share, tissue, 0.25 if tissue == "stranded fat" else 1.0) for tissue, share in shares.items()]


def _vector(values: np.ndarray) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])


def _branch(random: np.random.Generator, start: Vector, aim: Vector, radius: float, more: int) -> list[Segment]:
    """A bent twig towards `aim` that forks on the way."""
    away = np.subtract(aim, start)
    length = float(np.linalg.norm(away))
    middle = _vector(np.add(start, 0.5 * away) + random.normal(0, 0.08 * length, 3))
    twigs: list[Segment] = [(start, middle, radius, 0.78 * radius), (middle, aim, 0.78 * radius, 0.55 * radius)]
    if more == 0 or radius < 0.7:
        return twigs
    for place in (middle, aim):
        for _ in range(2):
            turn = away / length + random.normal(0, 0.65, 3)
            reach = length * random.uniform(0.4, 0.65) * turn / np.linalg.norm(turn)
            twigs += _branch(random, place, _vector(np.add(place, reach)), 0.6 * radius, more - 1)
    return twigs
