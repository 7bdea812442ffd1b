"""Drift of a report that is made again and again: the patients who are new in a run, beside those of the last runs.

A run is summed up by counts and sums, so that its history names nobody. What would be expected by chance is the
predictive distribution of so many new patients given the earlier ones: beta-binomial with Jeffreys' prior for shares,
Student's t for means (Gelman et al., *Bayesian Data Analysis*, 3rd ed. 2013, sections 2.4 and 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import betabinom, t

from cirrnb.data.csv_file import read_csv, write_csv
from cirrnb.evaluation.comparison import holm

RUNS = 30
"""Earlier runs to which one is compared."""
KEPT = 400
"""Runs that the history keeps."""
FEWEST = 20
"""Earlier patients below which nothing is compared."""
LEVEL = 0.05
"""Chance of a figure to lie outside its range, and of any false alarm in a run."""

_SUMS = ("n", "sum", "squares")


@dataclass(frozen=True)
class Tally:
    """The new patients of a run, summed up.

    Attributes
    ----------
    finished : when the run ended, UTC. patients : new ones, refused ones included. refused : of these.
    counts : "doubtful", "stage mild", ... -> how many of those who are not refused.
    sums : measurement with unit and sequence -> number, sum and sum of squares of its values.
    """

    finished: str
    patients: int
    refused: int
    counts: Mapping[str, int] = field(default_factory=dict)
    sums: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        return self.patients - self.refused


def tally(finished: str, rows: Sequence[Mapping[str, Any]], refused: int, stages: Iterable[str]) -> Tally:
    """Sum up rows of summary.csv of new patients, and how many were refused."""
    counts = {"doubtful": sum(row["status"] == "doubtful" for row in rows)}
    counts |= {f"stage {stage}": sum(row["predicted"] == stage for row in rows) for stage in stages}
    sums: dict[str, tuple[int, float, float]] = {}
    for row in rows:
        for name, value in row.items():
            if name.endswith(")") and isinstance(value, int | float) and math.isfinite(value):
                number, total, squares = sums.get(name, (0, 0.0, 0.0))
                sums[name] = number + 1, total + value, squares + value * value
    return Tally(finished, len(rows) + refused, refused, counts, sums)


@dataclass(frozen=True)
class Figure:
    """One figure of a run beside the earlier ones.

    Attributes
    ----------
    name : what it is. share : whether it is a share of patients, 0 to 1, and not a mean.
    now, usual : of this run and of the earlier ones.
    low, high : range in which it lies in 95 of 100 such runs by chance.
    p : chance of a value as far out or farther, two-sided.
    """

    name: str
    share: bool
    now: float
    usual: float
    low: float
    high: float
    p: float

    @property
    def outside(self) -> bool:
        return self.p < LEVEL


@dataclass(frozen=True)
class Drift:
    """A run beside the last ones.

    Attributes
    ----------
    new, earlier, runs : new patients, earlier ones, and the runs of these.
    figures : nothing where there are too few earlier patients, or no new one.
    """

    new: int
    earlier: int
    runs: int
    figures: tuple[Figure, ...] = ()

    @property
    def outside(self) -> int:
        """Figures outside their range."""
        return sum(figure.outside for figure in self.figures)

    @property
    def unusual(self) -> tuple[Figure, ...]:
        """Figures that chance does not explain: corrected after Holm for the number of figures."""
        corrected = holm([figure.p for figure in self.figures])
        return tuple(figure for figure, p in zip(self.figures, corrected, strict=True) if p < LEVEL)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        counts = {"new": self.new, "earlier": self.earlier, "runs": self.runs}
        return counts | {
            "figures": len(self.figures),
            "outside": self.outside,
            "unusual": [asdict(figure) for figure in self.unusual],
        }

    def __str__(self) -> str:
        """One line for the index."""
        if not self.new:
            return "No new patient in this run."
        if not self.figures:
            return f"Drift: {self.new} new, and too few earlier patients ({self.earlier} of {FEWEST}) to compare with."
        chance = LEVEL * len(self.figures)
        line = (
            f"Drift: {self.new} new beside {self.earlier} of the last {self.runs} runs. {self.outside} of "
            f"{len(self.figures)} figures lie outside the range of 95 of 100 such runs; by chance {chance:.1f} would."
        )
        if not self.unusual:
            return f"{line} None is beyond chance."
        return f"{line} Beyond chance: {'; '.join(map(_words, self.unusual))}."


def _words(figure: Figure) -> str:
    values = (figure.now, figure.usual, figure.low, figure.high)
    now, usual, low, high = (f"{value:.0%}" if figure.share else f"{value:.3g}" for value in values)
    return f"{'share ' if figure.share else 'mean '}{figure.name} {now} (usually {usual}; {low} to {high} by chance)"


def compare(run: Tally, history: Sequence[Tally]) -> Drift:
    """A run beside the last `RUNS` of a history, the newest last."""
    before = [earlier for earlier in history if earlier.patients][-RUNS:]
    patients = sum(earlier.patients for earlier in before)
    if not run.patients or patients < FEWEST:
        return Drift(run.patients, patients, len(before))
    figures = [_share("refused", run.refused, run.patients, sum(earlier.refused for earlier in before), patients)]
    answered = sum(earlier.answered for earlier in before)
    for name, count in run.counts.items():
        if run.answered and answered:
            figures.append(
                _share(name, count, run.answered, sum(earlier.counts.get(name, 0) for earlier in before), answered)
            )
    for name, sums in run.sums.items():
        pooled = [earlier.sums[name] for earlier in before if name in earlier.sums]
        figure = _mean(name, sums, [sum(part) for part in zip(*pooled, strict=True)] if pooled else [0, 0, 0])
        figures += [figure] if figure else []
    return Drift(run.patients, patients, len(before), tuple(figures))


def _share(name: str, count: int, number: int, earlier: int, total: int) -> Figure:
    predicted = betabinom(number, earlier + 0.5, total - earlier + 0.5)
    p = min(1.0, 2 * min(float(predicted.cdf(count)), float(predicted.sf(count - 1))))
    low, high = (float(predicted.ppf(level)) / number for level in (LEVEL / 2, 1 - LEVEL / 2))
    return Figure(name, True, count / number, earlier / total, low, high, p)


def _mean(name: str, sums: tuple[int, float, float], earlier: Sequence[float]) -> Figure | None:
    """None where there are too few earlier values, or all are the same."""
    number, total = sums[0], sums[1]
    count, before, squares = earlier
    if count < FEWEST:
        return None
    usual = before / count
    variance = (squares - count * usual * usual) / (count - 1)
    if variance <= 1e-12 * max(1.0, usual * usual):
        return None
    spread, now = math.sqrt(variance * (1 / number + 1 / count)), total / number
    half = float(t.ppf(1 - LEVEL / 2, count - 1)) * spread
    p = 2 * float(t.sf(abs(now - usual) / spread, count - 1))
    return Figure(name, False, now, usual, usual - half, usual + half, p)


def read_history(path: Path) -> list[Tally]:
    """Earlier runs, the oldest first; none where there is no file. Raises InputError where it cannot be read."""
    if not path.exists():
        return []
    table = read_csv(path, ("finished",), expected="the history of a report", remedy="Delete it; it begins anew.")
    runs = []
    for row in table.to_dict("records"):
        known: dict[str, Any] = {str(name): value for name, value in row.items() if value == value}
        names = [name.removeprefix("n ") for name in known if name.startswith("n ")]
        sums = {
            name: (int(known[f"n {name}"]), float(known[f"sum {name}"]), float(known[f"squares {name}"]))
            for name in names
        }
        counts = {name: int(value) for name, value in known.items() if name == "doubtful" or name.startswith("stage ")}
        runs.append(Tally(str(known["finished"]), int(known["patients"]), int(known["refused"]), counts, sums))
    return runs


def write_history(path: Path, runs: Sequence[Tally]) -> None:
    """Write the last `KEPT` runs, atomically."""
    rows = []
    for run in runs[-KEPT:]:
        row: dict[str, Any] = {"finished": run.finished, "patients": run.patients, "refused": run.refused, **run.counts}
        for name, sums in run.sums.items():
            row |= {f"{part} {name}": value for part, value in zip(_SUMS, sums, strict=True)}
        rows.append(row)
    write_csv(path, rows, ("finished", "patients", "refused"))
