"""Looking a cohort over before anything is trained on it: every file read once, everything odd told with its names."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cirrnb.data.auditing import examination
from cirrnb.data.auditing.confounds import confounds
from cirrnb.data.auditing.findings import SEVERITIES, Finding, audit_findings
from cirrnb.data.auditing.tables import audit_tables
from cirrnb.data.errors import listed
from cirrnb.data.reading import read_cohort
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.stages import StageScale
from cirrnb.data.workers import Job, Outcome, WorkerDied, in_parallel, processors

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found.

    Attributes
    ----------
    cohort : the cohort that was audited.
    scans : one row a scan: the columns of `Cohort.table`, subject, name, and what
        `cirrnb.data.auditing.examination.examine` tells; `problem` tells why a scan could not be read. `liver_volume`
        in mL.
    tables : summaries by name, in the order of a report: counts (beside the published figures, for cohorts in the
        published layout), stages, acquisition, people, volumes, masks.
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

        rows = [(one.severity, one.check, one.text, listed(one.names)) for one in self.findings]
        return pd.DataFrame(rows, columns=["severity", "check", "text", "names"])

    def report(self) -> str:
        """All tables and findings as text for a terminal."""
        parts = [f"{self.cohort.name}: {len(self.cohort)} scans" + (" (SIMULATED)" if self.cohort.simulated else "")]
        for name, table in self.tables.items():
            parts.append(f"{name.capitalize()}\n{_stacked(table) if name == 'acquisition' else _aligned(table)}")
        for severity in SEVERITIES:
            own = [finding for finding in self.findings if finding.severity == severity]
            lines = [f"  [{one.check}] {one.text}" + (f": {listed(one.names)}" if one.names else "") for one in own]
            parts.append("\n".join([f"{severity.capitalize()}s: {len(own) or 'none'}", *lines]))
        return "\n\n".join(parts) + "\n"


def audit(
    cohort: Cohort | Path | str,
    *,
    workers: int | None = None,
    progress: bool = True,
    stages: StageScale | Sequence[str] | str | None = None,
    sequences: Sequence[str] | str | None = None,
) -> Audit:
    """Read every scan and mask of a cohort once and tell what is in them and what is wrong with them.

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
    """The cohort's table with the facts of each scan beside it."""
    import pandas as pd

    named = {"subject": [scan.subject for scan in cohort.scans], "name": [scan.name for scan in cohort.scans]}
    own = cohort.table.assign(**named)
    found = pd.DataFrame(list(facts), index=own.index)
    found = found.reindex(columns=[*examination.FACTS])
    for column in examination.FACTS:  # also where nothing could be found at all
        found[column] = found[column].astype(float if column in examination.NUMBERS else object)
    return own.drop(columns=[name for name in own if name in found]).join(found)


def _further(cohort: Cohort) -> tuple[str, ...]:
    """Columns of the cohort's own table (scanner, site) that may be traits of acquisition."""
    taken = {*examination.FACTS, "subject", "name"}
    return tuple(dict.fromkeys(name for scan in cohort.scans for name in scan.extra if name not in taken))


def _aligned(table: pd.DataFrame) -> str:
    return table.to_string(index=False, na_rep="-", float_format="{:g}".format)


def _stacked(table: pd.DataFrame) -> str:
    """A table with a few long rows as one paragraph a row, so that it fits a terminal."""
    lines = []
    for _, row in table.iterrows():
        lines.append(f"{row['source']} {row['sequence']}, {row['scans']} scans")
        lines += [f"  {name}: {text}" for name, text in row.iloc[3:].items() if text]
    return "\n".join(lines)
