"""One patient's prepared scans together: a bag, the shift between its sequences, and all bags of a cohort.

Each sequence is acquired in another breath-hold, so that organs lie higher in one than in the other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError, raise_if_any
from cirrnb.data.json_file import read_object
from cirrnb.data.prepared import PreparationSettings, PreparedScan
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.data.status import ANSWERED, reasons_text, status_of_scans

if TYPE_CHECKING:
    import pandas as pd

REACH = 40.0
"""Largest shift looked for in mm; the dome of the liver moves 10 to 30 mm in quiet to deep breathing."""
STEP = 0.5
PIXEL = 8.0
BINS = 24
SHIFT_VERSION = 1
"""Raise it when the same pair gets another estimate than before."""


Profile = NDArray[np.float64]


@dataclass(frozen=True)
class Bag:
    """One patient's prepared scans by sequence; a missing sequence has no entry.

    Attributes
    ----------
    scans : sequence -> PreparedScan, in the order of the cohort, at least one.
    sequences : those that a patient of the cohort may have.
    """

    scans: Mapping[str, PreparedScan]
    sequences: tuple[str, ...] = T1W_T2W

    def __post_init__(self) -> None:
        if not set(self.scans) <= set(self.sequences):
            object.__setattr__(self, "sequences", tuple(self.scans))

    def __repr__(self) -> str:
        scans = ", ".join(f"{name} {'x'.join(map(str, scan.grid.shape))}" for name, scan in self.scans.items())
        return f"Bag({self.subject!r}, {self.stage or 'unstaged'}: {scans})" if self.scans else "Bag()"

    def _repr_html_(self) -> str:
        """The patient, and each sequence where the liver is widest."""
        from cirrnb.data.cohort_reading import simulated_scans
        from cirrnb.data.summary_html import picture_of_prepared, summary

        if not self.scans:
            return summary("A patient without a scan", {})
        facts = {"Stage": self.stage or "unstaged", "Age": self.age, "Sex": self.sex, "Split": self.split}
        for name, scan in self.scans.items():
            slices, rows, columns = scan.grid.shape
            along, down, _ = scan.grid.spacing
            facts[name] = f"{slices} slices {along:.1f} mm apart, {rows} x {columns} pixels of {down:.2f} mm"
        facts["Missing"] = ", ".join(self.missing)
        pictures = filter(None, map(picture_of_prepared, self.scans.values()))
        computed = bool(simulated_scans(scan.scan for scan in self.scans.values()))
        return summary(f"Patient {self.subject}", facts, simulated=computed, pictures=pictures)

    @property
    def _first(self) -> Scan:
        return next(iter(self.scans.values())).scan

    @property
    def subject(self) -> str:
        return self._first.subject

    @property
    def patient(self) -> str:
        return self._first.patient

    @property
    def stage(self) -> str | None:
        return next((prepared.scan.stage for prepared in self.scans.values() if prepared.scan.stage), None)

    @property
    def age(self) -> float | None:
        """Age in years, or None if unknown."""
        return next((prepared.scan.age for prepared in self.scans.values() if prepared.scan.age is not None), None)

    @property
    def sex(self) -> str | None:
        """ "female", "male", or None if unknown."""
        return next((prepared.scan.sex for prepared in self.scans.values() if prepared.scan.sex), None)

    @cached_property
    def shifts(self) -> Mapping[str, float]:
        """sequence -> mm by which organs lie further to the head there than in the first sequence, as estimated from
        the images; 0 for the first one. An estimate is stored with the prepared scans and read the next time."""
        first, *others = self.scans
        return {first: 0.0} | {name: _stored_shift(self.scans[first], self.scans[name]) for name in others}

    @property
    def missing(self) -> tuple[str, ...]:
        """Sequences this patient lacks."""
        return tuple(sequence for sequence in self.sequences if sequence not in self.scans)

    def only(self, sequences: Collection[str]) -> Bag | None:
        """The bag without other sequences than these; None if nothing is left."""
        kept = {name: scan for name, scan in self.scans.items() if name in sequences}
        return self if len(kept) == len(self.scans) else replace(self, scans=kept) if kept else None

    @property
    def split(self) -> str | None:
        """As in `Cohort.patients`: "conflicting" where the sequences stand in different splits."""
        splits = {prepared.scan.split for prepared in self.scans.values()}
        return splits.pop() if len(splits) == 1 else "conflicting"


@dataclass(frozen=True)
class PreparedCohort:
    """All scans that could be prepared, and the list of those that could not.

    Attributes
    ----------
    scans : the prepared scans, in the cohort's order.
    failures : table with columns subject, sequence, reason; one row for each skipped scan.
    settings : shared by all of them.
    name, simulated, stages, sequences : as in `Cohort`.
    """

    scans: tuple[PreparedScan, ...]
    failures: pd.DataFrame
    settings: PreparationSettings
    name: str
    simulated: bool
    stages: StageScale = CIRRHOSIS
    sequences: tuple[str, ...] = T1W_T2W

    @property
    def cohort(self) -> Cohort:
        """The scans that were prepared, as a cohort."""
        scans = tuple(prepared.scan for prepared in self.scans)
        return Cohort(scans, self.name, self.simulated, stages=self.stages, sequences=self.sequences)

    def doubted(self) -> pd.DataFrame:
        """The scans that a check doubts or refuses: subject, sequence, status, reasons. Training uses them too."""
        import pandas as pd

        rows = [
            {"subject": scan.subject, "sequence": scan.sequence, "status": status, "reasons": reasons_text(reasons)}
            for scan in self.cohort.scans
            for status, reasons in [status_of_scans([scan])]
            if status != ANSWERED
        ]
        return pd.DataFrame(rows, columns=["subject", "sequence", "status", "reasons"])

    def __repr__(self) -> str:
        skipped = f"; {len(self.failures)} scans skipped" if len(self.failures) else ""
        return f"PreparedCohort({self.cohort.described}{skipped})"

    def _repr_html_(self) -> str:
        """Counts, and the first patient's sequences where the liver is widest."""
        from cirrnb.data.summary_html import picture_of_prepared, summary

        _, facts, tables = self.cohort.facts()
        facts |= {
            "Prepared as": self.settings.described,
            "Skipped": f"{len(self.failures)}, see .failures" * bool(len(self.failures)),
        }
        first = self.bags()[0].scans.values() if self.scans else ()
        pictures = filter(None, map(picture_of_prepared, first))
        return summary(
            f"Prepared cohort {self.name}", facts, simulated=self.simulated, tables=tables, pictures=pictures
        )

    def __iter__(self) -> Iterator[PreparedScan]:
        return iter(self.scans)

    def __len__(self) -> int:
        return len(self.scans)

    def with_splits(self, splits: Mapping[str, str | None]) -> PreparedCohort:
        """The same scans with each subject's split replaced, as `Cohort.with_splits`; nothing is prepared again."""
        return replace(
            self,
            scans=tuple(
                replace(prepared, scan=replace(prepared.scan, split=splits.get(prepared.scan.subject)))
                for prepared in self.scans
            ),
        )

    def bags(self, split: str | None = None, staged: bool = False) -> list[Bag]:
        """One bag a patient, in the cohort's order, optionally of one split and only those with a stage.

        Raises
        ------
        InputErrors
            If a split is asked for while sequences of one patient stand in different splits.
        """
        subjects: dict[str, dict[str, PreparedScan]] = {}
        for prepared in self.scans:
            subjects.setdefault(prepared.scan.subject, {})[prepared.scan.sequence] = prepared
        bags = [
            Bag({name: scans[name] for name in self.sequences if name in scans}, self.sequences)
            for scans in subjects.values()
        ]
        if split is not None:
            raise_if_any(_conflict(bag) for bag in bags if bag.split == "conflicting")
            bags = [bag for bag in bags if bag.split == split]
        return [bag for bag in bags if bag.stage or not staged]


def _conflict(bag: Bag) -> InputError:
    stands = ", ".join(f"{name} in {prepared.scan.split}" for name, prepared in bag.scans.items())
    return InputError(
        bag.subject,
        f"sequences in different splits ({stands})",
        "all of a patient's scans on one side",
        "Split the cohort by patient first, for example cirrnb.data.splits.official(cohort, conflicts='t2').",
    )


def _stored_shift(first: PreparedScan, second: PreparedScan) -> float:
    """The shift of a pair from the folder of the second scan, estimated and stored there if it is new.

    The folders' names are keys of the scans' content and settings, so that another pair never finds this estimate.
    """
    path = second.folder / f"shift-{first.folder.name}.json"
    try:
        stored = read_object(path, "a whole file", "Delete it.")
        if stored["version"] == SHIFT_VERSION and abs(stored["shift"]) <= REACH:
            return float(stored["shift"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent or damaged
    shift = estimate_shift(first, second)
    if (second.folder / "prepared.json").is_file():
        with suppress(OSError):  # a folder that cannot be written costs time, nothing else
            atomic_write(path, json.dumps({"version": SHIFT_VERSION, "shift": shift}) + "\n")
    return shift


def estimate_shift(first: PreparedScan, second: PreparedScan) -> float:
    """mm by which organs lie further to the head in `second` than in `first`, within `REACH`.

    With liver masks in both, the shift that brings the liver's area in each slice into agreement (least squares);
    otherwise the shift of highest mutual information between the images (Maes et al., IEEE TMI
    1997;16:187), counted inside the body away from its wall, which does not breathe. 0 where a scan has fewer than
    three slices or the other cannot be overlapped.
    """
    if min(first.grid.shape[0], second.grid.shape[0]) < 3:
        return 0.0
    shifts = np.arange(-REACH, REACH + STEP / 2, STEP)
    if first.mask is not None and second.mask is not None and first.mask.any() and second.mask.any():
        costs = _area_differences(first, second, shifts)
    else:
        costs = -_information(first, second, shifts)
    return _lowest(shifts, costs) if np.isfinite(costs).any() else 0.0


def _area_differences(first: PreparedScan, second: PreparedScan, shifts: Profile) -> Profile:
    """Mean square difference of the liver's area along the body, for each shift."""
    heights, areas = _areas(first)
    others, more = _areas(second)
    costs = []
    for shift in shifts:
        # Both ways, each at its own slices: a thick slice is an average that the thin ones can be asked for.
        there = np.interp(heights + shift, others, more, left=0, right=0)
        here = np.interp(others - shift, heights, areas, left=0, right=0)
        costs.append(np.mean((areas - there) ** 2) + np.mean((more - here) ** 2))
    return np.array(costs)


def _areas(scan: PreparedScan) -> tuple[Profile, Profile]:
    """Heights in mm and the liver's area there in mm², with an empty slice at either end."""
    assert scan.mask is not None
    _, down, right = scan.grid.spacing
    areas = np.asarray(scan.mask).sum(axis=(1, 2)) * down * right
    heights = scan.positions
    step = float(np.median(np.diff(heights)))
    return np.r_[heights[0] - step, heights, heights[-1] + step], np.r_[0, areas, 0]


def _information(first: PreparedScan, second: PreparedScan, shifts: Profile) -> Profile:
    """Mutual information in nats of the overlapping slices, for each shift; -inf where too few overlap."""
    (here, low), (there, high) = _coarse(first), _coarse(second)
    inside = _interior(here) & _interior(there)
    if inside.sum() < 20:
        return np.full(len(shifts), -np.inf)
    mine, theirs = here[:, inside], there[:, inside]
    levels = _levels(theirs)
    information = np.full(len(shifts), -np.inf)
    for index, shift in enumerate(shifts):
        wanted = high - shift  # where the first scan shows what the second shows
        usable = (wanted >= low[0]) & (wanted <= low[-1])
        if usable.sum() >= max(3, 0.5 * min(len(low), len(high))):
            information[index] = _mutual(_levels(_at(mine, low, wanted[usable])), levels[usable])
    return information


def _coarse(scan: PreparedScan) -> tuple[NDArray[np.float32], Profile]:
    """Slices at about `PIXEL` mm, smoothed first, and their heights."""
    from scipy.ndimage import gaussian_filter

    image = np.asarray(scan.image, dtype=np.float32)
    step = max(1, round(PIXEL / scan.grid.spacing[1]))
    return gaussian_filter(image, (0, step / 2, step / 2))[:, step // 2 :: step, step // 2 :: step], scan.positions


def _interior(slices: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels between the middle lines of the body's outline in the mean slice: organs rather than wall and spine."""
    mean = slices.mean(axis=0)
    body = mean > 0.15 * np.quantile(mean, 0.95)
    rows, columns = np.nonzero(body)
    inside = np.zeros_like(body)
    if len(rows):
        (top, bottom), (left, right) = np.quantile(rows, (0.15, 0.7)), np.quantile(columns, (0.12, 0.88))
        inside[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = True
    return inside & body


def _at(slices: NDArray[np.float32], heights: Profile, wanted: Profile) -> NDArray[np.float32]:
    """Pixels (wanted, pixels) between the slices (slices, pixels), linearly."""
    place = np.interp(wanted, heights, np.arange(len(heights)))
    below = np.minimum(place.astype(int), len(heights) - 2)
    share = (place - below)[:, None].astype(np.float32)
    return (1 - share) * slices[below] + share * slices[below + 1]


def _levels(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Grey levels 0 to `BINS` - 1, evenly filled."""
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, values)


def _mutual(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    joint = np.bincount((a * BINS + b).ravel(), minlength=BINS * BINS).reshape(BINS, BINS) / a.size
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    positive = joint > 0
    return float((joint[positive] * np.log(joint[positive] / apart[positive])).sum())


def _lowest(shifts: Profile, costs: Profile) -> float:
    """The shift of lowest cost, between the steps by a parabola."""
    best = int(np.nanargmin(costs))
    if not 0 < best < len(costs) - 1 or not np.isfinite(costs[best - 1 : best + 2]).all():
        return float(shifts[best])
    before, here, after = costs[best - 1 : best + 2]
    bend = before - 2 * here + after
    return float(shifts[best] + (0.5 * (before - after) / bend * STEP if bend > 0 else 0.0))
