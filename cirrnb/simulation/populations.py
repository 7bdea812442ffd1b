"""Populations: how strongly each sign follows severity, where it begins to show, and how a reader stages.

The benchmark is one population. Others differ in the correlation of each sign with severity, in onsets (which changes
the order of appearance), in the reader's noise and in prevalence, so that whatever reads signs can be tested, and a
stager trained, beyond one population's shortcuts. In `INDEPENDENT` signs say nothing about severity or about each
other: only a reader of the sign itself is better than chance there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_json
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.simulation.signs import CHANNELS, READER_NOISE, STAGE_COUNTS, Latent, Sign

FOLLOWS = (0.4, 0.95)
"""Correlations with severity of drawn populations."""
ONSET_SHIFT = 0.5
"""Largest shift of an onset in drawn populations, in standard deviations."""
_TOTAL = sum(STAGE_COUNTS.values())
SHARES = tuple(STAGE_COUNTS[stage] / _TOTAL for stage in CIRRHOSIS)
"""Shares of mild, moderate and severe patients of the benchmark, those of CirrMRI600+."""
_EXPECTED = (
    'any of {"follows": {sign: 0 to 0.99}, "onset": {sign: number}, "reader_noise": number, '
    '"shares": [mild, moderate, severe]}'
)
_REMEDY = f"Name any of {', '.join(channel.name for channel in CHANNELS)}; what is not named is as in the benchmark."


@dataclass(frozen=True)
class Population:
    """How severity determines signs and stage.

    Attributes
    ----------
    name : for tables and files.
    channels : one `Sign` each, in the order of `CHANNELS`.
    reader_noise : standard deviation of the reader's disagreement, in standard deviations of severity.
    shares : of mild, moderate and severe patients, summing to one.
    """

    name: str
    channels: tuple[Sign, ...] = CHANNELS
    reader_noise: float = READER_NOISE
    shares: tuple[float, ...] = SHARES

    @property
    def thresholds(self) -> tuple[float, float]:
        """Impressions that part mild from moderate and moderate from severe."""
        spread = np.sqrt(1 + self.reader_noise**2)
        return float(norm.ppf(self.shares[0]) * spread), float(norm.ppf(1 - self.shares[2]) * spread)

    def draw_channels(self, random: np.random.Generator, severity: NDArray[np.float64]) -> NDArray[np.float64]:
        """(patients, channels) values of every channel given (patients,) severities."""
        follows = np.array([channel.follows for channel in self.channels])
        independent = random.standard_normal((severity.size, len(self.channels)))
        return severity[:, None] * follows + independent * np.sqrt(1 - follows**2)

    def draw(self, random: np.random.Generator, patients: int) -> Draw:
        """Severities, channels and stages of so many patients."""
        severity = random.standard_normal(patients)
        impression = severity + self.reader_noise * random.standard_normal(patients)
        channels = self.draw_channels(random, severity)
        return Draw(severity, channels, self.shown(channels), np.searchsorted(self.thresholds, impression))

    def shown(self, channels: NDArray[np.float64]) -> NDArray[np.float64]:
        """(patients, channels) how strongly each shows, 0 to 1."""
        columns = [channel.shown(values) for channel, values in zip(self.channels, channels.T, strict=True)]
        return np.stack(columns, axis=1)

    def draw_latent(self, random: np.random.Generator, stage: str | None = None) -> Latent:
        """One patient's latent truth; with `stage`, drawn from those the reader gives that stage."""
        while True:
            severity = random.standard_normal(1)
            impression = float(severity[0] + self.reader_noise * random.standard_normal())
            given = CIRRHOSIS[int(np.searchsorted(self.thresholds, impression))]
            if stage is None or given == stage:
                break
        values = self.draw_channels(random, severity)
        shown = dict(zip((channel.name for channel in self.channels), self.shown(values)[0].tolist(), strict=True))
        channels = {channel.name: float(value) for channel, value in zip(self.channels, values[0], strict=True)}
        return Latent(float(severity[0]), impression, given, channels, shown)


@dataclass(frozen=True)
class Draw:
    """Many patients' latent truth.

    Attributes
    ----------
    severity : (patients,) standard normal. channels, shown : (patients, channels). stage : (patients,) 0 to 2.
    """

    severity: NDArray[np.float64]
    channels: NDArray[np.float64]
    shown: NDArray[np.float64]
    stage: NDArray[np.int64]


BENCHMARK = Population("benchmark")
INDEPENDENT = Population("independent", tuple(replace(channel, follows=0.0) for channel in CHANNELS))
"""Signs that follow neither severity nor each other."""


def draw_population(random: np.random.Generator, name: str = "drawn") -> Population:
    """A population with its own correlations, onsets, reader and prevalence."""
    channels = tuple(
        replace(
            channel,
            follows=float(random.uniform(*FOLLOWS)),
            onset=channel.onset + float(random.uniform(-ONSET_SHIFT, ONSET_SHIFT)),
        )
        for channel in CHANNELS
    )
    shares = random.dirichlet((6.0, 6.0, 6.0))
    return Population(name, channels, float(random.uniform(0.05, 0.3)), tuple(float(share) for share in shares))


def read_population(name: str) -> Population:
    """A population by name, "benchmark" or "independent", or from a JSON file.

    The file may hold follows and onset (numbers by channel), reader_noise, and shares (mild, moderate, severe). Raises
    InputError if it does not, or a number is out of range.
    """
    known = {population.name: population for population in (BENCHMARK, INDEPENDENT)}
    if name in known:
        return known[name]
    path = Path(name)
    try:
        stored = read_json(path, _EXPECTED, _REMEDY)
    except OSError as error:
        raise InputError(
            name, "no such population or file", f"one of {', '.join(known)}, or a file", _REMEDY
        ) from error
    return _parsed(path, stored)


def stored_population(population: Population) -> dict[str, Any]:
    """A population as JSON, for `population_of`."""
    return {
        "name": population.name,
        "follows": {channel.name: channel.follows for channel in population.channels},
        "onset": {channel.name: channel.onset for channel in population.channels},
        "reader_noise": population.reader_noise,
        "shares": list(population.shares),
    }


def population_of(request: Mapping[str, Any]) -> Population:
    """The population of a stored request of the simulator; the benchmark's where it names none."""
    stored = request.get("population")
    if stored is None:
        return BENCHMARK
    if not isinstance(stored, Mapping):
        raise InputError("population", f"{stored!r:.80}", _EXPECTED, _REMEDY)
    name = str(stored.get("name", "drawn"))
    return _parsed(Path(f"{name}.json"), {key: value for key, value in stored.items() if key != "name"})


def _parsed(path: Path, stored: Any) -> Population:
    def refuse(value: object) -> InputError:
        return InputError(path, f"{value!r:.80}", _EXPECTED, _REMEDY)

    if not isinstance(stored, Mapping) or not set(stored) <= {"follows", "onset", "reader_noise", "shares"}:
        raise refuse(stored)
    numbers = {"follows": (0.0, 0.99), "onset": (-2.0, 2.0)}
    names = {channel.name for channel in CHANNELS}
    for key, (low, high) in numbers.items():
        values = stored.get(key, {})
        if not isinstance(values, Mapping) or not set(values) <= names:
            raise refuse(values)
        if wrong := [value for value in values.values() if not _within(value, low, high)]:
            raise refuse(wrong[0])
    noise, shares = stored.get("reader_noise", READER_NOISE), stored.get("shares", SHARES)
    if not _within(noise, 0.0, 2.0):
        raise refuse(noise)
    if (
        not isinstance(shares, list | tuple)
        or len(shares) != 3
        or not all(_within(share, 0.01, 0.98) for share in shares)
    ):
        raise refuse(shares)
    if abs(sum(shares) - 1) > 0.001:
        raise refuse(shares)
    channels = tuple(
        replace(
            channel,
            follows=float(stored.get("follows", {}).get(channel.name, channel.follows)),
            onset=float(stored.get("onset", {}).get(channel.name, channel.onset)),
        )
        for channel in CHANNELS
    )
    return Population(path.stem, channels, float(noise), tuple(float(share) / sum(shares) for share in shares))


def _within(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
