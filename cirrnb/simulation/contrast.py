"""Signals of tissues for slabs of any contrast: by the signal equations, or at random."""

from __future__ import annotations

import numpy as np

from cirrnb.simulation.signal import Protocol, tissue_signals
from cirrnb.simulation.tissue import TISSUES


def draw_signals(random: np.random.Generator) -> tuple[dict[str, float], str]:
    """Signal of every tissue, and whose texture of the liver goes with it.

    Three in four follow the signal equations of T1W or T2W over all field strengths, with and without fat suppression,
    contrast agent, flow; in phase and opposed phase; the rest draw each tissue's signal at random.
    """
    sequence = "T1W" if random.random() < 0.5 else "T2W"
    if random.random() < 0.75:
        signals = tissue_signals(_wide_protocol(random, sequence))
        jitter = float(random.choice((0.1, 0.25, 0.4)))
    else:
        signals = {name: float(random.uniform(0.02, 1)) for name in TISSUES}
        if random.random() < 0.5:
            signals["air"] = 0.0
        jitter = 0.0
    signals = {name: value * float(np.exp(jitter * random.standard_normal())) for name, value in signals.items()}
    _tie(random, signals)
    if random.random() < 0.3:  # iron or fat in the liver, a spleen far brighter than it
        signals["liver"] *= float(np.exp(random.uniform(np.log(0.3), np.log(1.3))))
    if random.random() < 0.3:
        signals["spleen"] *= float(random.uniform(0.8, 2.5))
    if random.random() < 0.12:  # opposed phase: water and fat of one voxel cancel, organs get a black outline
        for name in ("fat", "stranded fat", "marrow"):
            signals[name] = -signals[name]
    for name in ("air", "lung", "cortical bone"):
        signals[name] = min(signals[name], float(random.uniform(0, 0.35)))
    return signals, sequence


def _tie(random: np.random.Generator, signals: dict[str, float]) -> None:
    """Tissues that look alike on most scans do so on most slabs; fat within the belly may look like anything."""
    for name, like in (("vein", "portal vein"), ("artery", "vein"), ("septa", "liver"), ("duct", "bile")):
        if random.random() < 0.6:
            signals[name] = signals[like] * float(random.uniform(0.8, 1.25))
    if random.random() < 0.75:
        signals["stranded fat"] = signals["fat"] * float(random.uniform(0.7, 1.1))
    elif random.random() < 0.7:
        signals["stranded fat"] = signals[str(random.choice(("muscle", "hollow wall", "bowel content")))]
    if random.random() < 0.15:
        signals["bile"] = signals["liver"] * float(random.uniform(0.5, 1.6))


def _wide_protocol(random: np.random.Generator, sequence: str) -> Protocol:
    field = str(random.choice(("1.5 T", "3 T")))
    suppressed = float(random.uniform(0.03, 0.4)) if random.random() < 0.55 else float(random.uniform(0.7, 1.2))
    if sequence == "T1W":
        enhanced = random.random() < 0.6
        return Protocol(
            *(sequence, field),
            repetition=float(random.uniform(2.5, 12)),
            echo=float(random.uniform(0.8, 5)),
            flip=float(random.uniform(2, 30)),
            fat_kept=suppressed,
            dose=float(random.uniform(0.4, 1.6)) if enhanced else 0.0,
            inflow=(1.0, 1.0),
            noise=0.0,
            blur=0.0,
            bias=0.0,
            ghost=0.0,
            gain=1.0,
        )
    bright = random.random() < 0.5
    return Protocol(
        *(sequence, field),
        repetition=float(random.uniform(1200, 7000)),
        echo=float(random.uniform(40, 140)),
        flip=90.0,
        fat_kept=suppressed,
        dose=0.0,
        inflow=tuple(float(v) for v in (random.uniform(0.3, 1.2, 2) if bright else random.uniform(0.02, 0.3, 2))),  # type: ignore[arg-type]
        noise=0.0,
        blur=0.0,
        bias=0.0,
        ghost=0.0,
        gain=1.0,
    )
