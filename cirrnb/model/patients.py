"""The patients that a model is asked about: bags, prepared as the model needs them, of whatever stands for a cohort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.cohort_reading import as_cohort, simulated_scans
from cirrnb.data.errors import InputError, listed
from cirrnb.data.progress import Progress
from cirrnb.data.scan import Cohort
from cirrnb.data.typed_paths import typed_path
from cirrnb.model.trained_model import TrainedModel
from cirrnb.preparation.cohort import prepare


def prepared_for(
    trained: TrainedModel,
    cohort: Cohort | PreparedCohort | Path | str,
    prepared: Path | str | None = None,
    *,
    force: bool = False,
    progress: Progress = None,
) -> PreparedCohort:
    """The cohort prepared as the model needs it, in `prepared` or prepared/ and its name; a prepared one as it is.

    Raises InputError if a prepared cohort does not fit the model, and as `cirrnb.prepare`.
    """
    cohort = as_cohort(cohort, **trained.vocabulary())
    return prepare(cohort, prepared, trained.preparation, progress=progress, force=force)


def bag_of(
    trained: TrainedModel,
    patients: Cohort | PreparedCohort | Path | str | Bag,
    subject: str | None = None,
    prepared: Path | str | None = None,
) -> Bag:
    """One patient's prepared scans: a bag as it is; of a cohort or its path the `subject`, or else the first patient.

    Of a cohort that is not prepared only this patient is prepared. Raises InputError if there is no such patient or no
    cohort, and as `prepared_for`.
    """
    if isinstance(patients, Bag):
        return patients
    if isinstance(patients, str) and not typed_path(patients).exists():
        remedy = f'Hand in the cohort and the patient: cirrnb.explain(model, cohort, subject="{patients}").'
        raise InputError("patients", f"{patients!r}, no cohort of that path", "a cohort and a subject", remedy)
    patients = as_cohort(patients, **trained.vocabulary())
    whole = patients if isinstance(patients, Cohort) else patients.cohort
    chosen = whole.subject_named(subject) if subject is not None else whole.scans[0].subject
    selected = patients.select(keep=[chosen]) if isinstance(patients, Cohort) else patients
    return next(bag for bag in prepared_for(trained, selected, prepared).bags() if bag.subject == chosen)


def bags_of(patients: PreparedCohort | Bag | Iterable[Bag]) -> tuple[list[Bag], bool]:
    """One bag a patient, and whether they are simulated. Raises InputError for anything else."""
    if isinstance(patients, PreparedCohort):
        return patients.bags(), patients.simulated
    if isinstance(patients, Bag):
        patients = [patients]
    bags = list(patients) if isinstance(patients, Iterable) else []
    if wrong := [patients] if not isinstance(patients, Iterable) else [bag for bag in bags if not isinstance(bag, Bag)]:
        expected = "a cohort, its path, a prepared cohort or a list of bags"
        remedy = "Hand in what cirrnb.read_cohort or cirrnb.prepare returns, or a list of its bags()."
        raise InputError("patients", f"a {type(wrong[0]).__name__}", expected, remedy)
    for bag in bags:
        if not bag.scans:
            raise InputError(
                "bags", "a patient without a scan", "at least one sequence a patient", "Leave the patient out."
            )
    subjects = Counter(bag.subject for bag in bags)
    if twice := [subject for subject, count in subjects.items() if count > 1]:
        problem = f"two bags of {listed(twice)}"
        raise InputError("bags", problem, "one bag a patient", "Put a patient's sequences into one bag.")
    return bags, bool(simulated_scans(scan.scan for bag in bags for scan in bag.scans.values()))
