"""From tissue to grey values: the two sequences, and what a scanner adds.

Spoiled gradient echo: S = PD sin a (1 - E1) / (1 - E1 cos a) exp(-TE/T2*). Turbo spin echo: S = PD (1 - exp(-TR/T1))
exp(-TE/T2), where the echo train keeps fat bright (effective T2 about 150 ms here;
why: Henkelman et al., JMRI 1992;2:533).
Contrast: 1/T1 = 1/T1_0 + r1 C.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from cirrnb.simulation.fields import Array, Noise, Points
from cirrnb.simulation.tissue import TISSUES, Tissue

FAT_ECHO_TRAIN_T2 = 150.0


@dataclass(frozen=True)
class Protocol:
    """How one scan is acquired; drawn for each patient, never from the stage.

    Attributes
    ----------
    sequence : "T1W" or "T2W".
    field : "1.5 T" or "3 T".
    repetition, echo : ms. flip : degrees (T1W).
    fat_kept : share of the fat's signal that suppression leaves.
    dose : contrast agent relative to the table's concentrations.
    inflow : share of the signal that flowing blood keeps on T2W in (arteries, veins).
    noise : standard deviation relative to liver signal, blur : sigma in acquired pixels.
    bias : depth of the receive field, as a logarithm. ghost : strength of motion ghosts, 0 for none.
    gain : grey values a unit of signal.
    """

    sequence: str
    field: str
    repetition: float
    echo: float
    flip: float
    fat_kept: float
    dose: float
    inflow: tuple[float, float]
    noise: float
    blur: float
    bias: float
    ghost: float
    gain: float


def draw_protocol(random: np.random.Generator, sequence: str, field: str) -> Protocol:
    """A protocol as abdominal scanners run them."""
    ghost = float(random.uniform(0.02, 0.07)) if random.random() < 0.2 else 0.0
    common = {
        "sequence": sequence,
        "field": field,
        "dose": float(random.uniform(0.75, 1.2)),
        "blur": float(random.uniform(0.35, 0.6)),
        "bias": float(random.uniform(0.06, 0.16) * (1.5 if field == "3 T" else 1.0)),
        "ghost": ghost,
        "gain": float(np.exp(random.uniform(np.log(900), np.log(5000)))),
    }
    if sequence == "T1W":
        return Protocol(
            **common,  # type: ignore[arg-type]
            repetition=float(random.uniform(3.4, 4.8)),
            echo=float(random.uniform(1.2, 2.3)),
            flip=float(random.uniform(9, 13)),
            fat_kept=float(random.uniform(0.10, 0.38)),
            inflow=(1.0, 1.0),
            noise=float(random.uniform(0.025, 0.06)),
        )
    suppressed = random.random() < 0.3
    return Protocol(
        **common,  # type: ignore[arg-type]
        repetition=float(random.uniform(2400, 6500)),
        echo=float(random.uniform(72, 98)),
        flip=90.0,
        fat_kept=float(random.uniform(0.06, 0.2)) if suppressed else 1.0,
        inflow=(float(random.uniform(0.03, 0.1)), float(random.choice((0.06, 0.1, 0.25, 0.45)))),
        noise=float(random.uniform(0.035, 0.10)),
    )


def tissue_signals(protocol: Protocol, changes: Mapping[str, Tissue] | None = None) -> dict[str, float]:
    """Noise-free signal of every tissue in units of fully relaxed water; `changes` replaces single tissues."""
    tissues = {**TISSUES, **(changes or {})}
    equation = _gradient_echo if protocol.sequence == "T1W" else _turbo_spin_echo
    return {name: equation(protocol, tissue) for name, tissue in tissues.items()}


def _gradient_echo(protocol: Protocol, tissue: Tissue) -> float:
    strength = int(protocol.field == "3 T")
    rate = 1 / tissue.t1[strength] + (4.6 if strength == 0 else 4.2) * tissue.contrast * protocol.dose / 1000
    angle = np.deg2rad(protocol.flip)
    recovery = np.exp(-protocol.repetition * rate)
    steady = np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery)
    # T2* of abdominal organs is about half of T2, or less where air is near.
    decay = np.exp(-protocol.echo / (0.5 * tissue.t2[strength]))
    kept = 1 - tissue.fat * (1 - protocol.fat_kept)
    # A spoiled echo of a unit of water is near 0.1: scaled so that both sequences fill a like range.
    return float(6.0 * tissue.density * steady * decay * kept)


def _turbo_spin_echo(protocol: Protocol, tissue: Tissue) -> float:
    strength = int(protocol.field == "3 T")
    relaxed = 1 - np.exp(-protocol.repetition / tissue.t1[strength])
    water = np.exp(-protocol.echo / tissue.t2[strength])
    fat = np.exp(-protocol.echo / FAT_ECHO_TRAIN_T2) * protocol.fat_kept
    signal = tissue.density * relaxed * ((1 - tissue.fat) * water + tissue.fat * fat)
    if tissue.flow:
        signal *= protocol.inflow[0] if tissue.contrast < 1.0 else protocol.inflow[1]
    return float(signal)


def receive_field(
    random: np.random.Generator, protocol: Protocol, points: Points, centre: tuple[float, float]
) -> Array:
    """Smooth shading: surface coils see the front and back better than the middle, one side better than the other."""
    humps = Noise.draw(random, 170.0)(points) * np.float32(protocol.bias)
    x, y = (points.x - centre[0]) / 150, (points.y - centre[1]) / 100
    coil = np.float32(0.9 * protocol.bias) * (x * x + y * y) / 2
    lean = np.float32(random.normal(0, 0.7 * protocol.bias)) * x + np.float32(random.normal(0, 0.7 * protocol.bias)) * y
    return np.exp(humps + np.minimum(coil, 0.5) + lean).astype(np.float32)


def acquire(random: np.random.Generator, protocol: Protocol, signal: Array, liver: float) -> Array:
    """What the scanner makes of a clean (x, y, z) signal: blur, ghosts along y, and Rician noise."""
    image = gaussian_filter(signal, (protocol.blur, protocol.blur, 0))
    if protocol.ghost:
        shift = int(random.integers(image.shape[1] // 6, image.shape[1] // 3))
        phase = np.cos(random.uniform(0, 2 * np.pi, image.shape[2])).astype(np.float32)
        ghosts = np.roll(image, shift, axis=1) + np.roll(image, -shift, axis=1) - 0.6 * image
        image = np.abs(image + np.float32(protocol.ghost) * phase * ghosts)
    level = protocol.noise * liver
    # Filtering of k-space, as scanners do, gives noise a grain larger than a pixel; coils give it its own shading.
    grain = float(random.uniform(0.3, 0.75))
    real, imaginary = (gaussian_filter(part, (grain, grain, 0)) for part in _white(random, image.shape))
    deep = np.hypot(*np.meshgrid(*(np.linspace(-1, 1, size) for size in image.shape[:2]), indexing="ij"))
    spread = (level / float(real.std()) * (1.15 - 0.3 * deep[:, :, None])).astype(np.float32)
    return np.hypot(image + spread * real, spread * imaginary)


def _white(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.standard_normal((2, *shape), dtype=np.float32)
