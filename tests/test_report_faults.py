"""Reports that are broken at random moments: after one more run everything is as if nothing had happened.

A worker stands in for the true one that reads, writes and tells as it does and needs no network, so that ten moments of
seven faults take minutes and not hours. The run is the command itself: it, its kernel, and the workers are killed.

pytest -m slow tests/test_report_faults.py -s
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from report_runs import STAND_IN, contents, finish, kill, stand_in, start, tiny_cohort

from cirrnb.model.trained_model import SHIPPED, model_folder
from cirrnb.reports.report import NONE_MADE, SOME_FAILED
from cirrnb.reports.tables import read_failures, read_summary

pytestmark = pytest.mark.slow
MOMENTS = int(os.environ.get("CIRRNB_FAULT_MOMENTS", "10"))
NAP = "0.4"
WRONG_INPUT = 2


@dataclass
class Place:
    """A cohort, the notebook, and how many seconds an undisturbed run takes."""

    home: Path
    cohort: Path
    notebook: Path
    model: Path
    seconds: float = 0.0

    def run(self, out: Path) -> int:
        """One more run, to its end."""
        return finish(self.start(out))[0]

    def start(self, out: Path) -> subprocess.Popen[str]:
        return start(self.cohort, out, self.notebook, model=self.model, limit=120)

    def caught(self, out: Path, moment: float, of: Place | None = None) -> subprocess.Popen[str]:
        """A run that is at work still, begun `moment` of an undisturbed one ago."""
        while True:
            run = (of or self).start(out)
            time.sleep(moment * self.seconds)
            if run.poll() is None:
                return run
            finish(run)  # the machine is less busy than it was when a whole run was measured
            self.seconds *= 0.7
            shutil.rmtree(out)


@pytest.fixture(scope="module", autouse=True)
def environment() -> Generator[None]:
    """The worker asks the model and the prepared scans, and takes its time."""
    variables = {"STAND_IN_NAP": NAP, "STAND_IN_ASKS": "yes"}
    os.environ.update(variables)
    yield
    for name in variables:
        os.environ.pop(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, environment: None) -> Place:
    home = tmp_path_factory.mktemp("faults")
    shutil.copytree(model_folder(SHIPPED), home / "model")
    made = Place(home, tiny_cohort(home), stand_in(home), home / "model")
    began = time.monotonic()
    run = made.start(home / "whole")
    assert finish(run)[0] == 0
    made.seconds = time.monotonic() - began
    return made


@pytest.fixture(scope="module")
def whole(place: Place) -> dict[str, Any]:
    return contents(place.home / "whole")


def moments(name: str) -> list[float]:
    """When the fault comes, as shares of an undisturbed run, the same every time this is run."""
    draw = random.Random(name)
    return [draw.uniform(0.15, 0.95) for _ in range(MOMENTS)]


def faults(name: str) -> Any:
    return pytest.mark.parametrize("moment", moments(name), ids=lambda moment: f"{moment:.2f}")


@pytest.fixture
def out(place: Place, tmp_path: Path) -> Path:
    shutil.copytree(place.home / "prepared", tmp_path / "prepared")
    return tmp_path / "report"


def workers(run: subprocess.Popen[str]) -> list[psutil.Process]:
    return [process for process in psutil.Process(run.pid).children(recursive=True) if STAND_IN in process.cmdline()]


def kernels(run: subprocess.Popen[str]) -> list[psutil.Process]:
    return [process for process in psutil.Process(run.pid).children() if "ipykernel_launcher" in process.cmdline()]


def print_outcome(out: Path, moment: float, output: str) -> None:
    last = output.strip().splitlines()[-1] if output.strip() else ""
    print(f"\nat {moment:.2f}: {output.splitlines()[0][:60] if output else ''} ... {last[:150]}", end="")


@faults("parent")
def test_the_run_itself_is_killed(place: Place, whole: dict[str, Any], out: Path, moment: float) -> None:
    run = place.caught(out, moment)
    below = psutil.Process(run.pid).children(recursive=True)
    kill(run.pid)
    _, output = finish(run)
    written = (out / "summary.csv").exists()
    print_outcome(out, moment, f"summary written: {written}, {output}")
    assert place.run(out) == 0
    assert contents(out) == whole
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in below), (
        "nobody is left behind"
    )


@pytest.mark.parametrize("victims", [workers, kernels], ids=["worker", "kernel"])
@faults("child")
def test_a_worker_or_a_kernel_is_killed(
    place: Place, whole: dict[str, Any], out: Path, moment: float, victims: Any
) -> None:
    run = place.start(out)
    time.sleep(moment * place.seconds / 2)
    struck = False
    while run.poll() is None and not struck:
        try:
            processes = victims(run)
            if processes:
                kill(random.Random(moment).choice(processes).pid)
                struck = True
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.05)
    code, output = finish(run)
    print_outcome(out, moment, output)
    assert struck and code == 0, output
    assert contents(out) == whole
    assert place.run(out) == 0 and contents(out) == whole


@faults("disk")
def test_the_disk_is_full_for_a_while(place: Place, whole: dict[str, Any], tmp_path: Path, moment: float) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("nobody but root can mount a small disk")
    try:
        shutil.copytree(place.home / "prepared", disk / "prepared")
        run = place.caught(disk / "report", moment)
        with (disk / "filler").open("wb") as filler:
            try:
                while True:
                    filler.write(bytes(1 << 16))
                    filler.flush()
            except OSError:
                pass
        code, output = finish(run)
        print_outcome(disk / "report", moment, f"exit code {code}, {output}")
        (disk / "filler").unlink()
        half = [path for path in (disk / "report").rglob("*.csv") if not path.read_text().endswith("\n")]
        assert half == [] and code in (0, 1, SOME_FAILED, NONE_MADE), output
        if code in (SOME_FAILED, NONE_MADE):
            assert set(read_failures(disk / "report")["kind"]) <= {"disk full", "error"}
        assert place.run(disk / "report") == 0
        assert contents(disk / "report") == whole
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


@faults("scan")
def test_a_scan_is_replaced_while_it_is_read(place: Place, out: Path, tmp_path: Path, moment: float) -> None:
    shutil.copytree(place.cohort, tmp_path / "cohort")
    changing = Place(place.home, tmp_path / "cohort", place.notebook, place.model)
    victim = sorted((tmp_path / "cohort" / "Cirrhosis_T1_3D").rglob("*_images/*.nii.gz"))[0]
    image = nib.load(victim)
    other = nib.Nifti1Image(np.asarray(image.dataobj)[:, ::-1].copy(), image.affine)
    nib.save(other, tmp_path / "other.nii.gz")
    run = place.caught(out, moment, changing)
    content = (tmp_path / "other.nii.gz").read_bytes()
    with victim.open("r+b") as file:  # in place and slowly, as a copy over a network does it
        for start_at in range(0, len(content), 4096):
            file.write(content[start_at : start_at + 4096])
            file.flush()
            time.sleep(0.02)
        file.truncate()
    code, output = finish(run)
    print_outcome(out, moment, f"exit code {code}, {output}")
    assert code in (0, SOME_FAILED)
    assert changing.run(out) == 0
    fresh = tmp_path / "fresh" / "report"
    fresh.parent.mkdir()
    assert changing.run(fresh) == 0
    assert contents(out) == contents(fresh)


@faults("model")
def test_the_folder_of_the_model_is_removed(
    place: Place, whole: dict[str, Any], out: Path, tmp_path: Path, moment: float
) -> None:
    shutil.copytree(place.model, tmp_path / "model")
    moving = Place(place.home, place.cohort, place.notebook, tmp_path / "model")
    run = place.caught(out, moment, moving)
    (tmp_path / "model").rename(tmp_path / "gone")
    code, output = finish(run)
    print_outcome(out, moment, f"exit code {code}, {output}")
    (tmp_path / "gone").rename(tmp_path / "model")
    assert code in (0, WRONG_INPUT, SOME_FAILED, NONE_MADE), output
    if (out / "summary.csv").exists():
        assert len(read_summary(out)) + len(read_failures(out)) == 3
    assert moving.run(out) == 0
    assert contents(out) == whole


@faults("two")
def test_two_runs_at_once(place: Place, whole: dict[str, Any], out: Path, moment: float) -> None:
    first = place.caught(out, moment / 2)
    second = place.start(out)
    ended = [finish(first), finish(second)]
    print_outcome(out, moment, f"{[code for code, _ in ended]}, {ended[1][1]}")
    codes = [code for code, _ in ended]
    assert 0 in codes
    for code, output in ended:
        assert code == 0 or "another run at work" in output
    assert contents(out) == whole
