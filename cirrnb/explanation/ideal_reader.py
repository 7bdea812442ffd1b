"""What somebody would say who saw every sign of a simulated patient as it is: the best answer there can be."""

from __future__ import annotations

import numpy as np

from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.simulation.ceiling import SEVERITIES, channel_likelihoods, stage_given_severity
from cirrnb.simulation.signs import CHANNELS, SIGNS, Latent


def stages_told_by_signs(latent: Latent) -> dict[str, float]:
    """Stage -> probability given all signs as they show, without an image in between; summing to one.

    Computed as the ceiling is (`cirrnb.simulation.ceiling`): a sign that is absent tells only that it is.
    """
    values = np.array([[latent.channels[channel.name] for channel in CHANNELS]])
    logs = channel_likelihoods(values)[:, 0].sum(axis=0) - SEVERITIES**2 / 2
    posterior = np.exp(logs - logs.max())
    told = posterior @ stage_given_severity()
    return dict(zip(CIRRHOSIS, (told / told.sum()).tolist(), strict=True))


def strengths(latent: Latent) -> dict[str, float]:
    """Sign -> how strongly it shows in the sequence that shows it best, 0 (absent) to 1, in the order of `SIGNS`."""
    shown = latent.shown
    return {sign: max(shown[one.name] for one in CHANNELS if one.sign == sign) for sign in SIGNS}
