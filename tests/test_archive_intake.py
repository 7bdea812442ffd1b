"""An inbox of DICOM studies becomes a cohort: what is chosen or refused, and why, and what a later run does."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dicom_phantoms import JPEG_2000, T1, T2, write_series
from pydicom import dcmread

import cirrnb
from cirrnb.archive import inbox as faults
from cirrnb.archive import intake
from cirrnb.archive.cohort_rows import remove_patient
from cirrnb.archive.inbox import read_inbox
from cirrnb.archive.intake import IMPORTED, KNOWN, RECORDS, REFUSED, Intake, take_in
from cirrnb.data.dicom.importing import import_dicom
from cirrnb.data.errors import InputError

GOOD = "1.2.99.1"
"""StudyInstanceUID of the study with which nothing is wrong."""
BAD = "1.2.99.2"


def write_good(folder: Path, study: str = GOOD, **tags: Any) -> list[Path]:
    """A study with one T1W and one T2W series."""
    person = {"PatientID": f"PID-{study}", "study": study}
    first = write_series(folder / "t1", T1, number=1, **person, **tags)
    return [*first, *write_series(folder / "t2", T2, number=2, **person, **tags)]


def taken(folder: Path, cohort: Path, **options: Any) -> dict[str, Intake]:
    """What became of each study, by name."""
    return {one.name: one for one in take_in(read_inbox(folder), cohort, **options)}


def of(outcomes: dict[str, Intake], study: str) -> Intake:
    return outcomes[faults.name_of(study)]


def _ct(folder: Path) -> None:
    write_series(folder, T1, study=BAD, Modality="CT")


def _five_candidates(folder: Path) -> None:
    for number in range(1, 6):
        write_series(folder / str(number), {**T1, "SeriesDescription": "ax t1 vibe"}, study=BAD, number=number)


def _two_patients(folder: Path) -> None:
    write_series(folder / "a", T1, study=BAD, number=1, PatientID="first")
    write_series(folder / "b", T2, study=BAD, number=2, PatientID="second")


def _half_file(folder: Path) -> None:
    last = write_good(folder, BAD)[-1]
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])


def _half_header(folder: Path) -> None:
    last = write_good(folder, BAD)[-1]
    last.write_bytes(last.read_bytes()[:300])


def _missing_slice(folder: Path) -> None:
    write_series(folder / "t1", T1, study=BAD, number=1, leave_out=(4,))
    write_series(folder / "t2", T2, study=BAD, number=2)


def _burned_in(folder: Path) -> None:
    write_good(folder, BAD, BurnedInAnnotation="YES")


def _no_uid(folder: Path) -> None:
    for path in write_good(folder, BAD):
        data = dcmread(path)
        del data.StudyInstanceUID
        data.save_as(path)


def _same_picture_uids(folder: Path) -> None:
    for path in write_good(folder, BAD):
        data = dcmread(path)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
        data.save_as(path)


def _not_unpacked(folder: Path) -> None:
    write_series(folder, T1, study=BAD, packed=JPEG_2000)


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (_ct, faults.NO_LIVER_MR),
    (_five_candidates, faults.AMBIGUOUS),
    (_two_patients, faults.TWO_PATIENTS),
    (_half_file, faults.INCOMPLETE),
    (_half_header, faults.INCOMPLETE),
    (_missing_slice, faults.INCOMPLETE),
    (_burned_in, faults.BURNED_IN),
    (_same_picture_uids, faults.COLLIDING),
    (_not_unpacked, faults.UNCONVERTED),
]


@pytest.mark.parametrize(("write", "code"), BROKEN, ids=[write.__name__.strip("_") for write, _ in BROKEN])
def test_a_broken_study_is_refused_by_name_and_costs_the_others_nothing(
    write: Callable[[Path], None], code: str, tmp_path: Path
) -> None:
    write_good(tmp_path / "inbox/good")
    write(tmp_path / "inbox/bad")
    outcomes = taken(tmp_path / "inbox", tmp_path / "cohort")
    good, bad = of(outcomes, GOOD), of(outcomes, BAD)
    assert (good.state, good.fault) == (IMPORTED, None)
    assert bad.state == REFUSED and bad.fault is not None
    assert bad.fault.code == code and len(bad.fault.text) > 10
    assert code in faults.FAULTS
    table = pd.read_csv(tmp_path / "cohort/scans.csv")
    assert set(table["patient"]) == {good.name} and set(table["sequence"]) == {"T1W", "T2W"}
    assert {path.name for path in (tmp_path / "cohort").iterdir() if path.is_dir()} == {RECORDS, good.name}


def test_a_study_without_a_uid_is_refused(tmp_path: Path) -> None:
    _no_uid(tmp_path / "inbox")
    (outcome,) = take_in(read_inbox(tmp_path / "inbox"), tmp_path / "cohort")
    assert outcome.fault is not None and outcome.fault.code == faults.NO_UID


def test_uids_that_two_studies_share_refuse_both(tmp_path: Path) -> None:
    write_good(tmp_path / "inbox/good")
    for study in (BAD, "1.2.99.3"):
        for path in write_series(tmp_path / "inbox" / study, T1, study=study, PatientID=study):
            data = dcmread(path)
            data.SeriesInstanceUID = "1.2.3.4.5"
            data.save_as(path)
    outcomes = taken(tmp_path / "inbox", tmp_path / "cohort")
    assert of(outcomes, GOOD).state == IMPORTED
    for study in (BAD, "1.2.99.3"):
        fault = of(outcomes, study).fault
        assert fault is not None and fault.code == faults.COLLIDING


@pytest.mark.parametrize("by_hand", [False, True])
def test_uids_of_a_study_of_an_earlier_night_refuse_the_new_one(by_hand: bool, tmp_path: Path) -> None:
    """The first has left the inbox: the second would get the answer of another patient."""
    first = write_good(tmp_path / "inbox/good")
    if by_hand:
        import_dicom(tmp_path / "inbox", tmp_path / "cohort", name="case-1")
    assert of(taken(tmp_path / "inbox", tmp_path / "cohort"), GOOD).fault is None
    for path in first:
        data = dcmread(path)
        data.StudyInstanceUID, data.PatientID = BAD, "another"
        data.save_as(path)
    outcome = of(taken(tmp_path / "inbox", tmp_path / "cohort"), BAD)
    assert outcome.state == REFUSED and outcome.fault is not None and outcome.fault.code == faults.COLLIDING
    assert set(pd.read_csv(tmp_path / "cohort/scans.csv")["patient"]) == {"case-1" if by_hand else faults.name_of(GOOD)}


def test_one_sequence_alone_is_imported(tmp_path: Path) -> None:
    write_series(tmp_path / "inbox", T2, study=GOOD)
    outcome = of(taken(tmp_path / "inbox", tmp_path / "cohort"), GOOD)
    assert outcome.state == IMPORTED and set(outcome.series) == set(outcome.reasons) == {"T2W"}


def test_the_reason_for_each_series_is_kept(tmp_path: Path) -> None:
    write_good(tmp_path / "inbox")
    outcome = of(taken(tmp_path / "inbox", tmp_path / "cohort"), GOOD)
    assert "TR 4.2 ms" in outcome.reasons["T1W"] and "TE 92 ms" in outcome.reasons["T2W"]
    row = intake.as_row(outcome)
    assert row["T1W_chosen_because"] == outcome.reasons["T1W"] and row["subject"] == f"imported/{outcome.name}"


def test_a_study_that_lies_there_twice_is_imported_once(tmp_path: Path) -> None:
    write_good(tmp_path / "inbox/once")
    shutil.copytree(tmp_path / "inbox/once", tmp_path / "inbox/again")
    outcomes = taken(tmp_path / "inbox", tmp_path / "cohort")
    assert [one.state for one in outcomes.values()] == [IMPORTED]
    assert len(pd.read_csv(tmp_path / "cohort/scans.csv")) == 2


def test_burned_in_text_is_taken_when_asked_for(tmp_path: Path) -> None:
    _burned_in(tmp_path / "inbox")
    assert of(taken(tmp_path / "inbox", tmp_path / "cohort"), BAD).state == REFUSED
    assert of(taken(tmp_path / "inbox", tmp_path / "cohort", burned_in=True), BAD).state == IMPORTED
    assert of(taken(tmp_path / "inbox", tmp_path / "cohort"), BAD).state == REFUSED
    assert not (tmp_path / "cohort/scans.csv").exists()


def test_only_new_studies_are_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_good(tmp_path / "inbox/first")
    _five_candidates(tmp_path / "inbox/second")
    taken(tmp_path / "inbox", tmp_path / "cohort")
    write_good(tmp_path / "inbox/third", "1.2.99.3")
    names: list[str] = []

    def counted(listing: Any, out: Path, **options: Any) -> Any:
        names.append(options["name"])
        return import_dicom(listing, out, **options)

    monkeypatch.setattr(intake, "import_dicom", counted)
    outcomes = taken(tmp_path / "inbox", tmp_path / "cohort")
    assert names == [faults.name_of("1.2.99.3")]
    assert of(outcomes, GOOD).state == KNOWN and of(outcomes, BAD).state == REFUSED


def test_a_study_to_which_a_series_came_is_imported_anew(tmp_path: Path) -> None:
    write_series(tmp_path / "inbox/t1", T1, study=GOOD, number=1)
    assert set(of(taken(tmp_path / "inbox", tmp_path / "cohort"), GOOD).series) == {"T1W"}
    write_series(tmp_path / "inbox/t2", T2, study=GOOD, number=2)
    outcome = of(taken(tmp_path / "inbox", tmp_path / "cohort"), GOOD)
    assert outcome.state == IMPORTED and set(outcome.series) == {"T1W", "T2W"}
    table = pd.read_csv(tmp_path / "cohort/scans.csv")
    assert sorted(table["sequence"]) == ["T1W", "T2W"]
    assert all((tmp_path / "cohort" / image).is_file() for image in table["image"])


def test_a_half_transferred_study_is_imported_when_the_rest_came(tmp_path: Path) -> None:
    last = write_good(tmp_path / "inbox")[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    assert of(taken(tmp_path / "inbox", tmp_path / "cohort"), GOOD).state == REFUSED
    last.write_bytes(whole)
    assert of(taken(tmp_path / "inbox", tmp_path / "cohort"), GOOD).state == IMPORTED


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    write_good(tmp_path / "inbox")
    name, cohort = faults.name_of(GOOD), tmp_path / "cohort"
    taken(tmp_path / "inbox", cohort)
    whole = sorted(str(path.relative_to(cohort)) for path in cohort.rglob("*") if path.is_file())
    (cohort / RECORDS / f"{name}.json").unlink()  # killed between table and record
    assert of(taken(tmp_path / "inbox", cohort), GOOD).state == KNOWN
    (cohort / RECORDS / f"{name}.json").unlink()
    (cohort / "scans.csv").unlink()  # killed between conversion and table
    assert of(taken(tmp_path / "inbox", cohort), GOOD).state == IMPORTED
    shutil.rmtree(cohort / name)  # somebody removed the scans
    assert of(taken(tmp_path / "inbox", cohort), GOOD).state == IMPORTED
    assert sorted(str(path.relative_to(cohort)) for path in cohort.rglob("*") if path.is_file()) == whole


def test_a_full_disk_refuses_for_this_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_good(tmp_path / "inbox/a")
    write_good(tmp_path / "inbox/b", BAD)

    def full(listing: Any, out: Path, **options: Any) -> Any:
        if options["name"] == faults.name_of(BAD):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return import_dicom(listing, out, **options)

    with monkeypatch.context() as patched:
        patched.setattr(intake, "import_dicom", full)
        outcomes = taken(tmp_path / "inbox", tmp_path / "cohort")
    fault = of(outcomes, BAD).fault
    assert fault is not None and fault.code == faults.DISK and of(outcomes, GOOD).state == IMPORTED
    assert of(taken(tmp_path / "inbox", tmp_path / "cohort"), BAD).state == IMPORTED


def test_a_study_that_was_imported_by_hand_counts(tmp_path: Path) -> None:
    _five_candidates(tmp_path / "inbox")
    assert of(taken(tmp_path / "inbox", tmp_path / "cohort"), BAD).state == REFUSED
    import_dicom(tmp_path / "inbox", tmp_path / "cohort", t1w=3, name="chosen")
    (record,) = (tmp_path / "cohort" / RECORDS).glob("*.json")
    record.unlink()
    outcome = of(taken(tmp_path / "inbox", tmp_path / "cohort"), BAD)
    assert (outcome.state, outcome.patient, set(outcome.series)) == (KNOWN, "chosen", {"T1W"})


def test_a_forgotten_study_is_not_imported_again(tmp_path: Path) -> None:
    write_good(tmp_path / "inbox")
    name, cohort = faults.name_of(GOOD), tmp_path / "cohort"
    taken(tmp_path / "inbox", cohort)
    assert intake.forget_study(cohort, name) and not intake.forget_study(cohort, "nobody")
    remove_patient(cohort, name)
    write_series(tmp_path / "inbox/more", T2, study=GOOD, number=3, PatientID=f"PID-{GOOD}")
    outcome = of(taken(tmp_path / "inbox", cohort), GOOD)
    assert outcome.state == intake.FORGOTTEN and not (cohort / "scans.csv").exists()
    (record,) = (cohort / RECORDS).glob("*.json")
    stored = json.loads(record.read_text())
    assert (stored["key"], stored["series"], stored["reasons"], stored["fault"]) == ("", {}, {}, None)


def test_names_that_are_paths_or_scripts_do_no_harm(tmp_path: Path) -> None:
    names = ["../../../etc/cron.d/x", "<script>alert(1)</script>", "$(touch owned)", "'; DROP TABLE scans; --"]
    for place, name in enumerate(names):
        write_good(tmp_path / f"inbox/{place}", f"1.2.99.{place + 10}", PatientName=name, SeriesDescription=name)
    outcomes = taken(tmp_path / "inbox", tmp_path / "cohort")
    assert len(outcomes) == len(names) and {one.state for one in outcomes.values()} == {IMPORTED}
    assert not any(name in path.read_text() for path in (tmp_path / "cohort").rglob("*.*v") for name in names)
    assert {path.name for path in tmp_path.iterdir()} == {"inbox", "cohort"}
    assert len(cirrnb.read_cohort(tmp_path / "cohort").patients) == len(names)


def test_stray_damaged_files_are_counted_and_refuse_nobody(tmp_path: Path) -> None:
    first = write_good(tmp_path / "inbox/flat")
    for path in write_good(tmp_path / "other", BAD):
        shutil.copy(path, tmp_path / "inbox/flat" / f"other-{path.parent.name}-{path.name}")
    for path in first:
        shutil.move(path, tmp_path / "inbox/flat" / f"{path.parent.name}-{path.name}")
    (tmp_path / "inbox/flat/cut").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0")
    inbox = read_inbox(tmp_path / "inbox")
    assert inbox.stray == 1
    assert {one.state for one in take_in(inbox, tmp_path / "cohort")} == {IMPORTED}


def test_an_empty_inbox_has_no_studies_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox/readme.txt").write_text("nothing yet")
    assert read_inbox(tmp_path / "inbox").studies == ()
    with pytest.raises(InputError, match="no such folder"):
        read_inbox(tmp_path / "nowhere")


def test_records_hold_nothing_but_hashes_and_reasons(tmp_path: Path) -> None:
    write_good(tmp_path / "inbox")
    taken(tmp_path / "inbox", tmp_path / "cohort")
    (record,) = (tmp_path / "cohort" / RECORDS).glob("*.json")
    stored = json.loads(record.read_text())
    assert set(stored) == {"key", "name", "patient", "state", "fault", "series", "reasons"}
    assert GOOD not in record.read_text() and "PID" not in record.read_text()


def test_two_thousand_studies_are_looked_at(tmp_path: Path) -> None:
    (template,) = write_series(tmp_path / "one", T1, leave_out=range(1, 11), Modality="CT")
    data = dcmread(template)
    (tmp_path / "inbox").mkdir()
    for number in range(2000):
        data.StudyInstanceUID = f"1.2.99.{number}"
        data.SeriesInstanceUID = f"1.2.99.{number}.1"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.99.{number}.1.1"
        data.save_as(tmp_path / f"inbox/{number}")
    write_good(tmp_path / "inbox/good", "1.2.98")
    outcomes = taken(tmp_path / "inbox", tmp_path / "cohort")
    assert len(outcomes) == 2001 and of(outcomes, "1.2.98").state == IMPORTED
    assert sum(one.state == REFUSED for one in outcomes.values()) == 2000
