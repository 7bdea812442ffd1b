"""The audit of a cohort before training: every file is read once, and each finding names its scans."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cirrnb.data.auditing import examination
from cirrnb.data.auditing.confounds import confounds
from cirrnb.data.auditing.tables import audit_tables
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import listed
from cirrnb.data.numbers import figure
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.stage_scale import StageScale
from cirrnb.data.status import DOUBTFUL, REASONS_COLUMN, REFUSED, STATUS_COLUMN, reasons_of
from cirrnb.data.workers import Job, Outcome, WorkerDied, in_parallel, processors

if TYPE_CHECKING:
    import pandas as pd


SEVERITIES = ("error", "warning", "note")
"""An error makes results wrong or a file unusable; a warning asks for a look or a decision; a note is worth knowing."""

MOST_OUTSIDE = 0.01
"""Share of a liver mask outside the body from which it is called shifted: masks that fit have none, those that are
50 mm off within the slice have 5 to 20 % (4 real slices, one real volume, 747 simulated scans)."""

RIGHT, FRONT = (5.0, 120.0), (-25.0, 70.0)
"""mm to the patient's right and to the front of the body's centre within which a liver's centre lies. Found were 18 to
94 and 5 to 43 (in the same scans); beyond, a mask is shifted or mirrored."""

WIDER = 1.8
"""How many times wider the values spread under a mask than where it would fit better, from which it is called shifted.
Masks that fit had 1.0 but for 11 of 1314 simulated ones, at most 1.5; 4 real slices and a real volume had 1.0. Of masks
shifted by 30 mm within the slice nine in ten have more; of the real ones all."""

POSSIBLE = (100.0, 6000.0)
"""mL beyond which a mask is a warning and not only a note: one of a hundred livers lies outside the usual range."""

TILTED = 5.0
"""Degrees off the body's axes from which a scan is called oblique."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found.

    Attributes
    ----------
    cohort : the cohort that was audited.
    scans : one row a scan: the columns of `Cohort.table`, subject, name, and what
        `cirrnb.data.auditing.examination.examine` returns; `problem` says why a scan could not be read. `liver_volume`
        in mL.
    tables : summaries by name, in the order of a report: counts (and the published ones, for cohorts in the
        published layout), stages, acquisition, patients, volumes, masks.
    confounds : every acquisition trait against source and stage, see `cirrnb.data.auditing.confounds.confounds`.
    findings : worst first.
    """

    cohort: Cohort
    scans: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    confounds: pd.DataFrame
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """True if anything makes results wrong or a file unusable; warnings and notes do not count."""
        return any(finding.severity == "error" for finding in self.findings)

    @property
    def findings_table(self) -> pd.DataFrame:
        """One row a finding: severity, check, text, names."""
        import pandas as pd

        rows = [(finding.severity, finding.check, finding.text, listed(finding.names)) for finding in self.findings]
        return pd.DataFrame(rows, columns=["severity", "check", "text", "names"])

    def report(self) -> str:
        """All tables and findings as text for a terminal."""
        parts = [f"{self.cohort.name}: {len(self.cohort)} scans" + (" (SIMULATED)" if self.cohort.simulated else "")]
        for name, table in self.tables.items():
            parts.append(f"{name.capitalize()}\n{_stacked(table) if name == 'acquisition' else _aligned(table)}")
        for severity in SEVERITIES:
            chosen = [finding for finding in self.findings if finding.severity == severity]
            lines = [
                f"  [{each.check}] {each.text}" + (f": {listed(each.names)}" if each.names else "") for each in chosen
            ]
            parts.append("\n".join([f"{severity.capitalize()}s: {len(chosen) or 'none'}", *lines]))
        return "\n\n".join(parts) + "\n"


def audit(
    cohort: Cohort | Path | str,
    *,
    workers: int | None = None,
    progress: bool = True,
    stages: StageScale | Sequence[str] | str | None = None,
    sequences: Sequence[str] | str | None = None,
) -> Audit:
    """Read every scan and mask of a cohort once; return their facts and all that is wrong with them.

    Parameters
    ----------
    cohort : a cohort, or what `cirrnb.read_cohort` takes; problems of reading then become findings.
    workers : processes at work; None takes one a processor, 1 works in this process. Each takes the memory of one
        scan and a third of it.
    progress : show a progress bar.
    stages, sequences : as `cirrnb.read_cohort` takes them, where a path is given.

    Raises
    ------
    InputErrors
        If a path was given and no cohort could be read from it.
    """
    if not isinstance(cohort, Cohort):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the problems stand among the findings
            cohort = read_cohort(cohort, on_problem="skip", stages=stages, sequences=sequences)
    scans = _table(cohort, _examined(cohort.scans, workers, progress))
    tables = audit_tables(scans, cohort.stages)
    ties = confounds(scans, _further(cohort), cohort.sequences)
    return Audit(cohort, scans, tables, ties, audit_findings(cohort, scans, tables, ties))


def _examined(scans: Sequence[Scan], workers: int | None, progress: bool) -> list[Outcome]:
    """Facts of every scan, in the cohort's order."""
    from tqdm.auto import tqdm

    jobs = [{"image": str(scan.image), "mask": str(scan.mask) if scan.mask else None} for scan in scans]
    crew = min(workers or processors(), len(jobs))
    facts: list[Outcome] = [{} for _ in jobs]
    bar = tqdm(total=len(jobs), desc="Auditing", unit="scan", disable=not progress)
    with bar, closing(in_parallel(jobs, crew, examination.__name__) if crew > 1 else _in_turn(jobs)) as outcomes:
        for place, outcome in outcomes:
            if isinstance(outcome, WorkerDied):
                outcome = {"problem": f"{jobs[place]['image']}: {outcome}"}
            facts[place] = outcome
            bar.update()
    return facts


def _in_turn(jobs: Sequence[Job]) -> Generator[tuple[int, Outcome | WorkerDied]]:
    for place, job in enumerate(jobs):
        yield place, examination.run_job(job)


def _table(cohort: Cohort, facts: Sequence[Outcome]) -> pd.DataFrame:
    """The cohort's table joined with the facts of each scan."""
    import pandas as pd

    named = {"subject": [scan.subject for scan in cohort.scans], "name": [scan.name for scan in cohort.scans]}
    rows = cohort.table.assign(**named)
    measured = pd.DataFrame(list(facts), index=rows.index)
    measured = measured.reindex(columns=[*examination.FACTS])
    for column in examination.FACTS:  # also where nothing could be found at all
        measured[column] = measured[column].astype(float if column in examination.NUMBERS else object)
    return rows.drop(columns=[name for name in rows if name in measured]).join(measured)


def _further(cohort: Cohort) -> tuple[str, ...]:
    """Columns of the cohort's own table (scanner, site) that may be traits of acquisition."""
    taken = {*examination.FACTS, "subject", "name"}
    return tuple(dict.fromkeys(name for scan in cohort.scans for name in scan.extra if name not in taken))


def _aligned(table: pd.DataFrame) -> str:
    return table.to_string(index=False, na_rep="-", float_format=figure)


def _stacked(table: pd.DataFrame) -> str:
    """A table with a few long rows as one paragraph a row, so that it fits a terminal."""
    lines = []
    for _, row in table.iterrows():
        lines.append(f"{row['source']} {row['sequence']}, {row['scans']} scans")
        lines += [f"  {name}: {text}" for name, text in row.iloc[3:].items() if text]
    return "\n".join(lines)


@dataclass(frozen=True)
class Finding:
    """One finding: severity (of `SEVERITIES`), what was checked, a sentence, and the scans or patients concerned."""

    severity: str
    check: str
    text: str
    names: tuple[str, ...] = ()


def audit_findings(
    cohort: Cohort, scans: pd.DataFrame, tables: dict[str, pd.DataFrame], confounds: pd.DataFrame
) -> tuple[Finding, ...]:
    """All findings, worst first."""
    findings = [
        *(Finding("error", "reading", str(problem)) for problem in cohort.problems),
        *_files(scans),
        *_same_voxels(scans),
        *_splits(scans),
        *_masks(scans),
        *_checks(scans),
        *_geometry(scans),
        *_counts(cohort, tables),
        *_confounds(confounds),
        *(Finding("note", "reading", note) for note in cohort.notes),
    ]
    if cohort.simulated:
        findings.append(Finding("note", "reading", "the images are SIMULATED"))
    folder = _folder(scans)
    shorter = [replace(finding, text=finding.text.replace(folder, "")) for finding in findings]
    return tuple(sorted(shorter, key=lambda finding: SEVERITIES.index(finding.severity)))


def _folder(scans: pd.DataFrame) -> str:
    """The folder that all scans share: findings are shown in pages that others read, paths of the machine are not."""
    try:
        folder = Path(os.path.commonpath([path.parent.absolute() for path in scans["image"]]))
    except ValueError:  # several drives
        return ""
    return f"{folder}{os.sep}" if len(folder.parts) > 1 else ""


def _files(scans: pd.DataFrame) -> Iterator[Finding]:
    for scan in scans[scans.problem.notna()].itertuples():
        yield Finding("error", "unreadable scan", str(scan.problem), (str(scan.name),))
    constant = scans[scans.minimum == scans.maximum]
    if len(constant):
        yield Finding("error", "values", "scans with one value everywhere", _names(constant))
    scaled = scans[scans.scaled == True]  # noqa: E712 (None where a scan could not be read)
    if len(scaled):
        yield Finding("note", "values", "scans whose file scales its numbers (scl_slope)", _names(scaled))


def _same_voxels(scans: pd.DataFrame) -> Iterator[Finding]:
    varied = scans[scans.voxels.notna() & (scans.minimum < scans.maximum)]
    for _, group in varied.groupby("voxels", sort=False):
        if len(group) > 1:
            splits = sorted(set(group.split.dropna()))
            leak = f"; a leak between {' and '.join(splits)}" if len(splits) > 1 else ""
            stages = sorted(set(group.stage.dropna()))
            doubt = f"; staged {' and '.join(stages)}" if len(stages) > 1 else ""
            yield Finding(
                "error", "same voxels", f"the same voxels under {len(group)} names{leak}{doubt}", _names(group)
            )


def _splits(scans: pd.DataFrame) -> Iterator[Finding]:
    splits = scans.groupby("subject", sort=False).split.nunique()
    torn = splits.index[splits > 1]
    if len(torn):
        text = (
            f"{len(torn)} patients whose sequences stand in different splits; a model of both sequences would test on "
            "patients it was trained on; set conflicts of cirrnb.data.splits.official"
        )
        yield Finding("warning", "leak between splits", text, tuple(torn))


def _masks(scans: pd.DataFrame) -> Iterator[Finding]:
    for state, group in scans[scans.mask_problem.notna()].groupby("mask_state", sort=False):
        first = group.mask_problem.iloc[0]
        text = f"{len(group)} masks that are {state}, such as {first}" if len(group) > 1 else f"mask {state}: {first}"
        yield Finding("error", "masks", text, _names(group))
    for doubt, group in scans[scans.mask_doubts_found.fillna("") != ""].groupby("mask_doubts_found", sort=False):
        possible = group.liver_volume.between(*POSSIBLE).all()
        yield Finding(
            "note" if possible else "warning", "masks", f"a mask that may be no liver: {doubt}", _names(group)
        )
    outside = scans[scans.liver_outside > MOST_OUTSIDE]
    if len(outside):
        share = f"up to {outside.liver_outside.max():.0%} of it lies outside the body"
        yield Finding("warning", "masks", f"masks that look shifted: {share}", _names(outside))
    off_side = (scans.liver_right < RIGHT[0]) | (scans.liver_right > RIGHT[1])
    off_front = (scans.liver_front < FRONT[0]) | (scans.liver_front > FRONT[1])
    known = scans.liver_outside > MOST_OUTSIDE
    for scan in scans[(off_side | off_front) & ~known].itertuples():
        place = (
            f"{scan.liver_right:.0f} mm to the right and {scan.liver_front:.0f} mm to the front of the body's centre"
        )
        usual = f"{RIGHT[0]:g} to {RIGHT[1]:g} and {FRONT[0]:g} to {FRONT[1]:g}"
        text = f"a mask that looks shifted or mirrored: its centre lies {place} (usual: {usual})"
        yield Finding("warning", "masks", text, (str(scan.name),))
    odd = scans[(scans.liver_wider > WIDER) & ~(known | off_side | off_front)]
    for name, wider, right, front in zip(odd.name, odd.liver_wider, odd.move_right, odd.move_front, strict=True):
        move = f"{_mm(right, 'right', 'left')} and {_mm(front, 'front', 'back')}"
        text = f"a mask that looks shifted: moved {move} values under it would spread {wider:.1f} times less"
        yield Finding("warning", "masks", text, (str(name),))
    cut = scans[scans.liver_at.fillna("") != ""]
    if len(cut):
        text = "masks that reach the border of the scan: the liver is cut off, its volume too small"
        yield Finding("note", "masks", text, _names(cut))


def _checks(scans: pd.DataFrame) -> Iterator[Finding]:
    """What the checks of presence, sequence, side and pair found, where they were made: one finding an equal reason."""
    if STATUS_COLUMN not in scans or REASONS_COLUMN not in scans:
        return
    for status, severity in ((REFUSED, "warning"), (DOUBTFUL, "note")):
        scans_by_reason: dict[str, list[str]] = {}
        for scan in scans[scans[STATUS_COLUMN] == status].to_dict("records"):
            for reason in reasons_of(scan[REASONS_COLUMN] or ""):
                scans_by_reason.setdefault(str(reason), []).append(str(scan["name"]))
        for text, names in scans_by_reason.items():
            yield Finding(severity, "checks", f"{status}: {text}", tuple(names))


def _mm(distance: float, ahead: str, behind: str) -> str:
    return f"{abs(distance):.0f} mm to the {ahead if distance >= 0 else behind}"


def _geometry(scans: pd.DataFrame) -> Iterator[Finding]:
    tilted = scans[scans.tilt > TILTED]
    if len(tilted):
        yield Finding("note", "orientation", f"oblique scans, up to {tilted.tilt.max():.0f} degrees", _names(tilted))
    for column, what in (("placement", ""), ("mask_placement", "of a mask: ")):
        for placement, group in scans[scans[column].fillna("") != ""].groupby(column, sort=False):
            severity = "warning" if "sform" in str(placement) else "note"
            yield Finding(severity, "orientation", f"{what}{placement}", _names(group))
    kinds = scans.orientation.value_counts()
    odd = scans[scans.orientation.notna() & (scans.orientation != (kinds.index[0] if len(kinds) else ""))]
    if len(odd):
        text = f"stored otherwise than {kinds.index[0]} as the most: {', '.join(sorted(set(odd.orientation)))}"
        yield Finding("note", "orientation", text, _names(odd))


def _counts(cohort: Cohort, tables: dict[str, pd.DataFrame]) -> Iterator[Finding]:
    if "counts" in tables:
        differing = tables["counts"][tables["counts"].agrees == "no"]
        if len(differing):
            text = f"{len(differing)} of {len(tables['counts'])} lines differ from the published figures"
            severity = "note" if cohort.simulated else "warning"
            yield Finding(severity, "published figures", text, tuple(differing.line))


def _confounds(confounds: pd.DataFrame) -> Iterator[Finding]:
    for row in confounds[confounds.confound].itertuples():
        text = f"{row.sequence}: {row.trait} tells the {row.target} ({row.measure} {row.strength:.2f}): {row.words}"
        yield Finding("warning", "confound", text)


def _names(scans: pd.DataFrame) -> tuple[str, ...]:
    return tuple(scans.name)
