"""Folds: every patient staged by a stager that was not trained on them, and all those stagers together as one model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from cirrnb.data import splits
from cirrnb.data.atomic_files import write_whole
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.locks import claimed
from cirrnb.model.certainty.calibration import COVERAGE, fit_predictions
from cirrnb.model.certainty.familiarity import fit_familiarity
from cirrnb.model.folds import out_of_fold
from cirrnb.model.results import read_predictions, write_answers
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.surroundings import own_context
from cirrnb.model.trained import FOLDS
from cirrnb.model.training import train
from cirrnb.model.unfinished import writing


@own_context()
def cross_validate(
    prepared: PreparedCohort,
    out: Path | str,
    settings: TrainingSettings | None = None,
    *,
    folds: int = 5,
    coverage: float = COVERAGE,
    progress: bool = True,
) -> Path:
    """Train a stager for each of `folds` folds of the patients with a stage, and leave them at `out` as one model.

    Fold k is trained on the other folds with seed `settings.seed` + k - 1, so that the spread between folds holds that
    between seeds. The folder appears when it is complete; an interrupted cross-validation resumes. Each fold is claimed
    while it is trained: a second process is refused at that fold, and complete folds are used by whoever comes. It
    holds fold-1, fold-2, ... (run folders), predictions.csv (every patient as the one stager that had not seen them
    says, uncalibrated), calibration.json (learned from those), familiarity.json and folds.json.

    Raises
    ------
    InputError, InputErrors
        As `train`; and if something else stands at `out`, or another process completes the folder and does not end.
    """
    settings, out = settings or TrainingSettings(), Path(out)
    names = [f"fold-{number}" for number in range(1, folds + 1)]
    if out.exists() and not _is_complete(out):
        raise InputError(out, "a folder that is no cross-validation", "nothing there", "Choose another folder.")
    unfinished = out.with_name(f".{out.name}.unfinished")
    people = prepared.cohort
    for number, (name, fold) in enumerate(zip(names, splits.kfold(people, folds, settings.seed), strict=True)):
        divided = prepared.with_splits({scan.subject: scan.split for scan in fold.scans})
        # A complete fold is recognised and returned as it is, one with other settings or data is refused. Another
        # process may complete the whole folder meanwhile, so where it lies is looked up for each fold.
        home = out if _is_complete(out) else unfinished
        train(divided, home / name, replace(settings, seed=settings.seed + number), progress=progress)
    with claimed(out):
        if not _is_complete(out):
            _complete(prepared, unfinished, out, names, coverage)
    return out


def _is_complete(out: Path) -> bool:
    return (out / FOLDS).is_file()


def _complete(prepared: PreparedCohort, home: Path, out: Path, names: list[str], coverage: float) -> None:
    """Write the files that all folds share, and rename the folder to `out`."""
    table = out_of_fold([read_predictions(home / name) for name in names])
    with writing(home):
        write_answers(home / "predictions.csv", table)
        fit_predictions(table, coverage, prepared.stages.names).save(home)
        fit_familiarity(prepared.bags(staged=True)).save(home)
        write_whole(home / FOLDS, json.dumps({"folds": names}, indent=1) + "\n")
        home.replace(out)
