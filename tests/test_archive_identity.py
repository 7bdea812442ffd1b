"""Names planted in every place where a DICOM file can hold one are found in no output but those that go back."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from dicom_patients import simulated, write_study
from pydicom import dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from typer.testing import CliRunner

from cirrnb.archive.inbox import name_of
from cirrnb.cli import app
from cirrnb.data.errors import InputError
from cirrnb.data.locks import scratch_folder
from cirrnb.reports.formats import patient_schema
from cirrnb.reports.tables import read_summary

PLANTED = "ZQXVERIKA"
"""Stands for a name: no other text holds it."""
BORN, STUDIED, STUDY = "19371113", "20190917", "1.2.826.0.77.4711.1"
SECRETS = [word.encode() for word in (PLANTED, PLANTED.lower(), PLANTED.title(), BORN, STUDIED, STUDY)]

_TEXT = {"PN": f"{PLANTED}^E", "LO": PLANTED, "SH": PLANTED, "ST": PLANTED, "LT": PLANTED, "UT": PLANTED}
_TEXT |= {"UC": PLANTED, "UR": f"http://{PLANTED}", "AE": PLANTED}
_NEEDED = ("SeriesDescription", "SpecificCharacterSet", "Manufacturer")
"""Texts that decide what a series is: the name stands beside their words."""


def plant(path: Path, target: Path) -> None:
    """The file with the name in its standard texts, sequences, private elements, overlay, head and tail."""
    data = dcmread(path)
    for tag, (kind, _, _, _, keyword) in DicomDictionary.items():
        if kind in _TEXT and keyword not in _NEEDED and tag >> 16 not in (0x0000, 0x0002, 0x0004, 0xFFFE):
            data.add(DataElement(Tag(tag), kind, _TEXT[kind]))
    data.SeriesDescription = f"{data.SeriesDescription} {PLANTED}"
    data.Manufacturer = f"Siemens {PLANTED}"
    data.PatientBirthDate, data.BodyPartExamined = BORN, PLANTED
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "InstanceCreationDate"):
        setattr(data, keyword, STUDIED)
    inner = Dataset()
    inner.PatientName, inner.RequestedProcedureDescription = f"{PLANTED}^E", PLANTED
    inner.OtherPatientNames = [f"{PLANTED}^A", f"{PLANTED}^B"]
    for keyword in ("RequestAttributesSequence", "OtherPatientIDsSequence", "ReferencedPatientSequence"):
        setattr(data, keyword, Items([inner]))
    for group in (0x0009, 0x0019, 0x0051):
        block = data.private_block(group, f"{PLANTED} CREATOR", create=True)
        block.add_new(0x10, "LO", PLANTED)
        block.add_new(0x11, "UN", PLANTED.encode())
        block.add_new(0x12, "SQ", Items([inner]))
    data.add(DataElement(Tag(0x6000, 0x3000), "OW", f"{PLANTED}E".encode()))
    data.add(DataElement(Tag(0xFFFC, 0xFFFC), "OB", f"{PLANTED}E".encode()))
    data.file_meta.SourceApplicationEntityTitle = PLANTED
    data.file_meta.PrivateInformationCreatorUID, data.file_meta.PrivateInformation = "1.2.3", f"{PLANTED}E".encode()
    data.preamble = f"{PLANTED} ".encode().ljust(128, b"\0")
    target.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(target, enforce_file_format=True)


def contents(path: Path) -> Iterator[bytes]:
    """What a file holds, packed parts unpacked: gzip, and the streams of a PDF."""
    raw = path.read_bytes()
    yield raw
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    if raw[:5] == b"%PDF-":
        for stream in re.findall(rb"stream\r?\n(.*?)endstream", raw, re.DOTALL):
            try:
                yield zlib.decompressobj().decompress(stream)
            except zlib.error:
                continue
        if program := shutil.which("pdftotext"):
            yield subprocess.run([program, path, "-"], check=True, capture_output=True).stdout


def named(path: Path) -> bool:
    """Whether a file's name or content holds a secret, as it is or in two bytes a letter."""
    words = [*SECRETS, *(word.decode().encode("utf-16-le") for word in SECRETS)]
    if any(word in str(path.name).encode() for word in SECRETS):
        return True
    return any(word in content for content in contents(path) for word in words)


class Watch(threading.Thread):
    """Looks again and again at the files in a folder; links are not followed."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.folder, self.seen, self.looked, self.done = folder, set[str](), 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            for path in [Path(place, name) for place, _, names in os.walk(self.folder) for name in names]:
                try:
                    if not path.is_symlink() and path.is_file():
                        self.looked += 1
                        if any(word in path.read_bytes() for word in SECRETS):
                            self.seen.add(path.name)
                except OSError:
                    continue  # gone meanwhile


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files with a short path: Chromium puts a socket there."""
    with tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_the_command_answers_and_names_are_found_in_nothing_but_what_goes_back(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole chain with the true worker, once, as a user would run it."""
    write_study(tmp_path / "plain", simulated(tmp_path / "simulated", 4), 0, study=STUDY)
    for path in (tmp_path / "plain").rglob("IM*"):
        plant(path, tmp_path / "inbox" / PLANTED / path.parent.name / f"{PLANTED}_{path.name}")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    printed = [] if shutil.which("chromium") is None else ["--pdf"]
    arguments = ["report", "--from-dicom", str(tmp_path / "inbox"), "--dicom-out", "back", "--out", "reports/night"]
    watch = Watch(temporary)
    watch.start()
    try:
        done = CliRunner().invoke(app, [*arguments, *printed, "--jobs", "1", "--json"])
    finally:
        watch.done.set()
        watch.join()
    assert done.exit_code == 0, done.output
    back = sorted((work / "back").rglob("*.dcm"))
    assert len(back) == 3 + len(printed) and all(named(path) for path in back)
    assert all(PLANTED in str(dcmread(path, stop_before_pixels=True).PatientName) for path in back)
    outputs = [path for path in work.rglob("*") if path.is_file() and path not in back]
    assert len(outputs) > 15 and {".html", ".json", ".csv", ".gz", ".npy"} <= {path.suffix for path in outputs}
    assert not [str(path.relative_to(work)) for path in outputs if named(path)]
    assert not [word for word in SECRETS if word in done.output.encode()]
    assert watch.looked and not watch.seen
    assert not [path for path in temporary.rglob("*") if path.is_file() and named(path)]
    _answers(work / "reports/night")
    _progress(done.output)
    _forgotten(work)


def _forgotten(work: Path) -> None:
    """After `cirrnb forget` nothing holds the study, but for the record that keeps it from being imported again."""
    name = name_of(STUDY)
    done = CliRunner().invoke(app, ["forget", name, "--out", "reports/night", "--dicom-out", "back"])
    assert done.exit_code == 0, done.output
    assert "Not reached: the DICOM files" in done.output and f"Removed: cohorts/night/{name}" in done.output
    left = [
        str(path.relative_to(work))
        for path in work.rglob("*")
        if name in path.name or (path.is_file() and any(name.encode() in content for content in contents(path)))
    ]
    assert left == [f"cohorts/night/.studies/{name}.json"]
    assert not [*work.glob("explanations/*.safetensors"), *work.glob("prepared/night/*/prepared.json")]
    assert read_summary(work / "reports/night").empty and (work / "reports/night/index.html").is_file()


def _answers(report: Path) -> None:
    """What the page says, as the JSON has it."""
    stored = json.loads((report / f"patients/imported-{name_of(STUDY)}.json").read_text())
    jsonschema.validate(stored, patient_schema())
    assert {scan["sequence"]: scan["outlined"] for scan in stored["scans"]} == {"T1W": True, "T2W": True}
    assert all("TR" in scan["chosen_because"] for scan in stored["scans"])
    assert stored["prediction"]["status"] in ("answered", "doubtful") and stored["measurements"]["T1W"]


def _progress(output: str) -> None:
    events = [json.loads(line)["event"] for line in output.splitlines() if line.startswith("{")]
    assert events[:2] == ["inbox", "study"] and "results" in events and "finished" in events


@pytest.mark.parametrize(
    "arguments",
    [
        ["report"],
        ["report", "cohort", "--dicom-out", "back"],
        ["report", "cohort", "--to-dicomweb", "http://127.0.0.1/x"],
        ["report", "cohort", "--from-dicom", "inbox", "--date", "2d"],
        ["report", "cohort", "--from-dicom", "inbox", "--from-dicomweb", "http://127.0.0.1/x"],
        ["report", "cohort", "--from-dicomweb", f"http://night:{PLANTED}@127.0.0.1/x"],
        ["report", "cohort", "--from-dicomweb", "http://127.0.0.1/x", "--date", "tomorrow"],
    ],
)
def test_the_command_says_what_is_missing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 or isinstance(done.exception, InputError)
    assert PLANTED not in f"{done.output}{done.exception}"
    assert not list(tmp_path.iterdir())


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    """Of the test itself: packed and plain."""
    text: dict[str, Any] = {"plain": PLANTED.encode(), "wide": PLANTED.encode("utf-16-le")}
    text |= {"packed": gzip.compress(b"a " + PLANTED.encode()), "page": b"%PDF-1 stream\n%bendstream"}
    text["page"] = b"%PDF-1 stream\n" + zlib.compress(PLANTED.encode()) + b"endstream"
    for name, content in text.items():
        (tmp_path / name).write_bytes(content)
        assert named(tmp_path / name), name
    (tmp_path / "other").write_bytes(b"nobody")
    assert not named(tmp_path / "other")
    with scratch_folder(str(tmp_path)) as folder:
        assert folder.is_dir()
