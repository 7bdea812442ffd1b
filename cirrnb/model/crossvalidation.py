"""Folds: every patient staged by a stager that was not trained on them, and all those stagers together as one model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from cirrnb.data import splits
from cirrnb.data.errors import InputError
from cirrnb.data.prepared import PreparedCohort
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
    between seeds. The folder appears when it is complete; an interrupted cross-validation goes on where it stopped. It
    holds fold-1, fold-2, ... (run folders), predictions.csv (every patient as the one stager that had not seen them
    says, uncalibrated), calibration.json (learned from those), familiarity.json and folds.json.

    Raises
    ------
    InputError, InputErrors
        As `train`; and if something else stands at `out`.
    """
    settings, out = settings or TrainingSettings(), Path(out)
    names = [f"fold-{number}" for number in range(1, folds + 1)]
    complete = (out / FOLDS).is_file()
    if out.exists() and not complete:
        raise InputError(out, "a folder that is no cross-validation", "nothing there", "Choose another folder.")
    home = out if complete else out.with_name(f".{out.name}.unfinished")
    people = prepared.cohort
    for number, (name, fold) in enumerate(zip(names, splits.kfold(people, folds, settings.seed), strict=True)):
        divided = prepared.with_splits({scan.subject: scan.split for scan in fold.scans})
        # A complete fold is recognised and returned as it is, one with other settings or data is refused.
        train(divided, home / name, replace(settings, seed=settings.seed + number), progress=progress)
    if complete:
        return out
    table = out_of_fold([read_predictions(home / name) for name in names])
    with writing(home):
        write_answers(home / "predictions.csv", table)
        fit_predictions(table, coverage, prepared.stages.names).save(home)
        fit_familiarity(prepared.bags(staged=True)).save(home)
        (home / FOLDS).write_text(json.dumps({"folds": names}, indent=1) + "\n", encoding="utf-8")
        home.replace(out)
    return out
