"""Volumes that no scanner should make, from the file to the answer: a result or a named reason, never a traceback."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

import cirrnb
from cirrnb.data.errors import InputErrors
from cirrnb.data.given_masks import give_masks
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.status import DOUBTFUL, REFUSED, STATUSES, status_of_scans
from cirrnb.model.trained_model import TrainedModel, load_model
from cirrnb.preparation.cohort import with_masks
from cirrnb.segmentation.mask_overlap import LEAST_LIVER, LEAST_SHARED, check_mask, shared, shared_of_files

Body = tuple[NDArray, NDArray]
"""Image (columns to the left of the patient's right, rows, slices) and affine."""


@pytest.fixture(scope="session")
def body(tmp_path_factory: pytest.TempPathFactory) -> Body:
    """A simulated patient's T2W scan, an abdomen in 3D."""
    folder = tmp_path_factory.mktemp("body")
    cohort = cirrnb.simulate_cohort(folder, patients=1, seed=11, scale="tiny", healthy=0, workers=1, progress=False)
    volume, grid = read_volume(next(scan.image for scan in cohort.scans if scan.sequence == "T2W"))
    return np.asarray(volume, np.float32), grid.affine


def save(path: Path, volume: NDArray, affine: NDArray) -> Scan:
    nib.save(nib.Nifti1Image(np.ascontiguousarray(volume, np.float32), affine), path)
    return Scan("1", "T2W", path)


def scaled(affine: NDArray, *spacing: float) -> NDArray:
    """The affine with voxels of these sizes in mm."""
    return affine @ np.diag([*(np.array(spacing) / np.linalg.norm(affine[:3, :3], axis=0)), 1.0])


def two_bodies(volume: NDArray, affine: NDArray) -> Body:
    return np.concatenate([volume, volume[::-1]], axis=0), affine


def void(volume: NDArray, affine: NDArray) -> Body:
    """A ball of 70 mm without signal, its rim four times as bright, where the liver is."""
    places = np.indices(volume.shape).T - np.array(volume.shape) * (0.35, 0.45, 0.5)
    away = np.linalg.norm(places * np.linalg.norm(affine[:3, :3], axis=0), axis=-1).T
    return np.where(away < 70, 0, np.where(away < 78, 4 * volume, volume)), affine


KINDS: dict[str, Callable[[NDArray, NDArray], Body]] = {
    "all zero": lambda volume, affine: (0 * volume, affine),
    "constant": lambda volume, affine: (0 * volume + 7, affine),
    "one NaN": lambda volume, affine: (np.where(volume == volume.max(), np.nan, volume), affine),
    "no voxel": lambda volume, affine: (volume[:, :, :0], affine),
    "one slice": lambda volume, affine: (volume[:, :, 4:5], affine),
    "600 slices": lambda volume, affine: (
        np.repeat(volume[::2, ::2], 32, axis=2)[:, :, :600],
        scaled(affine, 8, 8, 0.4),
    ),
    "voxels of 0.3 mm": lambda volume, affine: (volume, scaled(affine, 0.3, 0.3, 0.3)),
    "voxels of 12 mm": lambda volume, affine: (volume[::4, ::4], scaled(affine, 12, 12, 12)),
    "half a liver": lambda volume, affine: (volume[:, :, : volume.shape[2] // 2], affine),
    "two bodies": two_bodies,
    "a metal void": void,
}


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return load_model("shipped")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_answered_or_there_is_a_named_reason(kind: str, body: Body, model: TrainedModel, tmp_path: Path) -> None:
    """Which of them are refused is not fixed (docs/any_scan.md tells it); that each ends so is."""
    scan = save(tmp_path / "A17_T2W.nii.gz", *KINDS[kind](*body))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            answers = cirrnb.predict(model, Cohort((scan,)), prepared=tmp_path / "prepared")
        except InputErrors as errors:
            assert all(error.found and error.expected and error.remedy for error in errors.errors)
            assert all("A17_T2W" in error.where or scan.subject in error.where for error in errors.errors)
            return
    (row,) = answers.to_dict("records")
    assert row["status"] in STATUSES and (row["status"] == "answered" or row["reasons"])
    assert (row["predicted"] is None) == (row["status"] == REFUSED)


# --------------------------------------------------------------------------------------------- the mask of another scan


def test_a_liver_found_in_part_shares_all_and_the_mask_of_another_scan_little() -> None:
    """Blocks of 4 x 5 x 6 voxels, a part of it of 2 x 5 x 6, and one of 4 x 5 x 4 of which half lies in it."""
    whole, part, other = (np.zeros((7, 8, 9), bool) for _ in range(3))
    whole[1:5, 1:6, 1:7], part[1:3, 1:6, 1:7], other[1:5, 1:6, 5:9] = True, True, True
    assert shared(whole, part) == shared(part, whole) == 1 and np.isnan(shared(whole, 0 * whole))
    assert shared(other, whole) == shared(whole, other) == pytest.approx(40 / 80)


@pytest.mark.parametrize(
    ("share", "outcome"),
    [(0.0, DOUBTFUL), (LEAST_SHARED - 0.01, DOUBTFUL), (LEAST_SHARED + 0.01, "passed"), (1.0, "passed")],
)
def test_a_mask_that_shares_little_is_doubted_and_never_refused(share: float, outcome: str) -> None:
    check = check_mask(share)
    assert check.outcome == outcome and (check.score < 0) == (outcome == DOUBTFUL) == bool(
        check.reason and check.remedy
    )


def test_a_mask_is_not_judged_where_nothing_can_be_told(tmp_path: Path) -> None:
    """Blocks of 7 x 8 x 9 voxels of 1 mL: too little liver found, another grid, an empty mask."""
    affine, labels = np.diag([-10.0, -10.0, 10.0, 1.0]), np.zeros((7, 8, 9), np.uint8)
    drawn = np.zeros((7, 8, 9), np.uint8)
    drawn[1:6, 1:7, 1:8] = 1

    def file(name: str, values: NDArray) -> Path:
        nib.save(nib.Nifti1Image(values, affine), tmp_path / name)
        return tmp_path / name

    labels[1:5, 1:6, 1:6] = 1
    assert np.count_nonzero(labels) == LEAST_LIVER
    assert shared_of_files(file("drawn.nii", drawn), file("organs.nii", labels)) == 1
    assert np.isnan(shared_of_files(file("empty.nii", 0 * drawn), tmp_path / "organs.nii"))
    assert np.isnan(shared_of_files(file("other.nii", drawn[:, :, 1:]), tmp_path / "organs.nii"))
    labels[1, 1, 1] = 0
    assert np.isnan(shared_of_files(tmp_path / "drawn.nii", file("organs.nii", labels)))
    assert check_mask(float("nan")).outcome == "passed"


def test_a_mask_that_lies_beside_the_liver_makes_the_answer_doubtful(body: Body, tmp_path: Path) -> None:
    """The liver that the program finds as a reader's mask passes; mirrored to the patient's left it is doubted."""
    scan = save(tmp_path / "A17_T2W.nii.gz", *body)
    (made,) = with_masks(Cohort((scan,)), tmp_path / "first", 1, False).scans
    assert made.mask is not None
    liver, grid = read_volume(made.mask)
    for name, values, doubted in (("own", liver, False), ("mirrored", liver[::-1], True)):
        mask = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.ascontiguousarray(values), grid.affine), mask)
        status, reasons = status_of_scans(
            with_masks(give_masks(Cohort((scan,)), mask), tmp_path / name, 1, False).scans
        )
        assert ("mask" in {reason.code for reason in reasons}) == doubted, reasons
        assert not doubted or status in (DOUBTFUL, REFUSED)
