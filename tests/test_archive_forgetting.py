"""One patient is deleted from a report and what led to it; prepared scans have an age limit."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from report_runs import in_this_process, tiny_cohort
from typer.testing import CliRunner

import cirrnb
from cirrnb.archive.forgetting import Places, clean, days_of, forget
from cirrnb.cli import app
from cirrnb.data.errors import InputError
from cirrnb.reports.report import make_report
from cirrnb.reports.request import ReportRequest
from cirrnb.reports.tables import read_failures, read_summary


@pytest.fixture
def home(tmp_path: Path) -> Generator[Path]:
    """A report of three patients, one of whom failed, by the worker that stands in."""
    cohort = tiny_cohort(tmp_path)
    subject = cirrnb.read_cohort(cohort).scans[-1].subject
    for scan in cirrnb.read_cohort(cohort).select(keep=[subject]).scans:
        scan.image.write_bytes(b"no NIfTI")
    with in_this_process(network=False):
        make_report(
            ReportRequest(
                cohort, "shipped", tmp_path / "reports/tiny", patients=(), jobs=1, prepared=tmp_path / "prepared/tiny",
                explanations=tmp_path / "explanations",
            )
        )  # fmt: skip
        yield tmp_path


def test_a_patient_with_a_page_is_deleted_and_the_others_stay(home: Path) -> None:
    report = home / "reports/tiny"
    before = read_summary(report)
    gone, stays = before["subject"]
    stem = gone.replace("/", "-")
    done = forget(gone.partition("/")[2], Places(report, prepared=home / "prepared/tiny"))
    assert done.subject == gone and done.unreached
    assert not [path for path in report.rglob("*") if stem in path.name]
    assert f'"{gone}"' not in (report / "index.html").read_text() and stays in (report / "index.html").read_text()
    after = read_summary(report)
    assert after.equals(before[before["subject"] == stays].reset_index(drop=True))
    assert not (report / "08_cohort_report.html").exists()
    assert len(read_failures(report)) == 1
    assert any("cirrnb clean" in words for words in done.unreached)


def test_a_patient_without_a_page_is_deleted(home: Path) -> None:
    report = home / "reports/tiny"
    (subject,) = read_failures(report)["subject"]
    forget(subject, Places(report))
    assert read_failures(report).empty and len(read_summary(report)) == 2
    assert subject not in (report / "index.html").read_text() and not list((report / "logs").iterdir())


def test_nobody_of_that_name_is_an_error_and_deletes_nothing(home: Path) -> None:
    before = sorted(path for path in home.rglob("*"))
    with pytest.raises(InputError, match="nobody of this name"):
        forget("nobody", Places(home / "reports/tiny"))
    assert sorted(path for path in home.rglob("*")) == before


def test_prepared_scans_and_maps_have_an_age_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cohort = tiny_cohort(tmp_path, 2)
    cirrnb.prepare(cirrnb.read_cohort(cohort), tmp_path / "prepared/tiny", workers=1, progress=False)
    folders = sorted(path.parent for path in (tmp_path / "prepared/tiny").glob("*/prepared.json"))
    (tmp_path / "explanations").mkdir()
    (tmp_path / "explanations/old.safetensors").write_bytes(b"a map")
    mask = tmp_path / "prepared/tiny/segmented/masks/a_liver.nii.gz"
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"a mask")
    for path in (folders[0] / "prepared.json", mask, tmp_path / "explanations/old.safetensors"):
        os.utime(path, (time.time() - 100 * 86400,) * 2)
    done = CliRunner().invoke(app, ["clean", "--older-than", "90d"])
    assert done.exit_code == 0 and done.output.count("Removed: ") == 3
    assert not folders[0].exists() and all(folder.is_dir() for folder in folders[1:]) and not mask.exists()
    again = cirrnb.prepare(cirrnb.read_cohort(cohort), tmp_path / "prepared/tiny", workers=1, progress=False)
    assert len(again) == len(folders) and folders[0].is_dir() and np.isfinite(again.scans[0].image).all()


def test_only_folders_of_prepared_scans_are_cleaned(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="no prepared scans"):
        clean(0, [tmp_path])
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize(("text", "days"), [("90d", 90.0), ("12h", 0.5), ("2w", 14.0), ("7", 7.0), ("1.5d", 1.5)])
def test_an_age_is_read(text: str, days: float) -> None:
    assert days_of(text) == days


@pytest.mark.parametrize("text", ["", "d", "-3d", "ninety", "nan", "3 months", "inf"])
def test_another_age_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        days_of(text)
