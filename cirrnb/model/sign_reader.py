"""Giving a model a network of its own that reads the signs, beside those that stage.

A network that learns stage and signs together from patients whose signs go together can tell a sign from the others,
without looking at it. One that learned from patients whose signs are independent of each other cannot: what it says of
a sign it read from the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cirrnb.data.atomic_files import atomic_folder
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.progress import Progress
from cirrnb.data.scan import Cohort
from cirrnb.data.typed_paths import typed_path
from cirrnb.model.adapt import CARD, copy_model
from cirrnb.model.adaptation import ADAPTATION
from cirrnb.model.calibrate import fit_intervals_of_signs
from cirrnb.model.checkpoint import load_stager, save_stager
from cirrnb.model.known_patients import known_patients, true_strengths
from cirrnb.model.measured_signs import MEASURED_SIGNS, fit_measured_signs
from cirrnb.model.patients import prepared_for
from cirrnb.model.run_folder import TRAINING, nameless_answers
from cirrnb.model.trained_model import (
    LEFT,
    MEASURED,
    SIGN_READER,
    TrainedModel,
    load_model,
    model_folder,
    require_sign_reader,
)


def add_sign_reader(
    model: Path | str,
    reader: Path | str,
    cohort: Cohort | PreparedCohort,
    *,
    truth: Path | str,
    out: Path | str,
    leave: Sequence[str] = (),
    independent: tuple[Cohort | PreparedCohort, Path | str] | None = None,
    prepared: Path | str | None = None,
    progress: Progress = None,
) -> TrainedModel:
    """Write a copy of a model whose signs another network reads; stages, their calibration and sets stay as they are.

    Parameters
    ----------
    model : run folder of a stager with sign outputs, not adapted to a site, or "shipped".
    reader : run folder of a stager with the same signs, as `cirrnb.model.endless.train_endless` leaves.
    cohort : simulated patients that neither has seen; the intervals of the signs are learned from them.
    truth : latent.csv of that cohort.
    leave : signs that the model goes on giving itself.
    independent : simulated patients whose signs are independent of each other, and latent.csv of their cohort. Signs
        that can be measured (`cirrnb.model.measured_signs`) are then measured, and how is learned from them.
    out : new folder for the model; its signs.json has new intervals.

    Returns
    -------
    The new model.

    Raises
    ------
    InputError
        If `out` exists, the model is adapted, the reader has other signs or prepares scans otherwise, or the truth is
        of other patients.
    """
    folder, out = model_folder(model), typed_path(out)
    if out.exists():
        raise InputError(out, "a folder or file that exists", "a new folder", "Choose another one.")
    if (folder / ADAPTATION).is_file():
        remedy = "Add the network to the model as it was trained, then run cirrnb adapt."
        raise InputError(folder, "a model adapted to a site", "the model as it was trained", remedy)
    trained, reads = load_model(model), load_stager(typed_path(reader))
    reads = replace(reads, config={**reads.config, LEFT: list(leave), MEASURED: []})
    require_sign_reader(reads, trained.members[0])
    trained = replace(trained, sign_reader=reads, measured_signs=None)
    for latent in (truth, *([independent[1]] if independent else [])):  # before any scan is prepared
        true_strengths(typed_path(latent), trained.signs)
    if independent is not None:
        patients, latent = independent
        known = known_patients(
            prepared_for(trained, patients, None, progress=progress).bags(), Path(latent), trained.signs, ()
        )
        table = pd.DataFrame(known.shown, columns=list(trained.signs))
        ruled = fit_measured_signs([bag.scans for bag in known.bags], table)
        reads = replace(reads, config={**reads.config, MEASURED: list(ruled.signs)})
        trained = replace(trained, sign_reader=reads, measured_signs=ruled)
    bags = prepared_for(trained, cohort, prepared, progress=progress).bags()
    nameless = nameless_answers(trained, folder)
    intervals = fit_intervals_of_signs(trained, bags, Path(truth), progress)
    with atomic_folder(out) as partial:
        copy_model(folder, partial)
        for name in (MEASURED_SIGNS, CARD):  # of the signs as they were read before
            (partial / name).unlink(missing_ok=True)
        if nameless is not None and not (partial / TRAINING).is_file():  # so that it can be adapted
            write_csv(partial / TRAINING, nameless)
        (partial / SIGN_READER).mkdir(exist_ok=True)
        save_stager(partial / SIGN_READER, reads.stager, reads.config)
        intervals.save(partial)
        if trained.measured_signs is not None:
            trained.measured_signs.save(partial)
    return load_model(out)
