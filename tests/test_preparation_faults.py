"""Nothing is lost when the disk is full, a process dies, or two of them work at once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
from preparation_phantoms import contents

from cirrnb.data import workers
from cirrnb.data.scan import Cohort, Scan
from cirrnb.preparation import store
from cirrnb.preparation.cohort import prepare
from cirrnb.preparation.store import StorageError

SPOILED = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r})\n"
"""Begins the code of a process that finds the package as these tests do."""

CALL = """
from pathlib import Path
from cirrnb.preparation.cohort import prepare
from cirrnb.data.scan import Cohort, Scan

folder = Path(sys.argv[1])
cohort = Cohort(tuple(Scan(path.name, "T1W", path) for path in sorted(folder.glob("*.nii"))))
print(len(prepare(cohort, sys.argv[2], workers=int(sys.argv[3]), progress=False)))
"""


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with eight scans, each unlike the others."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(8):
        row, column = np.indices((90, 110))
        body = ((row - 45) / 40) ** 2 + ((column - 55) / 50) ** 2 <= 1
        noise = np.random.default_rng(number).normal(400, 50, (12, 90, 110))
        voxels = np.where(body, noise, 0).astype(np.int16).transpose(2, 1, 0)
        nib.save(nib.Nifti1Image(voxels, np.diag((-3.0, -3.0, 6.0, 1.0))), folder / f"{number}.nii")
    return folder


def cohort_in(folder: Path) -> Cohort:
    return Cohort(tuple(Scan(path.name, "T1W", path) for path in sorted(folder.glob("*.nii"))))


@pytest.fixture
def undisturbed(scans: Path, tmp_path: Path) -> dict[str, bytes]:
    prepare(cohort_in(scans), tmp_path / "undisturbed", workers=1, progress=False)
    return contents(tmp_path / "undisturbed")


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SPOILED + code, *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # where the tests run in the background of a shell, an interrupt is ignored, and so it would be here
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition, seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "what was waited for never came"
        time.sleep(0.005)


def finished(out: Path) -> int:
    return len(list(out.glob("[0-9a-f]*/prepared.json")))


def test_a_full_disk_stops_with_one_message_and_keeps_what_is_done(
    scans: Path, tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, original, count = tmp_path / "out", store._save, 0

    def full(path: Path, array: np.ndarray) -> int:
        nonlocal count
        count += 1
        if count > 3:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, array)

    monkeypatch.setattr(store, "_save", full)
    with pytest.raises(StorageError) as raised:
        prepare(cohort_in(scans), out, workers=1, progress=False)
    assert str(raised.value).startswith(f"{out}: found No space left on device (")
    assert "MB free" in str(raised.value) and "what is prepared already is kept" in str(raised.value)
    assert count == 4, "it went on though the disk was full"
    assert finished(out) == 3 and not list(out.glob(".*"))
    monkeypatch.undo()
    prepare(cohort_in(scans), out, workers=1, progress=False)
    assert contents(out) == undisturbed


def test_a_full_disk_is_told_by_workers_too(
    scans: Path, tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = """
import errno
from cirrnb.data import workers
from cirrnb.preparation import store
def save(path, array):
    raise OSError(errno.ENOSPC, "No space left on device")
store._save = save
workers.serve('cirrnb.preparation.cohort')
"""
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", SPOILED + full))
    with pytest.raises(StorageError, match="No space left on device"):
        prepare(cohort_in(scans), tmp_path / "out", workers=2, progress=False)
    assert not contents(tmp_path / "out")
    assert not psutil.Process().children(), "workers were left behind"


@pytest.mark.slow
def test_a_disk_that_is_really_full(scans: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        for workers_count in (1, 2):
            with pytest.raises(StorageError, match=r"small/out: found No space left on device \([0-9] MB free\)"):
                prepare(cohort_in(scans), small / "out", workers=workers_count, progress=False)
            left = contents(small / "out")
            assert left.items() <= undisturbed.items(), "something half-written was left"
            assert left
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_killed_in_the_middle_of_writing_and_called_again(
    scans: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    slow = """
import time
from cirrnb.preparation import store
original = store._save
def save(path, array):
    size = original(path, array)
    time.sleep(0.3)
    return size
store._save = save
"""
    out = tmp_path / "out"
    process = started(slow + CALL, scans, out, 1)
    wait_for(lambda: finished(out) == 2 and list(out.glob(".writing-*/image.npy")))
    process.kill()
    process.communicate()
    assert 2 <= finished(out) < 8 and list(out.glob(".writing-*"))
    prepare(cohort_in(scans), out, workers=1, progress=False)
    assert contents(out) == undisturbed


def test_workers_end_with_a_killed_caller(scans: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    process = started(CALL, scans, out, 2)
    wait_for(lambda: finished(out) >= 1 or process.poll() is not None)
    children = psutil.Process(process.pid).children() if process.poll() is None else []
    process.kill()
    process.communicate()
    wait_for(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))
    prepare(cohort_in(scans), out, workers=2, progress=False)
    assert contents(out) == undisturbed


def test_a_half_written_folder_of_a_process_at_work_is_left_alone(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = {
        "living": f".writing-{'a' * 32}-{'1' * 16}-0a",
        "dead": f".writing-{'b' * 32}-{'2' * 16}-0b",
        "dead without a lock": f".writing-{'c' * 32}-{'3' * 16}-0c",
        "of another version": f".writing-{'d' * 32}-another_computer-1",
        "forgotten": f".writing-{'e' * 32}-another_computer-2",
    }
    for name in names.values():
        (out / name).mkdir(parents=True)
        (out / name / "image.npy").write_bytes(b"half")
    long_ago = time.time() - store.FORGOTTEN - 60
    os.utime(out / names["forgotten"], (long_ago, long_ago))
    (out / f".running-{'2' * 16}").touch()  # a run that was killed: nobody holds its lock
    with store.Store(out, "1" * 16).at_work():
        prepare(cohort_in(scans), out, workers=1, progress=False)
    assert {path.name for path in out.glob(".writing-*")} == {names["living"], names["of another version"]}
    assert not list(out.glob(".running-*"))


def test_two_callers_at_once_do_each_other_no_harm(scans: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    callers = [started(CALL, scans, tmp_path / "out", 1) for _ in range(3)]
    for caller in callers:
        told, trouble = caller.communicate(timeout=120)
        assert told == "8\n", trouble
    assert contents(tmp_path / "out") == undisturbed


def test_whoever_comes_second_leaves_what_is_there(scans: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    prepare(cohort_in(scans), out, workers=1, progress=False)
    folder = next(out.glob("[0-9a-f]*/image.npy")).parent
    before = folder.stat().st_ino
    store.Store(out).write(folder.name, {}, {"image": np.zeros(3, np.float16)})
    assert folder.stat().st_ino == before
    assert contents(out) == undisturbed


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)", "raise SystemExit(4)"])
def test_a_worker_that_dies_costs_its_scan_only(
    scans: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = f"""
import os, signal
from cirrnb.data import workers
from cirrnb.preparation import cohort as preparation
original = preparation.run_job
def run_job(job):
    if job["image"].endswith(("0.nii", "5.nii")):
        {how}
    return original(job)
preparation.run_job = run_job
workers.serve('cirrnb.preparation.cohort')
"""
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", SPOILED + dying))
    prepared = prepare(cohort_in(scans), tmp_path / "out", workers=2, progress=False)
    assert [one.scan.patient for one in prepared] == [f"{number}.nii" for number in (1, 2, 3, 4, 6, 7)]
    assert prepared.failures.subject.tolist() == ["cirrhotic/0.nii", "cirrhotic/5.nii"]
    told = {"os.k": "ended by SIGKILL (the system does so where memory runs out)", "os._": "ended with code 3"}
    assert told.get(how[:4], "ended with code 4") in prepared.failures.reason[0]
    assert not psutil.Process().children(), "workers were left behind"


def test_workers_that_cannot_start_are_not_blamed_on_the_scans(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", "raise SystemExit(5)"))
    with pytest.raises(RuntimeError, match="a worker process ended with code 5 before it began"):
        prepare(cohort_in(scans), tmp_path / "out", workers=2, progress=False)


def test_what_a_worker_prints_is_not_taken_for_an_answer(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatty = """
import os
from cirrnb.data import workers
from cirrnb.preparation import cohort as preparation
original = preparation.run_job
def run_job(job):
    print("a library's remark", flush=True)
    os.write(1, b"and one from its depths\\n")
    return original(job)
preparation.run_job = run_job
workers.serve('cirrnb.preparation.cohort')
"""
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", SPOILED + chatty))
    assert len(prepare(cohort_in(scans), tmp_path / "out", workers=2, progress=False)) == 8


@pytest.mark.parametrize("form", ["script", "standard input"])
def test_a_plain_script_needs_no_guard(scans: Path, tmp_path: Path, form: str) -> None:
    code = SPOILED + "print('begun')\n" + CALL
    script = tmp_path / "script.py"
    script.write_text(code)
    command = [sys.executable, str(script) if form == "script" else "-", str(scans), str(tmp_path / "out"), "2"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, timeout=120)
    assert done.stdout == "begun\n8\n", done.stderr


def test_interrupting_ends_the_workers_and_keeps_what_is_done(
    scans: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    for number in range(200):  # enough work that it is not over before it is interrupted
        (scans / f"again{number}.nii").write_bytes((scans / "0.nii").read_bytes() + bytes([number]))
    process = started(CALL, scans, out, 2)
    wait_for(lambda: finished(out) >= 3)
    children = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    _, trouble = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in trouble
    assert len(children) == 2 and not any(child.is_running() for child in children)
    assert 3 <= finished(out) < 48 and not list(out.glob(".writing-*"))
    assert (out / "fingerprints.json").exists()
