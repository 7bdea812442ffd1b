"""The latent truth of a simulated patient: severity, signs, and the stage a reader gives.

Severity is a standard normal number. Each sign follows it with its own variation and shows only above an onset, so that
no sign is always there. The stage is the reader's impression of severity, cut where it gives the published shares. The
law by which patients are drawn is `cirrnb.simulation.populations.Population`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

READER_NOISE = 0.12
"""Standard deviation of the reader's disagreement, in standard deviations of severity."""

STAGE_COUNTS = {"mild": 131, "moderate": 114, "severe": 73}
"""T2W patients of each stage: CirrMRI600+, Sci Data 12:896 (2025)."""


NO_SIGN = 0.1
"""Strength below which every sign has to be where there is no sign of cirrhosis."""


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


@dataclass(frozen=True)
class Latent:
    """What is true of one simulated patient's disease.

    Attributes
    ----------
    severity : standard normal.
    impression : severity as the reader saw it.
    stage : one of `CIRRHOSIS`.
    channels : name -> value in standard deviations.
    shown : name -> how strongly it shows, 0 to 1.
    """

    severity: float
    impression: float
    stage: str
    channels: dict[str, float]
    shown: dict[str, float]
