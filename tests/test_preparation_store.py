"""Nothing is prepared twice, damage is mended, bad scans are listed and the rest of the cohort goes on."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from preparation_phantoms import contents, grid_of, prepare_one, render, settle, write

from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.scan import Cohort, Scan
from cirrnb.preparation import cohort as preparation
from cirrnb.preparation.cohort import prepare
from cirrnb.preparation.fingerprints import Fingerprints, fingerprint


def test_what_is_stored_names_neither_patient_nor_path(tmp_path: Path) -> None:
    scan = write(tmp_path, "Winterbottom", mask=True)
    prepared = prepare_one(scan, tmp_path / "out")
    assert sorted(path.name for path in prepared.folder.iterdir()) == ["image.npy", "mask.npy", "prepared.json"]
    for path in (tmp_path / "out").rglob("*.json"):
        assert "Winterbottom" not in path.read_text() and str(tmp_path) not in path.read_text()
    assert "Winterbottom" not in str(prepared.folder.relative_to(tmp_path / "out"))
    assert isinstance(prepared.image, np.memmap) and not prepared.image.flags.writeable


def cohort_of(folder: Path, count: int = 3) -> Cohort:
    return Cohort(tuple(write(folder, str(number), mask=number % 2 == 0) for number in range(count)), "three", True)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are read and standardised."""
    from cirrnb.preparation import standardisation

    names: list[str] = []
    original = standardisation.standardise

    def standardise(image: Path, *more):  # type: ignore[no-untyped-def]
        names.append(image.name)
        return original(image, *more)

    monkeypatch.setattr(standardisation, "standardise", standardise)
    return names


def test_nothing_is_prepared_twice(tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, out = cohort_of(tmp_path), tmp_path / "out"
    first = prepare(cohort, out, workers=1, progress=False)
    assert len(counted) == 3
    assert (first.name, first.simulated, len(first)) == ("three", True, 3)
    # The files are so new that they are hashed again, but not prepared again.
    again = prepare(cohort, out, workers=1, progress=False)
    assert len(counted) == 3
    assert [prepared.folder for prepared in again] == [prepared.folder for prepared in first]
    settle(out / "fingerprints.json")
    monkeypatch.setattr(preparation, "run_job", lambda job: pytest.fail("a settled file was read again"))
    assert [prepared.grid for prepared in prepare(cohort, out, progress=False)] == [one.grid for one in first]


def test_the_key_follows_content_mask_and_settings_and_not_the_name(tmp_path: Path, counted: list[str]) -> None:
    scan = write(tmp_path, "1")
    folder = prepare_one(scan, tmp_path / "out").folder
    moved = tmp_path / "moved.nii.gz"
    moved.write_bytes(scan.image.read_bytes())
    renamed = replace(scan, patient="9", sequence="T2W", image=moved, stage="mild")
    assert prepare_one(renamed, tmp_path / "out").folder == folder
    assert len(counted) == 1
    others = {
        prepare_one(replace(scan, mask=None), tmp_path / "out").folder,
        prepare_one(scan, tmp_path / "out", spacing=1.6).folder,
        prepare_one(scan, tmp_path / "out", percentiles=(0.5, 99)).folder,
        prepare_one(scan, tmp_path / "out", margin=6).folder,
        prepare_one(scan, tmp_path / "out", view="liver").folder,
    }
    assert len(others | {folder}) == 6


def test_a_changed_file_is_prepared_again_even_with_the_same_size_and_time(tmp_path: Path, counted: list[str]) -> None:
    grid = grid_of("square")
    values, _ = render(grid)
    path = tmp_path / "1.nii"
    nib.save(nib.Nifti1Image(values, grid.affine), path)
    before = path.stat()
    scan = Scan("1", "T1W", path)
    first = prepare_one(scan, tmp_path / "out")
    nib.save(nib.Nifti1Image(values[::-1].copy(), grid.affine), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert prepare_one(scan, tmp_path / "out").folder != first.folder
    # Also once the remembered hash has settled: the change shows in ctime.
    settle(tmp_path / "out" / "fingerprints.json")
    nib.save(nib.Nifti1Image(values[:, ::-1].copy(), grid.affine), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    prepare_one(scan, tmp_path / "out")
    assert len(counted) == 3


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cirrnb.preparation import standardisation

    original = standardisation.standardise

    def standardise(image: Path, *more):  # type: ignore[no-untyped-def]
        made = original(image, *more)
        if image.name.startswith("1"):
            image.write_bytes(image.read_bytes() + b"more")
        return made

    monkeypatch.setattr(standardisation, "standardise", standardise)
    cohort = Cohort((write(tmp_path, "1"), write(tmp_path, "2")))
    prepared = prepare(cohort, tmp_path / "out", workers=1, progress=False)
    assert [one.scan.patient for one in prepared] == ["2"]
    assert "a file that changed while it was read" in prepared.failures.reason[0]
    assert len(list((tmp_path / "out").glob("*/image.npy"))) == 1


def test_a_file_just_written_is_not_taken_for_unchanged(tmp_path: Path) -> None:
    path, cache = tmp_path / "scan.nii", tmp_path / "fingerprints.json"
    path.write_bytes(b"first")
    seen, when, content = fingerprint(path)
    assert content == hashlib.sha256(b"first").hexdigest()

    def recalled(later: float) -> str | None:
        fingerprints = Fingerprints(cache)
        fingerprints.learn(path, [seen, when + int(later * 1e9), content])
        fingerprints.save()
        return Fingerprints(cache).recall(path)

    # Hashed right after it was written, it may have been written again within the same tick of the file system's clock.
    assert recalled(0) is None
    assert recalled(1) is None
    assert recalled(3) == content
    path.touch()
    assert Fingerprints(cache).recall(path) is None


@pytest.mark.parametrize("damage", ["short", "gone", "json", "other json", "empty", "a file"])
def test_damage_in_the_folder_is_mended(tmp_path: Path, damage: str) -> None:
    scan, out = write(tmp_path, "1"), tmp_path / "out"
    folder = prepare_one(scan, out).folder
    settle(out / "fingerprints.json")
    sound = contents(out)
    if damage == "short":
        os.truncate(folder / "image.npy", 1000)
    elif damage == "gone":
        (folder / "mask.npy").unlink()
    elif damage == "json":
        (folder / "prepared.json").write_text('{"settings": ')
    elif damage == "other json":
        (folder / "prepared.json").write_text("[1, 2]")
    else:
        for path in folder.iterdir():
            path.unlink()
        if damage == "a file":
            folder.rmdir()
            folder.write_text("not a folder")
    assert prepare_one(scan, out).image.shape[1:] == (192, 256)
    assert contents(out) == sound


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("grid", value) for value in (None, [], {"shape": [1, 2, 3]}, {"shape": ["1", 2, 3], "affine": []})],
        *[("source_grid", value) for value in (5, {"shape": [7, 8, 9], "affine": [["nan"] * 4] * 4})],
        *[("settings", value) for value in (None, [], {"unknown": 1}, {"spacing": "2"})],
        *[("notes", value) for value in (None, 5, [5])],
        *[("measured", value) for value in (None, [])],
        *[("files", value) for value in (None, [], {"image.npy": 5})],
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_description_with_wrong_values_is_made_anew(tmp_path: Path, field: str, value: object) -> None:
    scan, out = write(tmp_path, "1"), tmp_path / "out"
    path = prepare_one(scan, out).folder / "prepared.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {field: value}))
    prepare_one(scan, out)
    assert json.loads(path.read_text()) == stored


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": [1, 2, 3]}', "\0\xff"])
def test_a_damaged_memory_of_files_is_forgotten(tmp_path: Path, text: str) -> None:
    scan, out = write(tmp_path, "1"), tmp_path / "out"
    folder = prepare_one(scan, out).folder
    (out / "fingerprints.json").write_bytes(text.encode("latin1"))
    assert prepare_one(scan, out).folder == folder
    assert json.loads((out / "fingerprints.json").read_text())


def bad_scans(folder: Path) -> tuple[list[Scan], list[str]]:
    """Scans that cannot be prepared, and a word of what is said about each."""
    good, grid = write(folder, "good"), grid_of("axial")
    values, liver = render(grid)

    def saved(name: str, array: np.ndarray, affine: np.ndarray = grid.affine) -> Path:
        nib.save(nib.Nifti1Image(array, affine), folder / name)
        return folder / name

    cut = folder / "cut.nii.gz"
    cut.write_bytes(good.image.read_bytes()[:5000])
    nan = values.astype(np.float32)
    nan[3, 4, 5] = np.nan
    moved = np.array(grid.affine)
    moved[2, 3] += 3
    cases = [
        (Scan("b1", "T1W", cut), "cut"),
        (Scan("b2", "T1W", folder / "nowhere.nii.gz"), "restore"),
        (Scan("b3", "T1W", saved("nan.nii.gz", nan)), "NaN"),
        (Scan("b4", "T1W", saved("flat.nii.gz", np.full_like(values, 9))), "all voxels at the intensity 9"),
        (
            Scan("b5", "T1W", saved("dot.nii.gz", np.where(values == values.max(), 500, 0).astype("i2"))),
            "all voxels at the intensity 0",
        ),
        (Scan("b6", "T1W", good.image, saved("no.nii.gz", np.zeros(liver.shape, "u1"))), "empty mask"),
        (Scan("b7", "T1W", good.image, saved("off.nii.gz", liver.astype("u1"), moved)), "placed elsewhere"),
        (Scan("b8", "T1W", saved("two.nii.gz", np.stack([values] * 2, -1))), "three axes"),
        (Scan("b9", "T2W", good.image, folder / "lost_mask.nii.gz"), "restore"),
    ]
    return [scan for scan, _ in cases], [word for _, word in cases]


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_scans_are_listed_and_the_rest_goes_on(tmp_path: Path, workers: int) -> None:
    scans, words = bad_scans(tmp_path)
    cohort = Cohort((scans[0], write(tmp_path, "8"), *scans[1:], write(tmp_path, "9", "T2W")))
    prepared = prepare(cohort, tmp_path / "out", workers=workers, progress=False)
    assert [one.scan.name for one in prepared] == ["cirrhotic/8 T1W", "cirrhotic/9 T2W"]
    assert prepared.failures.columns.tolist() == ["subject", "sequence", "reason"]
    assert prepared.failures.subject.tolist() == [scan.subject for scan in scans]
    assert prepared.failures.sequence.tolist() == [scan.sequence for scan in scans]
    for reason, word, scan in zip(prepared.failures.reason, words, scans, strict=True):
        assert word in reason
        assert str(tmp_path) not in reason
        assert (scan.mask or scan.image).name in reason or scan.image.name in reason
    assert not list((tmp_path / "out").glob(".writing*"))


def test_if_nothing_can_be_prepared_that_is_an_error(tmp_path: Path) -> None:
    scans, _ = bad_scans(tmp_path)
    with pytest.raises(InputErrors) as raised:
        prepare(Cohort(tuple(scans[2:4])), tmp_path / "out", workers=1, progress=False)
    assert len(raised.value.errors) == 2 and "NaN" in str(raised.value)
    with pytest.raises(InputErrors, match="no scans"):
        prepare(Cohort(()), tmp_path / "out", progress=False)


def test_unusual_values_of_one_scan_do_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cirrnb.preparation import standardisation

    original = standardisation.find_body

    def find_body(volume, *more):  # type: ignore[no-untyped-def]
        if volume.shape[0] == original_shape:
            raise ZeroDivisionError("a body without voxels")
        return original(volume, *more)

    cohort = Cohort((write(tmp_path, "1", kind="coronal"), write(tmp_path, "2")))
    original_shape = grid_of("coronal").shape[1]
    monkeypatch.setattr(standardisation, "find_body", find_body)
    prepared = prepare(cohort, tmp_path / "out", workers=1, progress=False)
    assert len(prepared) == 1
    assert "ZeroDivisionError: a body without voxels" in prepared.failures.reason[0]


def test_one_process_or_two_leave_the_same(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, 4)
    prepare(cohort, tmp_path / "one", workers=1, progress=False)
    two = prepare(cohort, tmp_path / "two", workers=2, progress=False)
    assert [one.scan.patient for one in two] == ["0", "1", "2", "3"]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_progress_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = cohort_of(tmp_path, 2)
    prepare(cohort, tmp_path / "out", workers=1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "2/2" in shown.err and shown.err.count("\n") == 1
    prepare(cohort, tmp_path / "other", workers=1, progress=False)
    assert capsys.readouterr().err == ""


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"out: found .*expected free space and the right to write prepared scans"):
        prepare(cohort_of(tmp_path, 1), tmp_path / "out", progress=False)
