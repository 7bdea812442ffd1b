"""Signals of tissues for slabs of any contrast: by the signal equations, or at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cirrnb.simulation.maps import CT, MAPS
from cirrnb.simulation.signal import Protocol, tissue_signals
from cirrnb.simulation.tissue import TISSUES

OTHER_CONTRASTS = ("random", *MAPS, CT)
"""Contrasts that are neither T1W nor T2W."""


def draw_usual_signals(random: np.random.Generator, sequence: str) -> dict[str, float]:
    """Signal of every tissue as protocols of T1W or T2W give it, without the extremes that teach a segmenter.

    Field strength, fat suppression, contrast agent and flow vary, and each tissue's signal by an eighth.
    """
    signals = tissue_signals(_usual_protocol(random, sequence))
    signals = {name: value * float(np.exp(0.12 * random.standard_normal())) for name, value in signals.items()}
    signals["stranded fat"] = signals["fat"] * float(random.uniform(0.8, 1.1))
    signals["ascites"] = signals["csf"] * float(random.uniform(0.8, 1.05))
    return signals


def draw_random_signals(random: np.random.Generator) -> dict[str, float]:
    """Signal of every tissue at random: a contrast that no sequence has."""
    return {name: float(random.uniform(0.02, 1)) for name in TISSUES}


def draw_signals(random: np.random.Generator) -> tuple[dict[str, float], str]:
    """Signal of every tissue, and whose texture of the liver goes with it.

    Seven in ten follow the signal equations of T1W or T2W over all field strengths, with and without fat suppression,
    contrast agent, flow; in phase and opposed phase; the rest draw each tissue's signal at random. Organs are then
    moved against the liver further than the equations do (`_widen`), and what is alike on most scans is made alike.
    """
    sequence = "T1W" if random.random() < 0.45 else "T2W"
    physical = random.random() < 0.7
    if physical:
        signals = tissue_signals(_wide_protocol(random, sequence))
        jitter = float(random.choice((0.1, 0.25, 0.4)))
    else:
        signals = draw_random_signals(random)
        jitter = 0.0
    signals = {name: value * float(np.exp(jitter * random.standard_normal())) for name, value in signals.items()}
    _widen(random, signals, sequence)
    _tie(random, signals)
    if random.random() < 0.12:  # opposed phase: water and fat of one voxel cancel, organs get a black outline
        for name in ("fat", "stranded fat", "marrow"):
            signals[name] = -signals[name]
    # Gas and lung are darker than parenchyma on nearly every scan; a liver full of iron is the exception.
    darkest = signals["liver"] * float(random.uniform(0, 0.7 if random.random() < 0.9 else 1.5))
    for name in ("air", "lung", "cortical bone"):
        signals[name] = min(signals[name], darkest * float(random.uniform(0.5, 1)))
    return signals, sequence


def _widen(random: np.random.Generator, signals: dict[str, float], sequence: str) -> None:
    """Livers dark with iron, spleens and kidneys several times as bright as they, lumens full of fluid.

    On fat-suppressed T2W scans of healthy people spleen and kidneys measure 2 to 5 livers; on T2W scans of cirrhotic
    livers the parenchyma may be as dark as muscle.
    """
    if random.random() < 0.4:
        signals["liver"] *= float(np.exp(random.uniform(np.log(0.2 if sequence == "T2W" else 0.35), np.log(1.3))))
    for names, most in ((("spleen",), 3.0), (("renal cortex", "renal medulla"), 3.0), (("pancreas",), 1.8)):
        if random.random() < 0.4:
            factor = float(np.exp(random.uniform(np.log(0.6), np.log(most))))
            for name in names:
                signals[name] *= factor
    if random.random() < 0.25:
        signals["heart"] = signals["liver"] * float(random.uniform(0.7, 1.4))
    for name in ("stomach content", "bowel content"):
        if random.random() < 0.35:
            signals[name] = signals["csf"] * float(random.uniform(0.5, 1.2))


def _tie(random: np.random.Generator, signals: dict[str, float]) -> None:
    """Tissues that look alike on most scans do so on most slabs.

    Fat within the belly looks like fat under the skin, and ascites like other free fluid: it is by them that a rim
    around the liver is told to be one or the other.
    """
    for name, like in (("vein", "portal vein"), ("artery", "vein"), ("septa", "liver"), ("duct", "bile")):
        if random.random() < 0.6:
            signals[name] = signals[like] * float(random.uniform(0.8, 1.25))
    if random.random() < 0.93:
        # Fat that vessels and strands run through: where fat is suppressed, their water makes it brighter than fat.
        water = float(random.uniform(0, 0.3)) if random.random() < 0.7 else 0.0
        wet = signals[str(random.choice(("muscle", "vein", "hollow wall", "csf")))]
        signals["stranded fat"] = ((1 - water) * signals["fat"] + water * wet) * float(random.uniform(0.75, 1.15))
    else:
        signals["stranded fat"] = signals[str(random.choice(("muscle", "hollow wall", "bowel content")))]
    signals["ascites"] = signals["csf"] * float(random.uniform(0.7, 1.05))
    if random.random() < 0.5:
        signals["urine"] = signals["csf"] * float(random.uniform(0.7, 1.3))
    if random.random() < 0.15:
        signals["bile"] = signals["liver"] * float(random.uniform(0.5, 1.6))
    elif random.random() < 0.5:
        signals["bile"] = signals["csf"] * float(random.uniform(0.6, 1.3))


def _usual_protocol(random: np.random.Generator, sequence: str) -> Protocol:
    """T1W: spoiled gradient echoes near the Ernst angle, in 3D or, with longer repetition, 2D; one in five a spin echo
    of short repetition and echo. Contrast agent goes with suppressed fat. T2W: TE 60 to 130 ms."""
    wide = _wide_protocol(random, sequence)
    if sequence == "T2W":
        return replace(wide, echo=float(random.uniform(60, 130)))
    if wide.fat_kept > 0.5 and random.random() < 0.8:  # in-phase images are taken before the agent
        wide = replace(wide, dose=0.0)
    kind = random.random()
    if kind < 0.2:  # the equation of the spin echo is that of T2W
        repetition, echo = float(random.uniform(400, 700)), float(random.uniform(8, 18))
        return replace(wide, sequence="T2W", repetition=repetition, echo=echo, inflow=(0.1, 0.1))
    if kind < 0.75:
        return replace(wide, repetition=float(random.uniform(3, 8)), flip=float(random.uniform(9, 20)))
    return replace(wide, repetition=float(random.uniform(90, 250)), flip=float(random.uniform(60, 85)))


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
