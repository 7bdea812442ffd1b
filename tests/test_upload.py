"""Own scans dropped into the explorer: received whole or refused, told apart by their reader, opened as a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from test_explanation import untrained
from toy_patients import LARGE, toy_cohort

import cirrnb
from cirrnb.explorer.upload import LARGEST, ReceivedFile, Receiver, ScanUpload

CHUNK = 1000


class Browser:
    """Plays the browser: sends a file in chunks as upload.js does, and keeps what the kernel answered."""

    def __init__(self, receiver: Receiver):
        self.receiver, self.answers = receiver, []  # type: Receiver, list[dict[str, Any]]
        receiver.send = lambda content, buffers=None: self.answers.append(content)

    def drop(self, name: str, data: bytes, size: int | None = None) -> str:
        self.send({"kind": "begin", "name": name, "size": len(data) if size is None else size})
        while self.answers[-1]["kind"] == "more":
            start = self.answers[-1]["from"]
            self.send({"kind": "chunk", "from": start}, [memoryview(data[start : start + CHUNK])])
        return self.answers[-1]["kind"]

    def send(self, content: dict[str, Any], buffers: list[Any] | None = None) -> None:
        self.receiver._handle_custom_msg(content, buffers or [])


@pytest.fixture
def explorer(tmp_path: Path) -> cirrnb.SliceExplorer:
    cohort = toy_cohort(tmp_path / "toy", {"train": 1}, settings=LARGE)
    return cirrnb.SliceExplorer(cohort, untrained(), method="grad_cam", store=tmp_path / "kept", simulated=True)


def scan(path: Path) -> bytes:
    """A body of 180 x 150 mm with a brighter liver."""
    x, y, _ = np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 50), np.arange(9), indexing="ij")
    body = np.where(x**2 + y**2 < 0.8, 300, 5) + np.where((x + 0.4) ** 2 + y**2 < 0.1, 300, 0)
    values = (body + np.random.default_rng(1).normal(0, 8, body.shape)).clip(0).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([-4.0, -4.0, 6.0, 1.0])), path)
    return path.read_bytes()


def test_dropped_scans_are_opened_as_one_patient(explorer: cirrnb.SliceExplorer, tmp_path: Path) -> None:
    upload, data = explorer.upload, scan(tmp_path / "a.nii.gz")
    browser = Browser(upload.receiver)
    assert browser.drop("Muster_T1W.nii.gz", data) == "done" and browser.drop("unnamed.nii.gz", data + b"") == "done"
    assert [kind.value for kind in upload._kinds] == ["T1W", "what is it?"]
    upload.opener.click()
    assert "Say for each file what it is" in explorer.message.value
    upload._kinds[1].value = "T2W"
    upload.opener.click()
    assert explorer.wait(60), explorer.message.value
    assert explorer.case.value == "dropped/case-1" and explorer._bag.subject == "dropped/case-1", explorer.message.value
    assert not explorer._simulated(explorer._bag) and len(explorer.case.options) == 2
    assert explorer.gaps.layout.display == "none", "that numbers have gaps is said of simulated patients"


def test_maps_of_dropped_scans_go_with_their_files(explorer: cirrnb.SliceExplorer, tmp_path: Path) -> None:
    upload = explorer.upload
    Browser(upload.receiver).drop("Muster_T1W.nii.gz", scan(tmp_path / "a.nii.gz"))
    upload.opener.click()
    assert explorer.wait(60) and explorer.gaps.layout.display == "none"
    explorer.reveal.value = True
    assert explorer.wait(60) and explorer.explanation is not None, explorer.message.value
    assert not list(tmp_path.rglob("kept/*.safetensors"))
    assert len(list(upload.receiver.folder.rglob("*.safetensors"))) == 1
    explorer.case.value = explorer.case.options[0]
    explorer.reveal.value = True
    assert explorer.wait(60) and len(list(tmp_path.rglob("kept/*.safetensors"))) == 1
    assert explorer.gaps.layout.display == ""


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("photo.jpg", None, "no NIfTI file by its name"),
        ("scan_T1W.nii.gz", LARGEST + 1, "at most 200 MB"),
        ("scan_T1W.nii.gz", 0, "0 MB"),
    ],
)
def test_what_cannot_be_taken_is_refused_at_once(
    name: str, size: int | None, told: str, explorer: cirrnb.SliceExplorer
) -> None:
    browser = Browser(explorer.upload.receiver)
    assert browser.drop(name, b"x" * 10, size) == "refused" and told in explorer.message.value
    assert not list(explorer.upload.receiver.folder.iterdir())


def test_a_browser_that_sends_otherwise_than_told_is_stopped(tmp_path: Path) -> None:
    told: list[str] = []
    receiver = Receiver(lambda file: pytest.fail("nothing whole came"), told.append)
    browser = Browser(receiver)
    for start, data in ((5, b"x"), (0, b"x" * 11), (0, b"")):
        browser.send({"kind": "begin", "name": "a_T1W.nii", "size": 10})
        browser.send({"kind": "chunk", "from": start}, [data])
        assert browser.answers[-1]["kind"] == "refused"
    assert len(told) == 3 and not list(receiver.folder.iterdir())


def test_a_name_never_becomes_a_path(tmp_path: Path) -> None:
    came: list[ReceivedFile] = []
    browser = Browser(Receiver(came.append, pytest.fail))
    browser.drop("../../../etc/x_T1W.nii", b"x" * 10)
    assert came[0].path.parent == browser.receiver.folder and came[0].name == "x_T1W.nii"


def test_a_picture_renamed_is_told_by_the_readers_own_name(explorer: cirrnb.SliceExplorer, tmp_path: Path) -> None:
    browser = Browser(explorer.upload.receiver)
    browser.drop("holiday_T1W.nii.gz", b"\xff\xd8\xff\xe0" + bytes(3000))
    explorer.upload.opener.click()
    explorer.wait(60)
    assert "holiday_T1W.nii.gz: found a JPEG picture" in explorer.message.value
    browser.drop("A_T1W.nii.gz", scan(tmp_path / "a.nii.gz"))
    assert "JPEG" not in explorer.message.value
    explorer.upload.opener.click()
    assert explorer.wait(60) and explorer.case.value == "dropped/case-1"


def test_a_file_name_is_shown_as_text(explorer: cirrnb.SliceExplorer) -> None:
    upload: ScanUpload = explorer.upload
    Browser(upload.receiver).drop("<b>x</b>_T2W.nii", b"x" * 10)
    assert type(upload.list.children[0].children[1]).__name__ == "Label"  # a Label escapes; HTML would not
