"""A cohort is prepared as a reader would expect: geometry, intensities, slices, failures, nothing done twice."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cirrnb.data import preparation
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.geometry import to_source
from cirrnb.data.grid import Grid
from cirrnb.data.preparation import prepare
from cirrnb.data.prepared import PreparationSettings, PreparedCohort, PreparedScan
from cirrnb.data.scan import Cohort, Scan

POINT = np.array((-35.0, 20.0, 12.0))  # of a bright ball, in mm RAS+: to the patient's left, in front
LIVER = np.array((60.0, 10.0, 5.0))  # centre of the liver ball
AXIAL = ((1.7, 2.1, 6.0), ((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
GRIDS = {
    "axial": (*AXIAL, (0, 0, 0)),
    "square": ((2.0, 2.0, 5.0), AXIAL[1], (0, 0, 0)),
    "flipped": ((1.7, 2.1, 6.0), ((1, 0, 0), (0, 1, 0), (0, 0, -1)), (0, 0, 0)),
    "coronal": ((1.7, 2.1, 6.0), ((-1, 0, 0), (0, 0, 1), (0, -1, 0)), (0, 0, 0)),
    "sagittal": ((1.7, 2.1, 6.0), ((0, 0, 1), (-1, 0, 0), (0, -1, 0)), (0, 0, 0)),
    "oblique": ((1.7, 2.1, 6.0), AXIAL[1], (12, -9, 7)),
    "very oblique": ((1.7, 2.1, 6.0), AXIAL[1], (0, 27, 0)),
}


def grid_of(name: str) -> Grid:
    """A grid around the origin that holds 240 x 200 x 130 mm of the patient."""
    spacing, cosines, angles = GRIDS[name]
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array(cosines, dtype=float) * spacing
    reach = np.abs(np.array(cosines, dtype=float)).T @ (240, 200, 130)
    shape = tuple(int(size) for size in np.ceil(reach / spacing))
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Grid(shape, affine)  # type: ignore[arg-type]


def render(grid: Grid, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Body (an ellipse of 200 x 160 mm, with a gradient and noise) with a bright ball at POINT, and a liver ball."""
    place = grid.to_patient(np.moveaxis(np.indices(grid.shape), 0, -1))
    body = (place[..., 0] / 100) ** 2 + (place[..., 1] / 80) ** 2 <= 1
    values = np.where(body, 300 + place[..., 0] + np.random.default_rng(seed).normal(0, 10, grid.shape), 0)
    values = values + 250 * np.exp(-(((place - POINT) / 7) ** 2).sum(-1) / 2)
    liver = np.linalg.norm(place - LIVER, axis=-1) <= 24
    return np.rint(values).astype(np.int16), liver


def write(folder: Path, patient: str, sequence: str = "T1W", kind: str = "axial", mask: bool = True, **more) -> Scan:  # type: ignore[no-untyped-def]
    grid = grid_of(kind)
    values, liver = render(grid, seed=sum(map(ord, patient + sequence)))
    image = folder / f"{patient}_{sequence}.nii.gz"
    nib.save(nib.Nifti1Image(values, grid.affine), image)
    if mask:
        nib.save(nib.Nifti1Image(liver.astype(np.uint8), grid.affine), folder / f"{patient}_{sequence}_mask.nii.gz")
    return Scan(patient, sequence, image, folder / f"{patient}_{sequence}_mask.nii.gz" if mask else None, **more)


def settle(*paths: Path) -> None:
    """Let the next call take files for untouched: as if they had been written long before they were hashed."""
    for cache in paths:
        stored = json.loads(cache.read_text())
        cache.write_text(json.dumps({name: [seen, when + 10**10, key] for name, (seen, when, key) in stored.items()}))


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "fingerprints.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def prepare_one(scan: Scan, out: Path, **settings) -> PreparedScan:  # type: ignore[no-untyped-def]
    return prepare(Cohort((scan,)), out, PreparationSettings(**settings), workers=1, progress=False).scans[0]


@pytest.mark.parametrize("view", ["abdomen", "liver"])
@pytest.mark.parametrize("kind", GRIDS)
def test_a_point_stays_where_it_is_and_comes_back(tmp_path: Path, kind: str, view: str) -> None:
    scan = write(tmp_path, "1", kind=kind, mask=view == "liver")
    prepared = prepare_one(scan, tmp_path / "out", view=view, spacing=1.5, margin=40)
    assert prepared.image.shape[1:] == PreparationSettings(view=view).size == prepared.grid.shape[1:]
    assert nib.aff2axcodes(prepared.grid.affine) == ("S", "P", "L")
    assert prepared.source_grid == Grid(nib.load(scan.image).shape, nib.load(scan.image).affine)
    for values, grid in (
        (prepared.image, prepared.grid),
        (to_source(prepared, prepared.image), prepared.source_grid),
    ):
        place = grid.to_patient(np.moveaxis(np.indices(values.shape), 0, -1))
        low, high = prepared.measured["low"], prepared.measured["high"]
        body = (300 + place[..., 0] - low) / (high - low)
        bright = np.clip(values.astype(np.float64) - body - 0.3, 0, None)
        bright[(place[..., 0] / 100) ** 2 + (place[..., 1] / 80) ** 2 > 0.9] = 0
        found = np.tensordot(bright, place, 3) / bright.sum()
        assert np.abs(found - POINT).max() < 0.75


@pytest.mark.parametrize("kind", GRIDS)
def test_the_mask_stays_on_the_liver(tmp_path: Path, kind: str) -> None:
    scan = write(tmp_path, "1", kind=kind)
    prepared = prepare_one(scan, tmp_path / "out")
    assert prepared.mask is not None and prepared.mask.dtype == bool
    place = prepared.grid.to_patient(np.argwhere(prepared.mask)).mean(axis=0)
    assert np.abs(place - LIVER).max() < 0.75
    volume = prepared.mask.sum() * prepared.grid.voxel_volume / 1000
    assert volume == pytest.approx(4 / 3 * np.pi * 2.4**3, rel=0.05)
    assert prepared.measured["liver_ml"] == pytest.approx(volume, rel=0.02)
    file_mask = np.asarray(nib.load(scan.mask).dataobj) > 0
    back = to_source(prepared, prepared.mask)
    assert back.dtype == bool
    assert 2 * (back & file_mask).sum() / (back.sum() + file_mask.sum()) > 0.97


def test_slices_are_the_whole_liver_range_and_the_margin(tmp_path: Path) -> None:
    # Slices lie at -63, -57, ..., 63 mm; the liver reaches from -19 to 29 mm: -15 to 27 show it.
    scan = write(tmp_path, "1")
    assert prepare_one(scan, tmp_path / "out").positions == pytest.approx(np.arange(-15, 28, 6))
    assert prepare_one(scan, tmp_path / "out", margin=13).positions == pytest.approx(np.arange(-27, 40, 6))
    whole = prepare_one(scan, tmp_path / "out", margin=400)
    assert whole.positions == pytest.approx(np.arange(-63, 64, 6))
    assert prepare_one(replace(scan, mask=None), tmp_path / "out").positions == pytest.approx(np.arange(-63, 64, 6))


def test_intensities_are_scaled_over_the_body_of_the_volume_and_nothing_else(tmp_path: Path) -> None:
    scan = write(tmp_path, "1")
    prepared = prepare_one(scan, tmp_path / "out")
    assert prepared.image.dtype == np.float16
    values, _ = render(prepared.source_grid, seed=sum(map(ord, "1T1W")))
    place = prepared.source_grid.to_patient(np.moveaxis(np.indices(values.shape), 0, -1))
    body = values[(place[..., 0] / 100) ** 2 + (place[..., 1] / 80) ** 2 <= 1]
    expected = np.percentile(body, (1, 99))
    assert prepared.measured["low"] == pytest.approx(expected[0], abs=12)
    assert prepared.measured["high"] == pytest.approx(expected[1], abs=25)
    low, high = prepared.measured["low"], prepared.measured["high"]
    # The ball's middle is at 300 - 35 + 250, give or take the noise and the next slice's distance.
    assert prepared.image.max() == pytest.approx((515 - low) / (high - low), abs=0.15)
    # Around the file's field of view (240 mm wide within 384 mm) there is nothing; air in it is below 0.
    assert (prepared.image[:, :, :40] == 0).all() and (prepared.image[:, :, -40:] == 0).all()
    assert prepared.image[:, 60, 60].max() < 0 and prepared.image.min() >= -0.5
    # The same for every view, spacing and choice of slices.
    for other in ({"view": "liver"}, {"spacing": 3.0}, {"margin": 50.0}):
        again = prepare_one(scan, tmp_path / "out", **other)
        assert (again.measured["low"], again.measured["high"]) == (low, high)


def test_an_equal_spacing_copies_without_blurring(tmp_path: Path) -> None:
    scan = write(tmp_path, "1", kind="square", mask=False)
    prepared = prepare_one(scan, tmp_path / "out", spacing=2.0)
    low, high = prepared.measured["low"], prepared.measured["high"]
    values = np.asarray(nib.load(scan.image).dataobj).astype(np.float64)
    expected = np.clip((values - low) / (high - low), -0.5, 2)
    np.testing.assert_allclose(to_source(prepared, prepared.image), expected, atol=2e-3)


def test_the_views_are_centred_on_body_and_liver(tmp_path: Path) -> None:
    scan = write(tmp_path, "1")

    def middle(prepared: PreparedScan) -> np.ndarray:
        return prepared.grid.to_patient((np.array(prepared.grid.shape) - 1) / 2)

    assert middle(prepare_one(scan, tmp_path / "out"))[:2] == pytest.approx((0, 0), abs=3)
    assert middle(prepare_one(scan, tmp_path / "out", view="liver"))[:2] == pytest.approx(LIVER[:2], abs=2)
    without = prepare_one(replace(scan, mask=None), tmp_path / "out", view="liver")
    assert middle(without)[:2] == pytest.approx((0, 0), abs=3)
    assert without.notes == ("no liver mask: the view is centred on the body",)
    assert without.mask is None


def test_a_field_of_view_that_cuts_the_liver_is_noted(tmp_path: Path) -> None:
    prepared = prepare_one(write(tmp_path, "1"), tmp_path / "out", field_of_view=(120, 120))
    # The field ends 60 mm from the body's middle, which is found to 2 mm: in the middle of the liver ball of 24 mm.
    assert prepared.measured["liver_outside"] == pytest.approx(0.5, abs=0.1)
    assert "% of the liver lies outside the field of view" in prepared.notes[0]


def test_what_is_stored_names_neither_patient_nor_path(tmp_path: Path) -> None:
    scan = write(tmp_path, "patient4711", mask=True)
    prepared = prepare_one(scan, tmp_path / "out")
    assert sorted(path.name for path in prepared.folder.iterdir()) == ["image.npy", "mask.npy", "prepared.json"]
    for path in (tmp_path / "out").rglob("*.json"):
        assert "4711" not in path.read_text() and str(tmp_path) not in path.read_text()
    assert "4711" not in str(prepared.folder.relative_to(tmp_path / "out"))
    assert isinstance(prepared.image, np.memmap) and not prepared.image.flags.writeable


def test_a_prepared_scan_is_sent_to_other_processes_without_its_voxels(tmp_path: Path) -> None:
    prepared = prepare_one(write(tmp_path, "1"), tmp_path / "out")
    assert prepared.image.nbytes > 500_000
    sent = pickle.dumps(prepared)
    assert len(sent) < 5000
    np.testing.assert_array_equal(pickle.loads(sent).image, prepared.image)  # noqa: S301


def cohort_of(folder: Path, count: int = 3) -> Cohort:
    return Cohort(tuple(write(folder, str(number), mask=number % 2 == 0) for number in range(count)), "three", True)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are read and standardised."""
    from cirrnb.data import standardisation

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


def test_a_bug_with_one_scan_costs_that_scan_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cirrnb.data import standardisation

    original = standardisation.find_body

    def find_body(volume, *more):  # type: ignore[no-untyped-def]
        if volume.shape[0] == original_shape:
            raise ZeroDivisionError("nobody foresaw this")
        return original(volume, *more)

    cohort = Cohort((write(tmp_path, "1", kind="coronal"), write(tmp_path, "2")))
    original_shape = grid_of("coronal").shape[1]
    monkeypatch.setattr(standardisation, "find_body", find_body)
    prepared = prepare(cohort, tmp_path / "out", workers=1, progress=False)
    assert len(prepared) == 1
    assert "ZeroDivisionError: nobody foresaw this" in prepared.failures.reason[0]


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


@pytest.fixture
def prepared_cohort(tmp_path: Path) -> PreparedCohort:
    scans = (
        write(tmp_path, "1", "T2W", mask=False, stage="mild", split="train"),
        write(tmp_path, "2", "T1W", mask=False, stage=None, split="train"),
        write(tmp_path, "1", "T1W", mask=False, stage="mild", split="train"),
        replace(write(tmp_path, "1", "T1W", mask=False, split="test"), source="healthy"),
    )
    return prepare(Cohort(scans), tmp_path / "out", workers=1, progress=False)


def test_bags_are_patients(prepared_cohort: PreparedCohort) -> None:
    bags = prepared_cohort.bags()
    assert [bag.subject for bag in bags] == ["cirrhotic/1", "cirrhotic/2", "healthy/1"]
    assert list(bags[0].scans) == ["T1W", "T2W"] and bags[0].missing == ()
    assert (bags[0].stage, bags[0].split, bags[0].patient) == ("mild", "train", "1")
    assert bags[1].missing == ("T2W",)
    assert [bag.subject for bag in prepared_cohort.bags(staged=True)] == ["cirrhotic/1"]
    assert [bag.subject for bag in prepared_cohort.bags("test")] == ["healthy/1"]
    assert prepared_cohort.bags("valid") == []


def test_a_patient_on_both_sides_is_refused(prepared_cohort: PreparedCohort) -> None:
    scans = list(prepared_cohort.scans)
    scans[0] = replace(scans[0], scan=replace(scans[0].scan, split="valid"))
    mixed = replace(prepared_cohort, scans=tuple(scans))
    assert mixed.bags()[0].split == "conflicting"
    with pytest.raises(InputErrors, match=r"cirrhotic/1: found sequences in different splits \(T1W in train, T2W in v"):
        mixed.bags("train")
    again = mixed.with_splits({"cirrhotic/1": "test", "healthy/1": "train"})
    assert [bag.subject for bag in again.bags("test")] == ["cirrhotic/1"]
    assert again.bags()[1].split is None


def test_an_array_of_another_shape_is_not_brought_back(prepared_cohort: PreparedCohort) -> None:
    with pytest.raises(ValueError, match="prepared grid has shape"):
        to_source(prepared_cohort.scans[0], np.zeros((7, 8, 9), dtype=np.float32))


def centroid_and_volume(mask: np.ndarray, grid: Grid) -> tuple[np.ndarray, float]:
    return grid.to_patient(np.argwhere(mask)).mean(axis=0), mask.sum() * grid.voxel_volume / 1000


@pytest.mark.real
@pytest.mark.parametrize("view", ["abdomen", "liver"])
def test_real_files_come_back_on_their_own_grids_within_half_a_voxel(
    external_data: Path, tmp_path: Path, view: str
) -> None:
    folder = external_data / "totalsegmentator_mr"
    labels = nib.load(folder / "example_seg_mr.nii.gz")
    liver = np.asarray(labels.dataobj) == 5
    nib.save(nib.Nifti1Image(liver.astype(np.uint8), labels.affine), tmp_path / "liver.nii.gz")
    scans = (
        Scan("1", "T1W", folder / "example_mr_sm.nii.gz", tmp_path / "liver.nii.gz"),
        Scan("2", "T2W", external_data / "cmb_crc" / "SCAN_001_t2_small.nii.gz"),
    )
    prepared = prepare(Cohort(scans), tmp_path / "out", PreparationSettings(view=view), workers=1, progress=False)
    assert len(prepared) == 2
    for one in prepared:
        file = nib.load(one.scan.image)
        assert one.source_grid.matches(Grid(file.shape, file.affine))
        half = min(one.grid.spacing[1:]) / 2
        back = to_source(one, one.image)
        low, high = one.measured["low"], one.measured["high"]
        values = np.clip((np.asarray(file.dataobj).astype(np.float32) - low) / (high - low), -0.5, 2)
        inside = to_source(one, np.ones(one.grid.shape, dtype=bool))
        # Along each axis the file must agree with what came back better than with itself moved by half a prepared
        # voxel; found from the gradient: shift = <difference, gradient> / <gradient, gradient>.
        for axis, length in enumerate(one.source_grid.spacing):
            slope = np.gradient(values, axis=axis)[inside]
            shift = ((values - back)[inside] * slope).sum() / (slope**2).sum() * length
            assert abs(shift) < half / 4
        assert np.corrcoef(values[inside], back[inside])[0, 1] > 0.98
    place, volume = centroid_and_volume(liver, prepared.scans[0].source_grid)
    first = prepared.scans[0]
    assert first.mask is not None
    for mask, grid in ((first.mask, first.grid), (to_source(first, first.mask), first.source_grid)):
        there = centroid_and_volume(mask, grid)
        assert np.abs(there[0] - place).max() < 0.75
        assert there[1] == pytest.approx(volume, rel=0.03)
    assert isinstance(prepared.failures.reason.tolist(), list) and prepared.failures.empty


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"out: found .*expected room and the right to write prepared scans"):
        prepare(cohort_of(tmp_path, 1), tmp_path / "out", progress=False)
