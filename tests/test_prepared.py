"""Prepared scans as others use them: sent to other processes, as patients' bags, by split."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from preparation_phantoms import prepare_one, write

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputErrors
from cirrnb.data.prepared import OPEN_FILES, PreparationSettings
from cirrnb.data.scan import Cohort
from cirrnb.preparation.cohort import prepare
from cirrnb.preparation.geometry import to_source


def test_a_prepared_scan_is_sent_to_other_processes_without_its_voxels(tmp_path: Path) -> None:
    prepared = prepare_one(write(tmp_path, "1"), tmp_path / "out")
    assert prepared.image.nbytes > 500_000
    sent = pickle.dumps(prepared)
    assert len(sent) < 5000
    np.testing.assert_array_equal(pickle.loads(sent).image, prepared.image)  # noqa: S301


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted where the system lists them")
def test_as_many_files_are_open_for_many_scans_as_for_few(tmp_path: Path) -> None:
    made = prepare_one(write(tmp_path, "1"), tmp_path / "out")
    scans = []
    for number in range(3 * OPEN_FILES):
        folder = tmp_path / f"copy{number}"
        shutil.copytree(made.folder, folder)
        scans.append(replace(made, folder=folder))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for scan in scans:
        assert scan.image.shape == made.image.shape and scan.mask.any()
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= OPEN_FILES


def test_what_was_prepared_anew_is_seen(tmp_path: Path) -> None:
    made = prepare_one(write(tmp_path, "1"), tmp_path / "out")
    before = made.image
    anew = np.array(before) + 1
    (made.folder / "image.npy").unlink()
    np.save(made.folder / "image.npy", anew)
    np.testing.assert_array_equal(made.image, anew)


@pytest.fixture
def prepared_cohort(tmp_path: Path) -> PreparedCohort:
    scans = (
        write(tmp_path, "1", "T2W", mask=False, stage="mild", split="train"),
        write(tmp_path, "2", "T1W", mask=False, stage=None, split="train"),
        write(tmp_path, "1", "T1W", mask=False, stage="mild", split="train"),
        replace(write(tmp_path, "1", "T1W", mask=False, split="test"), source="healthy"),
    )
    return prepare(Cohort(scans), tmp_path / "out", workers=1, progress=False)


def test_bags_are_patients(prepared_cohort: PreparedCohort) -> None:
    bags = prepared_cohort.bags()
    assert [bag.subject for bag in bags] == ["cirrhotic/1", "cirrhotic/2", "healthy/1"]
    assert list(bags[0].scans) == ["T1W", "T2W"] and bags[0].missing == ()
    assert (bags[0].stage, bags[0].split, bags[0].patient) == ("mild", "train", "1")
    assert bags[1].missing == ("T2W",)
    assert [bag.subject for bag in prepared_cohort.bags(staged=True)] == ["cirrhotic/1"]
    assert [bag.subject for bag in prepared_cohort.bags("test")] == ["healthy/1"]
    assert prepared_cohort.bags("valid") == []


def test_a_patient_on_both_sides_is_refused(prepared_cohort: PreparedCohort) -> None:
    scans = list(prepared_cohort.scans)
    scans[0] = replace(scans[0], scan=replace(scans[0].scan, split="valid"))
    mixed = replace(prepared_cohort, scans=tuple(scans))
    assert mixed.bags()[0].split == "conflicting"
    with pytest.raises(InputErrors, match=r"cirrhotic/1: found sequences in different splits \(T1W in train, T2W in v"):
        mixed.bags("train")
    again = mixed.with_splits({"cirrhotic/1": "test", "healthy/1": "train"})
    assert [bag.subject for bag in again.bags("test")] == ["cirrhotic/1"]
    assert again.bags()[1].split is None


def test_an_array_of_another_shape_is_not_brought_back(prepared_cohort: PreparedCohort) -> None:
    with pytest.raises(ValueError, match="prepared grid has shape"):
        to_source(prepared_cohort.scans[0], np.zeros((7, 8, 9), dtype=np.float32))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"view": "head"}, "view is one of"),
        ({"spacing": 0.1}, "spacing"),
        ({"margin": -1}, "margin"),
        ({"percentiles": (99, 1)}, "percentiles rise"),
        ({"field_of_view": (5, 200)}, "field_of_view"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PreparationSettings(**wrong)


def test_sizes_by_hand() -> None:
    assert PreparationSettings().size == (192, 256)  # 288 x 384 mm at 1.5 mm
    assert PreparationSettings(view="liver", spacing=2).size == (112, 128)  # 224 x 256 mm at 2 mm
    assert PreparationSettings(field_of_view=(100, 200), spacing=2.5).size == (40, 80)
