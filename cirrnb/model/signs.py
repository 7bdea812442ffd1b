"""Signs that a stager saw: their strengths with intervals, and whether there is no sign of cirrhosis.

Intervals are conformal: of simulated patients given about this strength, the true one lay so far below or above it
(Vovk et al., *Algorithmic Learning in a Random World*, 2005; split by strength as Mondrian prediction is). They hold
for patients like those simulated ones.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import check_number
from cirrnb.data.json_file import read_part
from cirrnb.simulation.signs import CHANNELS, NO_SIGN

SIGNS_FILE = "signs.json"
FORMAT = 1
COVERAGE = 0.90
BANDS = 5
"""Bands of strength in which intervals are learned apart, with as many patients in each."""
LEAST_IN_BAND = 20
SLIGHT, CLEAR, STRONG = NO_SIGN, 0.25, 0.55
"""Strengths from which a sign is called slight, clear and strong; below it is absent."""
HARDLY_READ = 0.6
"""AUROC where signs are independent of each other, below which a strength says nothing of the sign itself."""

WORDS = {
    "nodularity": "nodular surface",
    "nodules_t1w": "nodules and septa on T1W",
    "nodules_t2w": "nodules and septa on T2W",
    "lobes": "right lobe small, left lobe and caudate large",
    "spleen": "large spleen",
    "ascites": "ascites",
    "portal": "wide portal vein and extra vessels",
    "fossa": "wide gallbladder fossa and posterior notch",
}
"""What a radiologist calls each sign."""

SHORT = {
    "nodularity": "nodular surface",
    "nodules_t1w": "nodules, T1W",
    "nodules_t2w": "nodules, T2W",
    "lobes": "lobes",
    "spleen": "large spleen",
    "ascites": "ascites",
    "portal": "portal vein, vessels",
    "fossa": "fossa and notch",
}
"""The same for a small picture."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class SignReading:
    """One sign as a stager saw it.

    Attributes
    ----------
    name : of the sign. strength : 0 (absent) to 1.
    low, high : 5 to 95 % interval of the strength; None where intervals were not learned.
    read : how well the stager tells whether the sign is there, on simulated patients whose signs are independent of
        each other and of the severity: AUROC, 0 to 1 (chance 0.5); None where it was not measured.
    measured : whether the strength is measured from the texture of the liver instead of read by the network.
    """

    name: str
    strength: float
    low: float | None = None
    high: float | None = None
    read: float | None = None
    measured: bool = False

    @property
    def words(self) -> str:
        """What a radiologist calls it."""
        return WORDS.get(self.name, self.name.replace("_", " "))

    @property
    def short(self) -> str:
        """The same in as few words as a small picture has room for."""
        return SHORT.get(self.name, self.words)

    @property
    def seen(self) -> bool:
        """Whether the stager saw anything of it, however uncertain."""
        return self.strength >= NO_SIGN

    @property
    def hardly_read(self) -> bool:
        """Whether the stager is known to read this sign hardly or not at all."""
        return self.read is not None and self.read < HARDLY_READ

    @property
    def degree(self) -> str:
        """absent, uncertain, slight, clear or strong: what the whole interval bears out, where there is one.

        A sign that was seen has the word of its interval's lower end, and is uncertain if that end is as good as
        absent. A sign that was not seen is uncertain if the interval's upper end would be clear.
        """
        if not self.seen:
            return "uncertain" if self.high is not None and self.high >= CLEAR else "absent"
        least = self.strength if self.low is None else self.low
        steps = ((STRONG, "strong"), (CLEAR, "clear"), (SLIGHT, "slight"))
        return next((word for limit, word in steps if least >= limit), "uncertain")

    @property
    def degree_words(self) -> str:
        """The degree as it is shown to a reader: the lower end of an interval."""
        return f"at least {self.degree}" if self.low is not None and self.degree in ("slight", "clear") else self.degree


def no_sign(signs: Collection[SignReading]) -> bool | None:
    """True if every sign that is read shows less than 0.1: a statement beside the stage, not a stage.

    None without signs that are read. What a stager is known not to read says nothing (`SignReading.hardly_read`).
    """
    read = [sign for sign in signs if not sign.hardly_read]
    return all(sign.strength < NO_SIGN for sign in read) if read else None


def shown_on(name: str) -> tuple[str, ...]:
    """Sequences that can show a sign; none for a sign that the package does not know, which any may show."""
    return next((tuple(channel.sequences) for channel in CHANNELS if channel.name == name), ())


def visible(names: Sequence[str], sequences: Collection[str]) -> list[bool]:
    """Which signs can be seen on some of the given sequences; signs that the package does not know, on any."""
    where = {channel.name: set(channel.sequences) for channel in CHANNELS}
    return [name not in where or bool(where[name] & set(sequences)) for name in names]


@dataclass(frozen=True)
class SignIntervals:
    """How far strengths lie from the truth, by sign and band of strength.

    Attributes
    ----------
    bounds : sign -> strengths that part the bands, rising. below, above : sign -> for each band, how far below and
        above the strength the interval reaches.
    n : patients they were learned from.
    read : sign -> how well it is read where signs are independent, see `SignReading`; no interval depends on it.
    """

    bounds: Mapping[str, tuple[float, ...]]
    below: Mapping[str, tuple[float, ...]]
    above: Mapping[str, tuple[float, ...]]
    n: int
    read: Mapping[str, float] = field(default_factory=dict)

    def reading(self, name: str, strength: float) -> SignReading:
        """A sign with its interval, if one was learned."""
        if name not in self.bounds:
            return SignReading(name, strength, read=self.read.get(name))
        band = int(np.searchsorted(self.bounds[name], strength, side="right"))
        low, high = strength - self.below[name][band], strength + self.above[name][band]
        low, high = (float(np.clip(value, 0, 1)) for value in (low, high))
        return SignReading(name, strength, low, high, self.read.get(name))

    def save(self, folder: Path | str) -> Path:
        """Write `signs.json` into a model's folder."""
        path = Path(folder) / SIGNS_FILE
        stored = {"format": FORMAT, **asdict(self)}
        atomic_write(path, json.dumps(stored, indent=1, allow_nan=False) + "\n")
        return path


def fit_sign_intervals(names: Sequence[str], seen: Numbers, truth: Numbers) -> SignIntervals:
    """Learn intervals from patients whom the stager was not trained on.

    Parameters
    ----------
    seen, truth : (patients, signs) strengths, 0 to 1; NaN where a sign could not be seen.

    Raises ValueError if shapes do not fit. A sign with fewer than `BANDS` times `LEAST_IN_BAND` patients gets none.
    """
    if seen.shape != truth.shape or seen.shape[1:] != (len(names),):
        raise ValueError(f"strengths are (patients, {len(names)}), not {seen.shape} and {truth.shape}")
    bounds, below, above = {}, {}, {}
    for name, predicted, true in zip(names, seen.T, truth.T, strict=True):
        known = np.isfinite(predicted) & np.isfinite(true)
        if known.sum() < BANDS * LEAST_IN_BAND:
            continue
        cuts = np.quantile(predicted[known], np.linspace(0, 1, BANDS + 1)[1:-1])
        band = np.searchsorted(cuts, predicted[known], side="right")
        apart = true[known] - predicted[known]
        low, high = zip(*(_reach(apart[band == number]) for number in range(BANDS)), strict=True)
        bounds[name], below[name], above[name] = tuple(cuts.tolist()), low, high
    return SignIntervals(bounds, below, above, len(seen))


def _reach(apart: Numbers) -> tuple[float, float]:
    """How far below and above zero the interval reaches that covers a new difference, each tail with half the error."""
    tail = (1 - COVERAGE) / 2
    rank = int(np.ceil((1 - tail) * (len(apart) + 1)))
    if rank > len(apart):
        return 1.0, 1.0
    ordered = np.sort(apart)
    return float(max(0.0, -ordered[len(apart) - rank])), float(max(0.0, ordered[rank - 1]))


def read_sign_intervals(folder: Path | str) -> SignIntervals | None:
    """The intervals in a model's folder, None where there are none. Raises InputError if the file is damaged."""
    return read_part(Path(folder) / SIGNS_FILE, FORMAT, "intervals", _intervals)


def _intervals(stored: dict[str, Any]) -> SignIntervals:
    bounds = {str(name): _band("bounds", edges) for name, edges in stored["bounds"].items()}
    below = {name: _band("below", stored["below"][name]) for name in bounds}
    above = {name: _band("above", stored["above"][name]) for name in bounds}
    for name, cuts in bounds.items():
        if not len(cuts) + 1 == len(below[name]) == len(above[name]) or list(cuts) != sorted(cuts):
            raise ValueError(f"bands of {name!r:.40} that do not fit")
    count = stored["n"]
    if type(count) is not int or count < 0:
        raise ValueError("n is no count")
    read = dict(stored.get("read", {}))
    for value in read.values():
        check_number("read", value, 0, 1)
    return SignIntervals(bounds, below, above, count, read)


def _band(name: str, values: object) -> tuple[float, ...]:
    numbers = np.array(values, dtype=float)
    if numbers.ndim != 1 or len(numbers) > 100 or not ((numbers >= 0) & (numbers <= 1)).all():
        raise ValueError(f"{name} are not numbers from 0 to 1")
    return tuple(numbers.tolist())
