"""Standard streams that are closed, end early, or cannot show a letter: the command does its work all the same."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cirrnb.data.workers import python_command
from cirrnb.run.streams import Echo

PROGRAM = python_command("-c", "from cirrnb.cli import main; main()")
PATIENT = "né\U0001f600"


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    values = np.arange(7 * 8 * 9, dtype=np.int16).reshape(7, 8, 9)
    nib.save(nib.Nifti1Image(values, np.diag([4.0, 4, 4, 1])), folder / f"{PATIENT}_T1W.nii.gz")
    return folder


CASES = {
    "input closed": ("<&-", {}),
    "output closed": (">&-", {}),
    "errors closed": ("2>&-", {}),
    "all closed": ("<&- >&- 2>&-", {}),
    "read to its first line": ("| head -1", {}),
    "another alphabet": ("", {"PYTHONIOENCODING": "latin-1"}),
    "ASCII alone": ("", {"PYTHONIOENCODING": "ascii"}),
}


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("kind", CASES)
def test_a_command_does_its_work(kind: str, scans: Path, tmp_path: Path) -> None:
    redirected, environment = CASES[kind]
    command = f'set -o pipefail; "$@" {redirected}'
    arguments = ["audit", str(scans), "--workers", "1"]
    done = subprocess.run(
        ["bash", "-c", command, "bash", *PROGRAM, *arguments],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    if environment:
        assert any(shown in done.stdout for shown in (b"n\\xe9", b"n\xe9", "n\xe9".encode()))


def test_an_echo_survives_its_reader() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8") as stream:
        echo = Echo(stream)
        assert echo.write("heard\n") == 6 and os.read(read, 99) == b"heard\n"
        os.close(read)
        assert [echo.write("unheard\n") for _ in range(3)] == [8, 8, 8]
