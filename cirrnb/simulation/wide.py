"""Bodies far more various than the benchmark's, for training what has to work on anybody's scan.

Every measure is drawn wider than in `draw_body`, and signs independently of each other. What the benchmark's bodies
lack is added here: arms beside the trunk, a pelvis. Ranges: fat and size so that trunks are 26 to 52 cm wide; liver 450
to 2700 mL (CirrMRI600+ has 526 to 2768 mL) and spleen 70 to 2000 mL; ascites up to a shell of 5 cm.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cirrnb.simulation import liver, organs
from cirrnb.simulation.anatomy import Anatomy, build_anatomy
from cirrnb.simulation.body import HALF_DEPTH, HALF_WIDTH, HIDDEN, Body, Frame, Layer, draw_body
from cirrnb.simulation.fields import Vector, capsule, coverage, ellipsoid, smooth_max
from cirrnb.simulation.tissue_shares import Named

WIDE_STREAM = 60
"""Keeps these random numbers apart from those of simulated patients."""
LOWEST, HIGHEST = -185.0, 165.0
"""mm below and above the porta hepatis that are painted, from the pelvis into the chest."""


def draw_wide_body(seed: int) -> Body:
    """One body, from the seed alone."""
    random = np.random.default_rng([WIDE_STREAM, seed])
    body = draw_body(
        random, int(random.integers(2**31)), str(random.choice(("female", "male"))), float(random.uniform(20, 90))
    )
    variations = {name: float(np.clip(1.5 * random.standard_normal(), -3, 3)) for name in body.own}
    variations["muscle fat"] = float(random.uniform(-2, 2.5))
    fat = float(np.exp(random.uniform(np.log(4), np.log(55))))
    stretch = random.uniform(0.86, 1.16, 3)
    scale = (
        float(np.clip(body.scale[0] * stretch[0], 0.75, 1.3)),
        float(np.clip(body.scale[1] * stretch[1], 0.72, 1.35)),
        float(np.clip(body.scale[2] * stretch[2], 0.8, 1.2)),
    )
    body = replace(
        body, own=variations, fat=fat, scale=scale, wall=float(random.uniform(0.6, 1.3)), shown=_signs(random)
    )
    wanted = float(np.exp(random.uniform(np.log(450), np.log(2700))))
    if body.shown["ascites"] > 0.7:
        wanted = min(wanted, float(random.uniform(450, 1500)))
    body = liver.solve_size(body, wanted)
    spleen = float(np.exp(random.uniform(np.log(70), np.log(800 if body.shown["spleen"] == 0 else 2000))))
    return organs.solve_spleen(body, spleen)


def _signs(random: np.random.Generator) -> dict[str, float]:
    """Strengths of the signs: one body in three has none, the others any mixture."""
    shown = dict(HIDDEN)
    if random.random() < 0.33:
        return shown
    for name in shown:
        if random.random() < 0.6:
            shown[name] = float(random.uniform(0.05, 1.1))
    # As many thin rims as thick ones: a strength of 0.05 is about 100 mL, of 1 about 2 L.
    shown["ascites"] = float(np.exp(random.uniform(np.log(0.03), np.log(1.3)))) if random.random() < 0.6 else 0.0
    return shown


def build_wide(seed: int, spacing: tuple[float, float, float] = (3.0, 2.5, 2.5)) -> Anatomy:
    """Shares and labels of `draw_wide_body(seed)`, with arms in two of five and a pelvis."""
    body = draw_wide_body(seed)
    random = np.random.default_rng([WIDE_STREAM, seed, 1])
    arms = bool(random.random() < 0.4)
    half = HALF_WIDTH * body.scale[0] + 14 * body.wall + 0.9 * body.fat + 12
    front = HALF_DEPTH * body.scale[1] + 9 * body.wall + 0.95 * body.fat + 14
    back = 1.13 * HALF_DEPTH * body.scale[1] + 0.9 * body.fat + 18
    side = half + (float(random.uniform(30, 95)) if arms else 0.0)
    low = (-side, -front, LOWEST * body.scale[2])
    high = (side, back, HIGHEST * body.scale[2])
    limbs = _limbs(random, body, half) if arms else []

    def extra(body: Body, frame: Frame) -> tuple[list[Named], list[Named]]:
        below = [("body", layer) for start, end, radius in limbs for layer in _limb(frame, start, end, radius)]
        return below, [("body", layer) for layer in pelvis(body, frame)]

    return build_anatomy(body, low, high, spacing, extra)


def _limbs(random: np.random.Generator, body: Body, half: float) -> list[tuple[Vector, Vector, float]]:
    """Arms beside the trunk, as bent and as thick as they come; canonical mm."""
    limbs = []
    radius = float(random.uniform(26, 44)) + 0.5 * body.fat
    for side in (-1, 1):
        out = (half + 0.85 * radius + float(random.uniform(-14, 14))) / body.scale[0]
        y, lean = float(random.uniform(-10, 55)), float(random.uniform(-25, 25))
        limbs.append(((side * (out + 4), y, -230.0), (side * out, y + lean, 220.0), radius))
    return limbs


def _limb(frame: Frame, start: Vector, end: Vector, radius: float) -> list[Layer]:
    window = frame.everywhere
    away = capsule(frame.still, start, end, radius)
    bone = away + radius - 10
    layers = [
        ("fat", away),
        ("muscle", away + 0.3 * radius),
        ("cortical bone", bone),
        ("marrow", bone + 3.5),
    ]
    return [Layer(window, coverage(np.asarray(part, np.float32), frame.width), tissue) for tissue, part in layers]


def pelvis(body: Body, frame: Frame) -> list[Layer]:
    """Wings of the hip bones with their muscles, sacrum and bladder, below the abdomen."""
    region = frame.still.window((-1e5, -1e5, -1e5), (1e5, 1e5, -118.0))
    if region is None:
        return []
    window, points = region
    inner = frame.inner[window]
    layers = []
    for side in (-1, 1):
        wing = smooth_max(
            np.abs(ellipsoid(points, (side * 30, 20, -190), (88, 66, 78), side * 0.5)) - 7.0,
            inner + 6 - 0.2 * np.abs(points.x),
            6,
        )
        wing = np.maximum(wing, 55 - side * points.x).astype(np.float32)
        layers += [("muscle", wing - 11), ("cortical bone", wing), ("marrow", wing + 3)]
    bladder = ellipsoid(points, (0, -30, -215), (45, 32, 42))
    layers += [("hollow wall", bladder), ("urine", bladder + 4)]
    return [Layer(window, coverage(part, frame.width), tissue) for tissue, part in layers]
