"""A worker of reports for tests: reads the scans, writes overlays and pages as the true one does, and leaves out what
takes time: the network.

STAND_IN_NAP makes it take its time; STAND_IN_USES names the one sequence of which it makes a map; STAND_IN_ASKS lets it
read model and prepared scans as the true one does.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np

import cirrnb
from cirrnb.data.atomic_files import atomic_file, file_stem
from cirrnb.data.workers import Job, Outcome
from cirrnb.model.prediction import Prediction
from cirrnb.reports import pages
from cirrnb.reports.patient_report import (
    ExplanationSummary,
    PatientReport,
    ScanFacts,
    SequenceShapleyValues,
    TrainingComparison,
)


def make_report(
    subject: str, share: float = 0.25, sequences: tuple[str, ...] = ("T1W",), overlays: tuple[str, ...] = ()
) -> PatientReport:
    """A small report of a patient who may not exist."""
    chances = {"mild": 1 - share, "moderate": share, "severe": 0.0}
    weights = dict.fromkeys(sequences, 1 / len(sequences))
    source, _, patient = subject.partition("/")
    return PatientReport(
        subject=subject,
        patient=patient,
        source=source,
        age=51.0,
        sex=None,
        recorded=None,
        simulated=True,
        model_simulated=True,
        scans=tuple(ScanFacts(name) for name in sequences),
        prediction=Prediction(subject, chances, "mild", ("mild",), {}, weights, (), "stand-in", True),
        coverage=0.9,
        key_slices={},
        slices_that_mattered={},
        slices_with_signs={},
        reasons=ExplanationSummary(
            "grad_cam", "Grad-CAM", "severity", "", share, SequenceShapleyValues(weights, 0.0), None, ()
        ),
        map_tests=(),
        verdict="both",
        measurements={},
        training=TrainingComparison(0.2, None, "", {}),
        model={},
        browser={},
        overlays=overlays,
    )


def compute_report(job: Job) -> PatientReport:
    subject, nap = job["subject"], float(os.environ.get("STAND_IN_NAP", "0"))
    scans = cirrnb.read_cohort(job["cohort"], on_problem="skip").select(keep=[subject]).scans
    images = {scan.sequence: nib.load(scan.image) for scan in scans}
    if os.environ.get("STAND_IN_ASKS"):
        bag = pages.read_patient(job)[1]
        images = {n: nib.Nifti1Image(np.array(one.image, np.float32), np.eye(4)) for n, one in bag.scans.items()}
    if used := os.environ.get("STAND_IN_USES"):
        images = {name: image for name, image in images.items() if name == used}
    values = {name: image.get_fdata() for name, image in images.items()}
    time.sleep(nap)
    folder, written = Path(job["overlays"]), []
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        path = folder / f"{file_stem(subject, name, job['settings']['method'])}.nii.gz"
        with atomic_file(path) as beside:
            nib.save(nib.Nifti1Image((values[name] / 2).astype(np.float32), image.affine), beside)
        written.append(path.name)
        time.sleep(nap / 2)
    share = float(np.mean([np.mean(one) for one in values.values()])) % 1 / 2
    return make_report(subject, share, tuple(values), tuple(written))


def run_job(job: Job) -> Outcome:
    """As the true one, in a process that makes no other pages."""
    pages.compute_report = compute_report
    return pages.run_job(job)
