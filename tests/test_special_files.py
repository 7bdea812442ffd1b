"""Pipes and devices in the place of files, and control characters in names: nothing waits or reaches a terminal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cirrnb
from cirrnb.data.auditing.audit import audit
from cirrnb.data.dicom.importing import list_series
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.model.trained_model import load_model

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """Opening a pipe waits for a writer without end."""

    def end(number: int, frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def table(folder: Path, image: str, mask: str = "") -> Path:
    (folder / "scans.csv").write_text(f"patient,sequence,image,mask\np,T1W,{image},{mask}\n", encoding="utf-8")
    return folder / "scans.csv"


def model_of_pipes(folder: Path) -> Path:
    os.mkfifo(folder / "config.json")
    os.mkfifo(folder / "model.safetensors")
    return folder


CASES: dict[str, Callable[[Path], object]] = {
    "a table": lambda folder: cirrnb.read_cohort(folder / "pipe.csv"),
    "a scan": lambda folder: cirrnb.read_cohort(folder / "pipe.nii.gz"),
    "an image of a table": lambda folder: cirrnb.read_cohort(table(folder, "pipe.nii.gz")),
    "a mask of a table": lambda folder: cirrnb.read_cohort(table(folder, "scans/p_T1W.nii.gz", "pipe.nii.gz")),
    "a device as image": lambda folder: cirrnb.read_cohort(table(folder, os.devnull)),
    "DICOM": lambda folder: list_series(folder),
    "a model": lambda folder: load_model(model_of_pipes(folder)),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_pipe_or_device_is_refused_and_not_opened(kind: str, tmp_path: Path) -> None:
    for name in ("pipe", "pipe.csv", "pipe.nii.gz"):
        os.mkfifo(tmp_path / name)
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "p_T1W.nii.gz").touch()
    with pytest.raises((InputError, InputErrors)):
        CASES[kind](tmp_path)


def test_a_pipe_beside_scans_is_named_and_the_scans_are_read(tmp_path: Path) -> None:
    (tmp_path / "p_T1W.nii.gz").touch()
    for name in ("q_T1W.nii.gz", "pipe", "pipe.csv"):
        os.mkfifo(tmp_path / name)
    cohort = cirrnb.read_cohort(tmp_path)
    assert [one.patient for one in cohort.scans] == ["p"]
    assert any("q_T1W.nii.gz" in note and "links" not in note for note in cohort.notes)


TITLE = "\x1b]0;title\x07\x9b31m\u202e\n"


def test_names_reach_a_terminal_without_control_characters(tmp_path: Path) -> None:
    folder = tmp_path / f"cohort{TITLE}"
    folder.mkdir()
    (folder / "p_T1W.nii.gz").touch()
    (folder / f"{TITLE}_T1W.nii.gz").write_bytes(b"")
    (folder / f"gone{TITLE}_T2W.nii.gz").symlink_to("nowhere")
    told = [audit(folder, workers=1, progress=False).report()]
    for path in (folder, folder / f"{TITLE}_T1W.nii.gz", tmp_path / TITLE):
        with pytest.raises(InputErrors) as raised:
            cirrnb.read_cohort(path)
        told.append(str(raised.value))
    for text in told:
        assert all(letter.isprintable() or letter == "\n" for letter in text), ascii(text)
