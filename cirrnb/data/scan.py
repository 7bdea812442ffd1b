"""One sequence of one patient, and the collection of them that everything else starts from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cirrnb.data.errors import InputError
from cirrnb.data.sequences import T1W_T2W, check_sequence
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Scan:
    """One sequence of one patient as it lies on disk; its voxels are read only when needed.

    Tables turn None into NaN on the way; a field that is unknown is None again here.

    Attributes
    ----------
    patient : the id in the cohort's own table; unique only together with `source`.
    sequence : name of the sequence, "T1W" say, as its cohort names it (see `sequence_names`).
    image : NIfTI file of the scan.
    mask : NIfTI file of the binary liver mask, or None.
    stage : a name of the cohort's stage scale, or None for an unstaged patient.
    split : "train", "valid", "test", or None.
    source : "cirrhotic", "healthy", or the name of the table.
    age : years, or None.
    sex : "female", "male", or None.
    extra : further columns of the table (scanner, site, ...).
    """

    patient: str
    sequence: str
    image: Path
    mask: Path | None = None
    stage: str | None = None
    split: str | None = None
    source: str = "cirrhotic"
    age: float | None = None
    sex: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("mask", "stage", "split", "age", "sex"):
            if _is_missing(getattr(self, name)):
                object.__setattr__(self, name, None)
        extra = {name: None if _is_missing(value) else value for name, value in self.extra.items()}
        object.__setattr__(self, "extra", extra)
        check_sequence(self.sequence)
        if self.stage is not None and not isinstance(self.stage, str):
            raise ValueError(f"stage is a name, not {self.stage!r}")
        if self.split not in (*SPLITS, None):
            raise ValueError(f"split is one of {(*SPLITS, None)}, not {self.split!r}")

    @property
    def subject(self) -> str:
        """Source and id ("cirrhotic/12"). It is unique in a cohort; an id alone is not: healthy subjects reuse ids."""
        return f"{self.source}/{self.patient}"

    @property
    def name(self) -> str:
        """Name of the scan in messages and progress lines."""
        return f"{self.subject} {self.sequence}"


def _is_missing(value: Any) -> bool:
    """True for None, NaN (the only value unequal to itself) and the NA of pandas."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # NA; an array
        return not hasattr(value, "__len__")


@dataclass(frozen=True)
class Cohort:
    """Scans of many patients.

    Attributes
    ----------
    scans : tuple of Scan, each (subject, sequence) at most once.
    name : what reports call the cohort; never a path of the machine.
    simulated : True if the images were computed and not acquired; every figure and report says so.
    problems : of the scans that were excluded with `on_problem="skip"`.
    notes : what was odd but harmless about the folder or table, in words for a reader.
    stages : the scale that the stages of the scans belong to.
    sequences : names of the sequences, in the order in which they are shown; all that the scans have are among them.

    Raises ValueError if a scan has a stage or sequence that is not among these.
    """

    scans: tuple[Scan, ...]
    name: str = "cohort"
    simulated: bool = False
    problems: tuple[InputError, ...] = ()
    notes: tuple[str, ...] = ()
    stages: StageScale = CIRRHOSIS
    sequences: tuple[str, ...] = T1W_T2W

    def __post_init__(self) -> None:
        for scan in self.scans:
            if scan.sequence not in self.sequences:
                raise ValueError(f"sequence is one of {self.sequences}, not {scan.sequence!r}")
            if scan.stage is not None and scan.stage not in self.stages:
                raise ValueError(f"stage is one of {self.stages.names}, not {scan.stage!r}")

    def __len__(self) -> int:
        return len(self.scans)

    def __repr__(self) -> str:
        return f"Cohort({self.described})"

    @property
    def described(self) -> str:
        """Name and counts in one line."""
        from cirrnb.data.summary_html import counts

        by_sequence = ", ".join(f"{sum(s.sequence == name for s in self.scans)} {name}" for name in self.sequences)
        patients = self.patients
        stages = f"; {counts(patients, self.stages)[0]}" if len(patients) else ""
        kind = "simulated patients" if self.simulated else "patients"
        return f"{self.name!r}: {len(patients)} {kind}, {len(self)} scans ({by_sequence}){stages}"

    def _repr_html_(self) -> str:
        """Counts, and the first patient's scans."""
        from cirrnb.data.summary_html import picture_of_scan, summary

        heading, facts, tables = self.facts()
        first = [scan for scan in self.scans if scan.subject == self.scans[0].subject] if self.scans else []
        pictures = filter(None, map(picture_of_scan, first))
        return summary(heading, facts, simulated=self.simulated, tables=tables, pictures=pictures)

    def facts(self) -> tuple[str, dict[str, Any], list[str]]:
        """Heading, facts by name, and tables as HTML, for the summary that a notebook shows."""
        from cirrnb.data.summary_html import counts, table_html

        patients = self.patients
        facts: dict[str, Any] = {"Patients": len(patients), "Scans": len(self)}
        for name in self.sequences:
            facts[name] = f"{int(patients[name].sum())} patients"
        facts["With all sequences"] = int(patients[list(self.sequences)].all(axis=1).sum())
        facts["With a liver mask"] = f"{sum(scan.mask is not None for scan in self.scans)} scans"
        facts["Notes"] = f"{len(self.notes)}, see .notes" if self.notes else None
        facts["Problems"] = f"{len(self.problems)}, see .problems" if self.problems else None
        return f"Cohort {self.name}", facts, [table_html(counts(patients, self.stages)[1])] if len(patients) else []

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a scan: the fields of `Scan` and the columns of its `extra`."""
        import pandas as pd

        columns = [name for name in Scan.__dataclass_fields__ if name != "extra"]
        rows = [{**scan.extra, **{name: getattr(scan, name) for name in columns}} for scan in self.scans]
        extra = dict.fromkeys(name for scan in self.scans for name in scan.extra if name not in columns)
        return pd.DataFrame(rows, columns=[*columns, *extra])

    @cached_property
    def patients(self) -> pd.DataFrame:
        """One row a patient, indexed by subject: patient, source, stage, age, sex, split, and one for
        each sequence (T1W, T2W): whether it exists.

        `split` is "conflicting" where a patient's scans
        stand in different splits.
        """
        import pandas as pd

        rows: dict[str, dict[str, Any]] = {}
        for scan in self.scans:
            row = rows.setdefault(scan.subject, {"patient": scan.patient, "source": scan.source, "split": scan.split})
            for name in ("stage", "age", "sex"):
                if row.get(name) is None:
                    row[name] = getattr(scan, name)
            if row["split"] != scan.split:
                row["split"] = "conflicting"
            row[scan.sequence] = True
        columns = ["patient", "source", "stage", "age", "sex", "split", *self.sequences]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("subject")
        return table.assign(**{name: table[name].notna() for name in self.sequences})

    def subject_named(self, name: str) -> str:
        """The subject ("cirrhotic/12") that a name means: the subject itself, or a patient's id that no other has.

        Raises InputError for any other name.
        """
        known = dict.fromkeys(scan.subject for scan in self.scans)
        if name in known:
            return name
        alike = dict.fromkeys(scan.subject for scan in self.scans if scan.patient == name)
        if len(alike) == 1:
            return next(iter(alike))
        choices = alike or known
        expected = f"one of {len(choices)}, for example {', '.join(list(choices)[:3])}"
        raise InputError("subject", repr(name), expected, "Name one of them.")

    def select(self, keep: Iterable[str] | None = None, **fields: str | Collection[str] | None) -> Cohort:
        """The scans of the subjects in `keep` (default all) whose fields have one of the given values.

        `cohort.select(split="train")`, `cohort.select(sequence="T2W", stage=["mild", "severe"])`,
        `cohort.select(keep=["cirrhotic/12"])`.
        """
        kept = None if keep is None else set(keep)
        wanted = {
            name: {value} if value is None or isinstance(value, str) else set(value) for name, value in fields.items()
        }
        chosen = (
            scan
            for scan in self.scans
            if (kept is None or scan.subject in kept)
            and all(getattr(scan, name) in values for name, values in wanted.items())
        )
        return replace(self, scans=tuple(chosen))

    def with_splits(self, splits: Mapping[str, str | None]) -> Cohort:
        """The same scans with each subject's split replaced; subjects not named get None."""
        return replace(self, scans=tuple(replace(scan, split=splits.get(scan.subject)) for scan in self.scans))
