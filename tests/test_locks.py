"""Commands that write one folder keep one another out of it, whatever process or container they run in."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from other_processes import held_by_another

import cirrnb
from cirrnb.data.download.dataset import download
from cirrnb.data.download.transfer import DATA_SETS
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.locks import at_work, claimed, is_held, locked
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.segmentation.check_fitting import fit_checks
from cirrnb.segmentation.cohort import add_masks, segment_one
from cirrnb.segmentation.training import train_segmenter


@pytest.mark.parametrize(("how", "take"), [("locked", locked), ("claimed", claimed)])
def test_a_folder_that_is_held_is_refused_and_free_after_a_kill(how: str, take: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    with held_by_another(how, folder) as process:
        with pytest.raises(InputError) as raised, take(folder, patience=0.3):
            pass
        assert raised.value.where == str(folder) and f"process {process.pid} on" in raised.value.found
        process.kill()
        process.wait()
        with take(folder, patience=5):
            pass
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_lock_tells_whether_its_run_lives(tmp_path: Path) -> None:
    lock = tmp_path / ".running-1"
    assert is_held(lock) is False
    with held_by_another("at_work", lock) as process:
        assert is_held(lock) is True
        process.kill()
        process.wait()
        assert lock.exists() and is_held(lock) is False
    with at_work(lock):
        assert lock.exists()
    assert not lock.exists()
    with pytest.raises(OSError, match="mine"), at_work(lock):
        raise OSError("mine")
    with at_work(tmp_path / "no folder" / ".running-1"):
        pass


def _segment(out: Path) -> None:
    add_masks(Cohort((Scan("1", "T1W", out / "1.nii.gz"),), "own"), out)


def _download(out: Path) -> None:
    download(next(iter(DATA_SETS.values())), out, agreed=True)


def _train(out: Path) -> None:
    cirrnb.train(SimpleNamespace(settings=PreparationSettings(), bags=list, stages=CIRRHOSIS), out)  # type: ignore[arg-type]


def _segment_file(out: Path) -> None:
    image = out.with_name("1.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((7, 8, 9), np.int16), np.diag([4.0, 4, 4, 1])), image)
    segment_one(image, out)


COMMANDS = [
    *(("claimed", _segment), ("locked", _segment_file), ("locked", train_segmenter), ("locked", fit_checks)),
    *(("locked", _download), ("claimed", _train)),
]


@pytest.mark.parametrize(("how", "command"), COMMANDS)
def test_commands_claim_what_they_write(
    how: str, command: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cirrnb.segmentation.cohort.read_cohort", lambda cohort: cohort)
    monkeypatch.setattr("cirrnb.model.training.staged_patients", lambda *_: {})
    monkeypatch.setattr("cirrnb.segmentation.cohort._TURN", 0.3)
    out, began = tmp_path / "own", time.monotonic()
    with held_by_another(how, out), pytest.raises(InputError) as raised:
        command(out)
    assert raised.value.where == str(out) and "at work" in raised.value.found and time.monotonic() - began < 60


@pytest.mark.parametrize("name", ["患" * 84, "x" * 250, "é" * 127])
def test_a_folder_with_the_longest_name_that_is_legal_can_be_claimed(tmp_path: Path, name: str) -> None:
    with claimed(tmp_path / name):
        assert [path.name.endswith(".lock") for path in tmp_path.iterdir()] == [True]


@pytest.mark.parametrize("take", [locked, claimed])
@pytest.mark.parametrize("kind", ["below a file", "a link to itself", "a planted link", "a name that is too long"])
def test_a_folder_that_cannot_be_written_is_refused_and_no_link_followed(
    kind: str, take: Callable, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "own").mkdir()
    for planted in (".own.lock", "own/.lock"):
        (tmp_path / planted).symlink_to(tmp_path / "file")
    places = {
        "below a file": tmp_path / "file/own",
        "a link to itself": tmp_path / "loop/own",
        "a planted link": tmp_path / "own",
        "a name that is too long": tmp_path / ("x" * 300) / "own",
    }
    with pytest.raises(InputError) as raised, take(places[kind]):
        pass
    assert raised.value.where == str(places[kind]) and (tmp_path / "file").read_text(encoding="utf-8") == "kept"


def test_a_cohort_that_is_being_written_is_called_so(tmp_path: Path) -> None:
    """To those who want to write it too, and to those who want to read it."""
    out = tmp_path / "mine"
    (tmp_path / "mine.unfinished").mkdir()
    with held_by_another("claimed", out) as process:
        with pytest.raises(InputError, match="being written") as raised:
            cirrnb.simulate_cohort(out, patients=1, progress=False)
        assert f"process {process.pid} on" in raised.value.found
        with pytest.raises(InputErrors, match="being written"):
            cirrnb.read_cohort(out)
    with pytest.raises(InputErrors, match="interrupted"):
        cirrnb.read_cohort(out)
