"""What a report of a cohort is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cirrnb.reports.patients import Failure

LIMIT = 1800.0
"""Seconds that one patient may take."""


@dataclass(frozen=True)
class ReportRequest:
    """What a report of a cohort is asked for.

    Attributes
    ----------
    cohort : folder in the published layout, or a CSV table.
    model : folder of a model, or "shipped".
    out : folder of the report.
    patients : subjects or ids; none asks for all. Pages of others that are still true stay.
    prepared : folder of prepared scans; None takes prepared/ and the cohort's name.
    explanations : folder in which explanations are kept.
    method : how maps are made.
    jobs : patients at a time; None takes as many as there are cores.
    cluster : address of a Dask scheduler whose workers make the pages instead.
    fresh : make every page anew.
    limit : seconds that one patient may take.
    sequences : names in the cohort's table; None takes the model's.
    plugin : files that register heads, backbones or methods.
    masks : liver masks of the one patient who is asked for, as `cirrnb.data.given_masks.give_masks` takes them.
    force : answer for patients whose scans a check refuses; they are doubtful.
    pdf : print each page as PDF beside it as well.
    not_imported : of a cohort that DICOM studies were imported into, which may be empty: the studies that were not, and
        why. None for other cohorts.
    """

    cohort: Path
    model: str
    out: Path
    patients: tuple[str, ...] = ()
    prepared: Path | None = None
    explanations: Path = field(default_factory=lambda: Path("explanations"))
    method: str = "grad_cam"
    jobs: int | None = None
    cluster: str | None = None
    fresh: bool = False
    limit: float = LIMIT
    sequences: str | None = None
    plugin: tuple[Path, ...] = ()
    masks: tuple[str, ...] = ()
    force: bool = False
    pdf: bool = False
    not_imported: tuple[Failure, ...] | None = None
