"""Ended by a signal: one line, the signal's exit code, and nothing left in the temporary folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from nbformat import v4, write

import cirrnb
from cirrnb.data.locks import PREFIX, scratch_folder
from cirrnb.data.workers import python_command
from cirrnb.run.execution import run_notebook

PROGRAM = python_command("-c", "from cirrnb.cli import main; main()")


def slow_notebook(folder: Path, code: str = "import time; time.sleep(600)") -> Path:
    tagged = v4.new_code_cell("number: int = 1", metadata={"tags": ["parameters"]})
    cell = v4.new_code_cell(f"import pathlib, tempfile\ntempfile.mkdtemp()\npathlib.Path('begun').touch()\n{code}")
    write(v4.new_notebook(cells=[tagged, cell]), folder / "slow.ipynb")
    return folder / "slow.ipynb"


def left_in(scratch: Path) -> list[str]:
    """What is there beside the folder in which torch keeps compiled code for everybody."""
    return [path.name for path in scratch.iterdir() if not path.name.startswith("torchinductor_")]


def command_of(process: psutil.Process) -> list[str]:
    """How a process was started; nothing of one that has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def stop(
    command: list[str], folder: Path, number: int, begun: Callable[[psutil.Process], bool]
) -> tuple[int, str, list[psutil.Process]]:
    """Exit code, standard error, and processes that are left of a command that gets a signal once it has `begun`."""
    scratch = folder / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [*PROGRAM, *command],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever starts the tests may have it ignored, as shells do in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 300
    while not begun(psutil.Process(process.pid)):
        assert process.poll() is None and time.monotonic() < until, process.stderr.read()
        time.sleep(0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, output = process.communicate(timeout=90)
    return process.returncode, output, psutil.wait_procs(children, timeout=20)[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_notebook_that_is_stopped_leaves_nothing_in_the_way(tmp_path: Path, number: int, code: int) -> None:
    slow_notebook(tmp_path)
    found, said, alive = stop(
        ["run", "slow.ipynb", "--out", "out"], tmp_path, number, lambda process: (tmp_path / "begun").exists()
    )
    assert found == code and alive == []
    assert [place for place, line in enumerate(said.splitlines()[::-1]) if line.startswith("cirrnb: ")] == [0]
    assert "Traceback" not in said
    assert left_in(tmp_path / "scratch") == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["slow.failed.ipynb"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_report_that_is_stopped_leaves_nothing_behind(tmp_path: Path, number: int, code: int) -> None:
    cirrnb.simulate_cohort(tmp_path / "cohort", patients=3, seed=5, scale="tiny", healthy=0, workers=1)

    def begun(process: psutil.Process) -> bool:
        return any("cirrnb.reports.pages" in command_of(one) for one in process.children(recursive=True))

    found, said, alive = stop(["report", "cohort", "--out", "out", "--jobs", "2"], tmp_path, number, begun)
    assert found == code and alive == []
    assert [place for place, line in enumerate(said.splitlines()[::-1]) if line.startswith("cirrnb: ")] == [0]
    assert "Traceback" not in said and "BrokenPipe" not in said
    assert left_in(tmp_path / "scratch") == []
    assert list((tmp_path / "out").rglob("*.ipynb")) == []


def test_what_killed_processes_left_is_swept_and_what_lives_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    holding = "import time; from cirrnb.data.locks import scratch_folder\n"
    holding += "with scratch_folder() as folder:\n    print(folder, flush=True); time.sleep(600)"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", holding], stdout=subprocess.PIPE, text=True, env={"TMPDIR": str(tmp_path)}
        )
        for _ in range(2)
    ]
    killed, living = (Path(process.stdout.readline().strip()) for process in started)
    started[0].kill()
    started[0].wait()
    old, young = (tmp_path / f"{PREFIX}{name}" for name in ("old", "young"))
    for folder in (old, young):
        (folder / "inner").mkdir(parents=True)
    os.utime(old, (0, 0))
    other = tmp_path / "somebody-elses"
    other.mkdir()
    os.utime(other, (0, 0))
    (tmp_path / f"{PREFIX}link").symlink_to(other)
    try:
        with scratch_folder() as own:
            assert own.stat().st_mode & 0o077 == 0
            assert not killed.exists() and not old.exists()
            assert living.exists() and young.exists() and other.exists()
        assert not own.exists()
    finally:
        started[1].kill()
        started[1].wait()


def test_a_long_temporary_folder_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.chdir(tmp_path)
    asks = "import json, ipykernel, pathlib\n"
    asks += "pathlib.Path('told').write_text(pathlib.Path(ipykernel.get_connection_file()).read_text())\n"
    asks += "ip = pathlib.Path(json.loads(pathlib.Path('told').read_text())['ip'])\n"
    asks += "pathlib.Path('mode').write_text(oct(ip.parent.stat().st_mode & 0o777))"
    assert run_notebook(slow_notebook(tmp_path, asks), tmp_path / "out.ipynb").exists()
    told = json.loads((tmp_path / "told").read_text())
    folder = Path(told["ip"]).parent
    assert told["transport"] == "ipc" and folder.parent == Path("/tmp"), "no other account can listen"
    assert (tmp_path / "mode").read_text() == "0o700" and not folder.exists()
    assert left_in(long) == []


@pytest.mark.parametrize("arguments", [["audit", b"coh\xff"], ["run", "01_cohort", "-p", "cohort", b"\xff"]])
def test_half_a_character_is_refused_at_the_door(tmp_path: Path, arguments: list[str | bytes]) -> None:
    done = subprocess.run([*PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "command line" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, for a user namespace")
@pytest.mark.parametrize(
    "command", ["run 01_cohort", "report nothing", "explore --no-browser", "learn --no-browser", "demo"]
)
def test_without_a_home_there_is_one_clear_line(tmp_path: Path, command: str) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    nobody = ["unshare", "--user", "--map-user=12345", *PROGRAM, *command.split()]
    done = subprocess.run(nobody, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=120)
    if "unshare" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.returncode == 2 and done.stderr.startswith("cirrnb: environment: ") and done.stderr.count("\n") == 1


def test_half_a_character_is_no_name_and_no_parameter(tmp_path: Path) -> None:
    from cirrnb.data.errors import InputErrors

    with pytest.raises(InputErrors):
        cirrnb.read_cohort(f"{tmp_path}/coh\udcff")
    with pytest.raises(InputErrors) as raised:
        run_notebook("01_cohort", tmp_path / "out.ipynb", {"cohort": "a\ud800"})
    assert "cohort" in raised.value.errors[0].where
