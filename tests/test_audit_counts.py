"""Counts of the audit beside the published figures, on trees and simulated cohorts of the published size."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from published_tree import Patient, Tree

from cirrnb.data import splits
from cirrnb.data.auditing.audit import audit
from cirrnb.data.auditing.tables import counts
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.preparation.cohort import prepare
from cirrnb.simulation import published as simulated
from cirrnb.simulation.cohort import simulate_cohort
from cirrnb.simulation.patients import draw_patient, plan


def test_published_figures_add_up():
    columns = ["subject", "source", "sequence", "split", "stage", "sex", "age", "liver_volume"]
    lines = counts(pd.DataFrame(columns=columns)).set_index("line").published
    assert len(lines) == 38
    assert sum(lines[f"T1W {split} scans"] for split in ("train", "valid", "test")) == 310
    assert sum(lines[f"T2W {split} scans"] for split in ("train", "valid", "test")) == 318
    assert lines["patients"] == 291 + lines["patients with T1W alone"] + lines["patients with T2W alone"]
    for sequence, total in (("T1W", 310), ("T2W", 318), ("both sequences", 291)):
        assert sum(lines[f"{sequence} {stage}"] for stage in CIRRHOSIS) == total
    assert sum(lines[f"both sequences {split} (T2W split)"] for split in ("train", "valid", "test")) == 291
    assert lines["T2W female patients (± 25)"] + lines["T2W male patients (± 25)"] == 318


def test_counts_stand_beside_the_published_ones():
    columns = ["subject", "source", "sequence", "split", "stage", "sex", "age", "liver_volume"]
    scans = pd.DataFrame(
        [
            ("cirrhotic/47", "cirrhotic", "T1W", "valid", "mild", "male", 50, 1400.0),
            ("cirrhotic/47", "cirrhotic", "T2W", "train", "mild", "male", 50, 1500.0),
            ("cirrhotic/3", "cirrhotic", "T2W", "test", "severe", "female", 60, 1100.0),
            ("healthy/3", "healthy", "T1W", None, None, None, None, 1600.0),
        ],
        columns=columns,
    )
    found = counts(scans).set_index("line").found
    assert found["cirrhotic scans"] == 3 and found["patients"] == 2 and found["patients with T2W alone"] == 1
    assert found["patients whose sequences stand in different splits"] == 1
    assert found["both sequences train (T2W split)"] == 1 and found["T1W healthy subjects"] == 1
    assert found["T2W test severe"] == 1 and found["T2W mean age (± 2)"] == 55
    assert found["T2W mild median liver volume in mL (± 213)"] == 1500


def test_a_cohort_of_published_size_agrees_line_by_line(tmp_path):
    patients = [
        Patient(place.patient, {name: (split, True) for name, split in place.splits.items()}, place.stage, 60, "male")
        for place in simulated.places()
    ]
    patients += [Patient(one, dict.fromkeys(("T1W", "T2W"), (None, False)), healthy=True) for one in simulated.HEALTHY]
    Tree(tmp_path).write(patients)
    affine, random = np.diag([-40.0, -30, 25, 1]), np.random.default_rng(0)
    for scan in read_cohort(tmp_path).scans:
        voxels = random.integers(1, 999, (7, 8, 9), dtype=np.int16)
        scan.image.write_bytes(nib.Nifti1Image(voxels, affine).to_bytes())  # not packed, whatever its name
        if scan.mask:
            scan.mask.write_bytes(nib.Nifti1Image((voxels > 900).astype(np.uint8), affine).to_bytes())
    found = audit(tmp_path, workers=1, progress=False)
    assert len(found.scans) == 738 and not found.has_errors
    lines = found.tables["counts"].set_index("line")
    lines = lines[~lines.index.str.contains("±")]
    assert len(lines) == 30 and (lines.agrees == "yes").all(), lines[lines.agrees == "no"].to_string()
    paired = found.cohort.patients.query("T1W and T2W").index
    reference = splits.official(found.cohort.select(keep=paired), conflicts="t2")
    assert reference.patients.split.value_counts().to_dict() == {"train": 234, "valid": 28, "test": 29}


def test_a_simulated_cohort_is_read_and_audited_without_errors(tmp_path):
    cohort = simulate_cohort(tmp_path / "made", patients=3, healthy=1, scale="tiny", workers=1, progress=False)
    found = audit(tmp_path / "made", workers=1, progress=False)
    assert cohort.scans == found.cohort.scans and found.cohort.simulated
    assert not found.has_errors and (found.scans.mask_state == "fine").all()
    assert not [finding for finding in found.findings if finding.severity == "warning"], found.report()
    latent = pd.read_csv(tmp_path / "made" / "latent.csv").set_index("subject")
    for scan in found.scans.itertuples():
        assert scan.liver_volume == pytest.approx(latent.liver_volume_ml[scan.subject], rel=0.25)


def test_patients_drawn_in_published_number_agree_with_every_line():
    """Before any scan of them is simulated, which takes a minute and follows below."""
    drawn = [draw_patient(one, seed=0) for one in plan("tiny", None, None, seed=0)]
    scans = pd.DataFrame(
        {
            "subject": f"{one.plan.source}/{one.plan.patient}",
            "source": one.plan.source,
            "sequence": sequence,
            "split": split,
            "stage": one.stage,
            "sex": one.sex,
            "age": one.age,
            "liver_volume": one.liver_volume,
        }
        for one in drawn
        for sequence, split in one.plan.splits.items()
    )
    lines = counts(scans)
    assert len(scans) == 738 and len(lines) == 38 and (lines.agrees == "yes").all(), lines.to_string()


@pytest.mark.slow
def test_a_tiny_cohort_agrees_with_every_published_line_and_is_prepared(tmp_path):
    simulate_cohort(tmp_path / "tiny", scale="tiny", progress=False)
    tables = tmp_path / "tiny" / "Metadata"
    complete, t1w = (
        pd.read_csv(tables / f"{name}_age_gender_evaluation.csv", index_col="Patient ID")["Radiological Evaluation"]
        for name in ("CirrMRI600+_CompleteData", "T1")
    )
    assert (len(complete), complete.isna().sum(), len(t1w), t1w.isna().sum()) == (337, 19, 310, 0)
    assert set(complete.index[complete.isna()]) == set(simulated.ONLY_T1W)
    found = audit(tmp_path / "tiny", progress=False)
    assert not found.has_errors and (found.tables["counts"].agrees == "yes").all(), found.report()
    warned = {finding.check for finding in found.findings if finding.severity == "warning"}
    assert warned == {"leak between splits", "confound"}, found.report()
    assert set(found.confounds[found.confounds.confound].trait) == {"the type of the numbers"}
    settings = PreparationSettings(spacing=4.0)
    prepared = prepare(read_cohort(tmp_path / "tiny"), tmp_path / "prepared", settings, progress=False)
    assert len(prepared) == 738 and prepared.failures.empty
