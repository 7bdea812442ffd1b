"""Calibrating a stager that was trained on endless patients: from patients of a cohort that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.progress import Progress
from cirrnb.data.scan import Cohort
from cirrnb.data.typed_paths import typed_path
from cirrnb.measure.biomarkers import measurements_of
from cirrnb.model.adaptation import severity_of
from cirrnb.model.calibration import fit_predictions
from cirrnb.model.known_patients import of_patients, true_strengths
from cirrnb.model.measured_stage import (
    MEASURED_STAGE,
    NETWORK,
    fit_measured_stage,
    measured_values,
    unseen_probabilities,
)
from cirrnb.model.out_of_distribution import fit_out_of_distribution
from cirrnb.model.patients import prepared_for
from cirrnb.model.prediction import predict
from cirrnb.model.run_folder import TERM, TRAINING
from cirrnb.model.signs import SignIntervals, fit_sign_intervals
from cirrnb.model.trained_model import FOLDS, TrainedModel, load_model

LATENT = "latent.csv"
LEAST_PATIENTS = 30
"""Patients with a stage below which nothing is calibrated."""


def calibrate(
    run: Path | str,
    cohort: Cohort | PreparedCohort,
    *,
    truth: Path | str | None = None,
    measurements: bool = False,
    prepared: Path | str | None = None,
    progress: Progress = None,
) -> TrainedModel:
    """Calibrate a stager, and write the calibration into its folder.

    Writes calibration.json (temperature and prediction sets), out_of_distribution.json (what scans are usual),
    training.csv (answers without names, to which sites are adapted), signs.json where the signs' truth is known, and
    measured_stage.json where the stage shall rest on measurements too.

    Parameters
    ----------
    run : folder of a stager that has seen none of the patients, such as `cirrnb.model.endless.train_endless` leaves.
    cohort : patients with stages.
    truth : latent.csv of a simulated cohort.
    measurements : let the stage rest on what is measured in the outlines as well. It is worth what the outlines are:
        take those that later scans will have, for most the program's.

    Returns
    -------
    The calibrated model.

    Raises
    ------
    InputError
        If the run is a cross-validation, whose own patients calibrate it, fewer than `LEAST_PATIENTS` patients with a
        stage can be staged, or the truth is of other patients.
    """
    folder = typed_path(run)
    if (folder / FOLDS).is_file():
        remedy = "It is calibrated by its own patients already."
        raise InputError(folder, "a cross-validation", "a single stager", remedy)
    run_model = load_model(folder)
    plain = TrainedModel(
        run_model.members, folder.name, sign_reader=run_model.sign_reader, measured_signs=run_model.measured_signs
    )
    bags = prepared_for(plain, cohort, prepared, progress=progress).bags(staged=True)
    answers = predict(plain, bags, progress=progress)
    known = answers.dropna(subset=["stage", "predicted"])
    if len(known) < LEAST_PATIENTS:
        problem = f"{len(known)} patients with a stage"
        raise InputError(cohort.name, problem, f"{LEAST_PATIENTS} or more", "Use a larger cohort.")
    intervals = _fit_intervals(plain, known, Path(truth)) if truth is not None else None
    (folder / MEASURED_STAGE).unlink(missing_ok=True)
    columns = ["stage", *plain.stages]
    if measurements:
        terms = _terms(known, bags, plain.stages.names)
        numbers = known["stage"].map(plain.stages.names.index).to_numpy()
        fitted = fit_measured_stage(terms, numbers, len(plain.stages))
        fitted.save(folder)
        known = known.assign(
            **dict(zip(plain.stages, unseen_probabilities(terms, numbers, len(plain.stages)).T, strict=True))
        )
        known = known.join(terms[list(fitted.names)].add_prefix(TERM), on="subject")
        columns += [f"{TERM}{name}" for name in fitted.names]
    fit_predictions(known, stages=plain.stages.names).save(folder)
    fit_out_of_distribution(bags).save(folder)
    write_csv(folder / TRAINING, known[columns].round(4).sort_values(columns))
    if intervals is not None:
        intervals.save(folder)
    return load_model(folder)


def _terms(answers: pd.DataFrame, bags: Sequence[Bag], stages: Sequence[str]) -> pd.DataFrame:
    """(patients, terms), by subject, in the order of the answers: the network's severity and what was measured."""
    network = dict(zip(answers["subject"], severity_of(answers[list(stages)]), strict=True))
    measured = {bag.subject: measured_values(measurements_of(bag)) for bag in bags if bag.subject in network}
    rows = {subject: {NETWORK: severity, **measured[subject]} for subject, severity in network.items()}
    return pd.DataFrame.from_dict(rows, orient="index").loc[list(network)]


def fit_intervals_of_signs(
    model: TrainedModel, bags: Sequence[Bag], truth: Path, progress: Progress = None
) -> SignIntervals:
    """Intervals of a model's signs, from patients that it has not seen and latent.csv of their simulated cohort.

    Raises InputError for a model without signs, or if the truth is of other patients.
    """
    return _fit_intervals(model, predict(model, bags, progress=progress).dropna(subset=["predicted"]), truth)


def _fit_intervals(model: TrainedModel, answers: pd.DataFrame, path: Path) -> SignIntervals:
    """From the strengths that latent.csv has."""
    names = model.signs
    if not names:
        raise InputError(model.name, "a stager without sign outputs", "one with them", "Give no truth.")
    truth = of_patients(true_strengths(path, names), list(answers["subject"]), path)
    seen = answers[[f"sign {name}" for name in names]].to_numpy(float)
    return fit_sign_intervals(names, seen, truth)
