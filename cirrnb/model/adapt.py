"""Adapting a model to a site: what `cirrnb adapt` does, into a folder that is a model itself."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from cirrnb.data.atomic_files import atomic_folder
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.cohort_reading import as_cohort
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.progress import Progress
from cirrnb.data.scan import Cohort
from cirrnb.data.typed_paths import typed_path
from cirrnb.model.adaptation import Adaptation, fit_adaptation, site_of
from cirrnb.model.calibration import CALIBRATION, logits_of
from cirrnb.model.checkpoint import CONFIG, WEIGHTS
from cirrnb.model.measured_signs import MEASURED_SIGNS
from cirrnb.model.measured_stage import MEASURED_STAGE
from cirrnb.model.out_of_distribution import OUT_OF_DISTRIBUTION, fit_out_of_distribution, out_of_distribution_file
from cirrnb.model.patients import prepared_for
from cirrnb.model.prediction import predict, predict_patient
from cirrnb.model.run_folder import TERM, TRAINING, nameless_answers, read_terms, read_unseen_answers
from cirrnb.model.signs import SIGNS_FILE
from cirrnb.model.site_terms import SiteTerms, fit_site_terms
from cirrnb.model.trained_model import FOLDS, SITE, TrainedModel, load_model, model_folder

CARD = "card.md"


def adapt(
    model: Path | str,
    cohort: Cohort | PreparedCohort | Path | str,
    out: Path | str,
    *,
    stages_of: Collection[str] = (),
    prepared: Path | str | None = None,
    device: str = "cpu",
    progress: Progress = None,
) -> TrainedModel:
    """Adapt a model to the scans of a site, without their stages, and write the adapted model's folder.

    Each measurement and the network's severity are mapped from their distribution at the site to that of training
    patients, and weighted by how they correlate at the site; then the resulting severity is mapped. See
    `cirrnb.model.adaptation`. The map assumes that the site's stages are distributed as those of training. If another
    mixture of severities explains the difference as well, nothing is mapped. Scans like the site's are no longer
    doubtful for being unusual.

    Parameters
    ----------
    model : a run folder, "shipped", or hf:owner/name. An earlier adaptation of it is replaced.
    cohort : `LEAST_PATIENTS` or more patients of the site, or the path of their cohort. None of them should be
        among those who are scored later.
    out : new folder for the adapted model. Name this folder wherever a model is expected.
    stages_of : subjects ("cirrhotic/12") whose recorded stage is used to fit the thresholds between stages too; none
        by default.
    prepared : folder for prepared scans, as for `cirrnb.predict`.
    device : "cpu" or "cuda", where the networks compute.
    progress : as for `cirrnb.predict`.

    Returns
    -------
    The adapted model.

    Raises
    ------
    InputError
        If there are fewer than `LEAST_PATIENTS` (30) patients, a subject of `stages_of` has no stage, the model's
        folder holds no predictions for patients it was not trained on, or `out` exists.

    Examples
    --------
    >>> adapted = cirrnb.adapt("shipped", "cohorts/site", "models/site")
    >>> answers = cirrnb.predict("models/site", "cohorts/mine")
    """
    out = typed_path(out)
    if out.exists():
        raise InputError(out, "something that exists", "a folder to be made", "Choose another name, or remove it.")
    folder = model_folder(model)
    trained = load_model(model).without_adaptation
    cohort = as_cohort(cohort, **trained.vocabulary())
    reference, nameless = read_unseen_answers(trained, folder), nameless_answers(trained, folder)
    if reference is None or nameless is None:
        problem, expected = "a model that keeps no answers", f"{TRAINING} or predictions.csv"
        raise InputError(folder, problem, expected, "Copy the whole run folder again, or train again.")
    bags = prepared_for(trained, cohort, prepared, progress=progress).bags()
    answers = predict(trained, bags, device=device, progress=progress).set_index("subject")
    site = site_of(cohort.name, list(answers.index))
    known = _known(answers, stages_of)
    if trained.measured is None:
        adaptation = fit_adaptation(site, trained.fingerprint, answers, reference, trained.stages.names, known=known)
    else:
        adaptation = _by_terms(trained, folder, site, bags, answers, reference, known)
    answered = set(answers.index[answers["predicted"].notna()])
    usual = fit_out_of_distribution([bag for bag in bags if bag.subject in answered])
    with atomic_folder(out) as partial:
        copy_model(folder, partial)
        if not (partial / TRAINING).is_file():  # so that the adapted model can be adapted anew
            write_csv(partial / TRAINING, nameless)
        (partial / SITE).mkdir()
        usual.save(partial / SITE)
        adaptation.save(partial)
    return load_model(out)


def fit_by_terms(
    trained: TrainedModel,
    site: str,
    terms: pd.DataFrame,
    home: pd.DataFrame,
    reference: pd.DataFrame,
    known: Mapping[str, str] | None = None,
) -> Adaptation:
    """The adaptation of a model that uses measurements: a map of each term, then thresholds by known stages.

    Parameters
    ----------
    terms, home : (patients, terms) as `Prediction.terms`, NaN where something was not measured: of the site, by
        subject, and of the patients the model was fitted to.
    reference : probabilities of the model for the latter patients, one column per stage.
    known : subject -> stage, as for `cirrnb.model.adaptation.fit_adaptation`.

    Raises InputError as that does.
    """
    assert trained.measured is not None
    names, site_terms = trained.stages.names, fit_site_terms(terms, home, trained.measured)
    chances = stages_by_terms(trained, terms, site_terms)
    return fit_adaptation(site, trained.fingerprint, chances, reference, names, known=known, terms=site_terms)


def stages_by_terms(
    trained: TrainedModel, terms: pd.DataFrame, adaptation: Adaptation | SiteTerms | None = None
) -> pd.DataFrame:
    """(patients, stages) calibrated probabilities of a model that uses measurements, from its terms alone.

    `terms` are (patients, terms), NaN where something was not measured. Without `adaptation`, the model is used as
    fitted; with `SiteTerms`, severity is not mapped.
    """
    assert trained.measured is not None
    rows = []
    for _, row in terms.iterrows():
        values = {str(name): float(value) for name, value in row.dropna().items()}
        if isinstance(adaptation, Adaptation):
            adds = adaptation.severity_terms(values, trained.measured)
        elif adaptation:
            adds = adaptation.contributions(
                values, trained.measured.contributions(adaptation.mapped(values, len(terms)))
            )
        else:
            adds = trained.measured.contributions(values)
        chances = trained.measured.of_severity(sum(adds.values()))
        chances = trained.calibration.apply(logits_of(chances)) if trained.calibration else chances
        rows.append(adaptation.apply(chances)[0] if isinstance(adaptation, Adaptation) else chances)
    return pd.DataFrame(rows, index=terms.index, columns=list(trained.stages))


def _by_terms(
    trained: TrainedModel,
    folder: Path,
    site: str,
    bags: Sequence[Bag],
    answers: pd.DataFrame,
    reference: pd.DataFrame,
    known: Mapping[str, str],
) -> Adaptation:
    home = read_terms(folder)
    if home is None:
        raise InputError(folder / TRAINING, "no terms", f"columns {TERM}NAME", "Copy the whole run folder again.")
    answered = set(answers.index[answers["predicted"].notna()])
    terms = {bag.subject: predict_patient(trained, bag).terms for bag in bags if bag.subject in answered}
    return fit_by_terms(trained, site, pd.DataFrame.from_dict(terms, orient="index"), home, reference, known)


def _known(answers: pd.DataFrame, subjects: Collection[str]) -> dict[str, str]:
    """Subject -> stage of those whose stage may be used. Raises InputError for one that has none."""
    known = {}
    for subject in subjects:
        stage = answers["stage"].get(subject)
        if not isinstance(stage, str):
            raise InputError(subject, "no stage, or nobody of that id", "a staged patient of the cohort", "Correct it.")
        known[subject] = stage
    return known


def copy_model(folder: Path, out: Path) -> None:
    """Copy the files that answers need: weights, settings, calibration, and what training scans look like."""
    for name in (CONFIG, WEIGHTS, CALIBRATION, FOLDS, SIGNS_FILE, MEASURED_SIGNS, MEASURED_STAGE, TRAINING, CARD):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    usual = out_of_distribution_file(folder)
    if usual is not None:
        shutil.copyfile(usual, out / OUT_OF_DISTRIBUTION)
    for fold in sorted(path for path in folder.iterdir() if (path / WEIGHTS).is_file()):
        (out / fold.name).mkdir()
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(fold / name, out / fold.name / name)
