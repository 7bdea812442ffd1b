"""The latent truth of a simulated patient: severity, signs, and the stage a reader gives.

Severity is a standard normal number. Each sign follows it with its own variation and shows only above an onset, so that
no sign is always there. The stage is the reader's impression of severity, cut where it gives the published shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from cirrnb.data.stage_scale import CIRRHOSIS

READER_NOISE = 0.12
"""Standard deviation of the reader's disagreement, in standard deviations of severity."""

STAGE_COUNTS = {"mild": 131, "moderate": 114, "severe": 73}
"""T2W patients of each stage: CirrMRI600+, Sci Data 12:896 (2025)."""


@dataclass(frozen=True)
class Sign:
    """How one channel of a sign follows severity.

    Attributes
    ----------
    name : the channel; nodules have one for each sequence, since iron and enhancement are different mechanisms.
    sign : what a radiologist calls it.
    follows : correlation of the channel with severity.
    onset : value of the channel, in standard deviations, below which nothing is seen.
    sequences : where it can be seen.
    """

    name: str
    sign: str
    follows: float
    onset: float
    sequences: tuple[str, ...] = ("T1W", "T2W")

    def shown(self, channel: NDArray[np.float64]) -> NDArray[np.float64]:
        """How strongly the sign shows: 0 (absent) to 1 (as strong as it gets), from the channel's value."""
        return np.clip((channel - self.onset) / (2.4 - self.onset), 0, 1)


CHANNELS = (
    Sign("nodularity", "nodularity", 0.89, -0.7),
    Sign("nodules_t1w", "nodules", 0.85, -0.6, ("T1W",)),
    Sign("nodules_t2w", "nodules", 0.85, -0.6, ("T2W",)),
    Sign("lobes", "lobes", 0.89, -0.6),
    Sign("spleen", "spleen", 0.82, -0.1),
    Sign("ascites", "ascites", 0.86, 0.6),
    Sign("portal", "portal", 0.84, -0.3),
    Sign("fossa", "fossa", 0.86, -0.4),
)
SIGNS = tuple(dict.fromkeys(channel.sign for channel in CHANNELS))
"""The signs in the order of their labels in an evidence map: nodularity is 1, fossa and notch 7."""


def thresholds() -> tuple[float, float]:
    """Impressions that part mild from moderate and moderate from severe, so that the shares are the published ones."""
    total = sum(STAGE_COUNTS.values())
    spread = np.sqrt(1 + READER_NOISE**2)
    first = norm.ppf(STAGE_COUNTS["mild"] / total)
    second = norm.ppf(1 - STAGE_COUNTS["severe"] / total)
    return float(first * spread), float(second * spread)


def draw_channels(random: np.random.Generator, severity: NDArray[np.float64]) -> NDArray[np.float64]:
    """(patients, channels) values of every channel given (patients,) severities."""
    follows = np.array([channel.follows for channel in CHANNELS])
    own = random.standard_normal((severity.size, len(CHANNELS)))
    return severity[:, None] * follows + own * np.sqrt(1 - follows**2)


@dataclass(frozen=True)
class Latent:
    """What is true of one simulated patient's disease.

    Attributes
    ----------
    severity : standard normal.
    impression : severity as the reader saw it.
    stage : one of `CIRRHOSIS`.
    channels : name -> value in standard deviations.
    """

    severity: float
    impression: float
    stage: str
    channels: dict[str, float]

    @property
    def shown(self) -> dict[str, float]:
        """Channel -> how strongly it shows, 0 to 1."""
        return {c.name: float(c.shown(np.asarray(self.channels[c.name]))) for c in CHANNELS}


def draw_latent(random: np.random.Generator, stage: str | None = None) -> Latent:
    """One patient's latent truth; with `stage`, drawn from those the reader gives that stage."""
    while True:
        severity = random.standard_normal(1)
        impression = float(severity[0] + READER_NOISE * random.standard_normal())
        given = CIRRHOSIS[int(np.searchsorted(thresholds(), impression))]
        if stage is None or given == stage:
            break
    values = draw_channels(random, severity)[0]
    channels = {channel.name: float(value) for channel, value in zip(CHANNELS, values, strict=True)}
    return Latent(float(severity[0]), impression, given, channels)
