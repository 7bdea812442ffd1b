"""Images of an abdomen that are neither T1W nor T2W: maps computed from two acquired images, and CT.

A map divides one image by another, or takes a logarithm of that: shading of coils cancels, noise is amplified where
the signal is low, and where there is none the map is noise or masked. CT is quantitative: no shading, air and fat
far below water, soft tissues within 100 HU, bone above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cirrnb.simulation.acquisition import blur
from cirrnb.simulation.tissue import TISSUES

MAPS = ("ADC", "T1 map", "T2 map", "R2* map", "fat fraction")
"""Kinds of maps."""
CT = "CT"
CT_FLOOR = -1000.0
"""Hounsfield units of air."""

_ADC = {
    "liver": 1.2,
    "spleen": 0.85,
    "renal cortex": 2.1,
    "renal medulla": 1.9,
    "muscle": 1.5,
    "pancreas": 1.4,
    "marrow": 0.5,
}
_ADC_FLUID = ("csf", "urine", "bile", "ascites", "duct", "stomach content", "bowel content")
"""Diffusion in 0.001 mm2/s (Taouli and Koh, Radiology 2010;254:47); free fluid near 3, fat near 0.1."""

_CT = dict(
    zip(
        (
            *("air", "lung", "fat", "stranded fat", "cortical bone", "marrow", "csf", "ascites", "bile", "urine"),
            *("duct", "stomach content", "bowel content", "stool", "muscle", "liver", "spleen"),
        ),
        (-1000.0, -800.0, -100.0, -90.0, 900.0, 200.0, 10.0, 8.0, 8.0, 10.0, 8.0, 20.0, 25.0, 30.0, 58.0, 60.0, 50.0),
        strict=True,
    )
)
"""Hounsfield units without contrast agent, as textbooks give them; 45 for the others."""

Signals = dict[str, float]


@dataclass(frozen=True)
class Map:
    """How a map is made: signals of every tissue in two images, the computation, and the largest value that is kept."""

    signals: tuple[Signals, Signals]
    combine: Callable[[Tensor, Tensor], Tensor]
    most: float


def draw_map(random: np.random.Generator, kind: str) -> Map:
    """A map of one of `MAPS` as protocols of the abdomen make it; the tissues' properties vary by a tenth.

    ADC: two diffusion-weighted spin echoes with suppressed fat. T2 and R2*: two echoes. T1: two flip angles of a
    spoiled gradient echo. Fat fraction: fat over fat and water, 0 to 0.25 in the liver.
    """
    strength = int(random.integers(2))

    def vary(value: float) -> float:
        return value * float(np.exp(0.1 * random.standard_normal()))

    density = {name: vary(tissue.density) for name, tissue in TISSUES.items()}
    t1 = {name: vary(tissue.t1[strength]) for name, tissue in TISSUES.items()}
    t2 = {name: vary(tissue.t2[strength]) for name, tissue in TISSUES.items()}
    fat = {name: tissue.fat for name, tissue in TISSUES.items()}
    if kind == "T1 map":
        return _t1_map(random, density, t1)
    if kind == "fat fraction":
        fat["liver"] = fat["septa"] = float(random.uniform(0, 0.25))
        water = {name: density[name] * (1 - fat[name]) for name in TISSUES}
        return Map((water, {name: density[name] * fat[name] for name in TISSUES}), lambda w, f: f / (w + f), 1.0)
    if kind == "R2* map":  # T2* is about half of T2, as in the gradient echoes of the sequences
        echoes, decay, kept = random.uniform((1.2, 5), (2.3, 9)), {n: 0.5 * time for n, time in t2.items()}, 1.0
        span = float(echoes[1] - echoes[0])
        return Map(_two_echoes(density, decay, fat, echoes, kept, 1.0), lambda a, b: (a / b).log() / span, 0.3)
    kept, flowing = float(random.uniform(0.02, 0.15)), float(random.uniform(0.02, 0.3))
    if kind == "T2 map":
        echoes = random.uniform((15, 60), (30, 110))
        span = float(echoes[1] - echoes[0])
        kept = kept if random.random() < 0.5 else 1.0
        signals = _two_echoes(density, t2, fat, echoes, kept, flowing)
        return Map(signals, lambda a, b: span / (a / b).log().clamp_min(0.02), float(random.uniform(250, 800)))
    diffusion = {
        name: vary(_ADC.get(name, 3.0 if name in _ADC_FLUID else 0.1 if tissue.fat > 0.5 else 1.5))
        for name, tissue in TISSUES.items()
    }
    echo = float(random.uniform(55, 80))
    weightings = random.uniform((0, 0.5), (0.1, 1.0))
    still = _two_echoes(density, t2, fat, np.array([echo, echo]), kept, flowing)
    light, heavy = (
        {name: value * float(np.exp(-b * diffusion[name])) for name, value in tissue_signals.items()}
        for b, tissue_signals in zip(weightings, still, strict=True)
    )
    span = float(weightings[1] - weightings[0])
    return Map((light, heavy), lambda a, b: (a / b).log() / span, float(random.uniform(3.5, 6)))


def _two_echoes(
    density: Signals, decay: Signals, fat: Signals, echoes: np.ndarray, kept: float, flowing: float
) -> tuple[Signals, Signals]:
    """Signals at two echo times in ms; `kept` of fat and `flowing` of moving blood remain."""
    first, second = (
        {
            name: density[name]
            * (1 - fat[name] * (1 - kept))
            * (flowing if TISSUES[name].flow else 1.0)
            * float(np.exp(-echo / decay[name]))
            for name in TISSUES
        }
        for echo in echoes
    )
    return first, second


def _t1_map(random: np.random.Generator, density: Signals, t1: Signals) -> Map:
    """Variable flip angles: S / sin a is linear in S / tan a, with the slope exp(-TR / T1)."""
    repetition = float(random.uniform(4, 7))
    angles = [float(angle) for angle in np.deg2rad(random.uniform((2, 11), (4, 18)))]

    def signal(name: str, angle: float) -> float:
        recovery = np.exp(-repetition / t1[name])
        return float(density[name] * np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery))

    def combine(low: Tensor, high: Tensor) -> Tensor:
        (y0, x0), (y1, x1) = ((s / np.sin(a), s / np.tan(a)) for s, a in zip((low, high), angles, strict=True))
        slope = (y1 - y0) / torch.where((x1 - x0).abs() < 1e-9, torch.full_like(x0, 1e-9), x1 - x0)
        return -repetition / slope.clamp(1e-3, 0.9995).log()

    first, second = ({name: signal(name, angle) for name in TISSUES} for angle in angles)
    return Map((first, second), combine, float(random.uniform(2500, 5000)))


def acquire_map(
    random: np.random.Generator, made: Map, images: tuple[Tensor, Tensor], label: Tensor, plane: str
) -> Tensor:
    """The map from two clean (slices, rows, columns) images: each gets Rician noise, then they are combined.

    Noise of a magnitude: Gudbjartsson and Patz, MRM 1995;34:910. Six in ten maps are 0 where the first image has less
    than three or more times its noise; in the others such places are noise.
    """
    inside = label > 0
    level = float(images[0][inside].mean()) if bool(inside.any()) else float(images[0].mean())
    sigma = max(level, 1e-6) * float(np.exp(random.uniform(np.log(0.01), np.log(0.1))))
    state = random.bit_generator.state
    noisy = []
    for image in images:
        random.bit_generator.state = state  # both images have the same resolution
        noisy.append(blur(random, image, plane))
    for place, image in enumerate(noisy):
        noise = torch.from_numpy(random.standard_normal((2, *image.shape), dtype=np.float32))
        noisy[place] = torch.hypot(image + sigma * noise[0], sigma * noise[1]).clamp_min(1e-6 * sigma)
    values = made.combine(noisy[0], noisy[1]).nan_to_num(0.0).clamp(0, made.most)
    if random.random() < 0.6:
        values = values * (noisy[0] > float(random.uniform(3, 8)) * sigma)
    return values / made.most


def draw_ct_values(random: np.random.Generator) -> Signals:
    """Hounsfield units of every tissue above air, 0 or more, with contrast agent in seven of ten scans."""
    agent = float(random.uniform(60, 120)) if random.random() < 0.7 else 0.0
    values = {
        name: _CT.get(name, 45.0) + agent * tissue.contrast + float(8 * random.standard_normal())
        for name, tissue in TISSUES.items()
    }
    values["cortical bone"] = float(random.uniform(500, 1200))
    values["marrow"] = float(random.uniform(120, 320))
    return {name: max(0.0, value - CT_FLOOR) for name, value in values.items()}


def acquire_ct(random: np.random.Generator, image: Tensor, plane: str) -> Tensor:
    """A CT as programs store it without Hounsfield units, from (slices, rows, columns) HU above air.

    Noise of 2 to 12 HU, the same everywhere, air included: 10 to 30 HU in pixels of 0.7 mm, averaged over 3 mm. Stored
    as scanners do (1024 above HU, 0 or more), shifted
    further, or cut to a window of 300 to 2,000 HU.
    """
    noise = torch.from_numpy(random.standard_normal(tuple(image.shape), dtype=np.float32))
    if random.random() < 0.5:
        noise = functional.avg_pool2d(noise[None], 3, 1, 1)[0] * 2.5
    sigma = float(np.exp(random.uniform(np.log(2), np.log(12))))
    image = blur(random, image, plane) + sigma * noise
    stored = random.random()
    if stored < 0.35:
        return (image + 1024 + CT_FLOOR).clamp_min(0) / 1000
    if stored < 0.7:
        return (image + float(random.uniform(0, 5000))).clamp_min(0) / 1000
    middle, width = float(random.uniform(30, 80)) - CT_FLOOR, float(np.exp(random.uniform(np.log(300), np.log(2000))))
    return ((image - middle) / width + 0.5).clamp(0, 1)
