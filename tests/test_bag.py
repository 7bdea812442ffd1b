"""The shift between two breaths is found again: by masks, and by the images alone."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cirrnb
from cirrnb.data import bag as module
from cirrnb.data.bag import Bag, estimate_shift
from cirrnb.data.grid import Grid
from cirrnb.data.prepared import PreparationSettings, PreparedScan
from cirrnb.data.scan import Scan

PREPARATION = PreparationSettings(spacing=4.0, field_of_view=(160.0, 192.0))
ROWS, COLUMNS = PREPARATION.size


class Drawn(PreparedScan):
    """A prepared scan whose arrays are given and lie in no folder."""

    image = mask = None


def scan(sequence: str, count: int, gap: float, shift: float, masked: bool, contrast: float = 1.0) -> PreparedScan:
    """A lopsided blob and a brighter ball within it, both `shift` mm further to the head; a wall that stays."""
    affine = np.array([[0, 0, -4.0, 94], [0, -4.0, 0, 78], [gap, 0, 0, -80], [0, 0, 0, 1]])
    grid = Grid((count, ROWS, COLUMNS), affine)
    z = (-80 + gap * np.arange(count))[:, None, None] - shift
    y, x = (
        np.arange(size)[shape] * 4.0 for size, shape in ((ROWS, np.s_[None, :, None]), (COLUMNS, np.s_[None, None]))
    )
    organ = ((z + 5) / np.where(z < -5, 50, 35)) ** 2 + ((y - 70) / 40) ** 2 + ((x - 90) / 60) ** 2 < 1
    ball = ((z - 8) / 14) ** 2 + ((y - 64) / 14) ** 2 + ((x - 80) / 14) ** 2 < 1
    wall = (np.abs(y - 80) > 68) | (np.abs(x - 96) > 84)
    levels = [0.3, 0.6, 0.9] if contrast > 0 else [0.8, 0.3, 0.5]
    image = np.select([wall & (z > -1e9), ball, organ], [0.7, levels[2], levels[1]], levels[0])
    image = image + np.random.default_rng(len(sequence) + count).normal(0, 0.03, image.shape)
    made = Drawn(Scan("1", sequence, Path("1.nii.gz")), Path("nowhere"), grid, grid, PREPARATION)
    made.__dict__["image"] = image.astype(np.float16)
    made.__dict__["mask"] = np.broadcast_to(organ, image.shape) if masked else None
    return made


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-25, 25), masked=st.booleans())
def test_a_known_shift_is_found_again(shift, masked):
    found = estimate_shift(scan("T1W", 40, 4.0, 0.0, masked), scan("T2W", 23, 7.0, shift, masked, contrast=-1))
    assert found == pytest.approx(shift, abs=1.0 if masked else 3.5)


def test_the_other_way_round_is_the_opposite():
    first, second = scan("T1W", 40, 4.0, 0.0, True), scan("T2W", 23, 7.0, 9.0, True)
    assert estimate_shift(first, second) == pytest.approx(-estimate_shift(second, first), abs=0.2)


def test_nothing_is_claimed_where_nothing_can_be_told():
    flat = scan("T1W", 40, 4.0, 0.0, False)
    flat.__dict__["image"] = np.zeros_like(flat.image)
    assert estimate_shift(flat, scan("T2W", 23, 7.0, 5.0, False)) == 0
    assert estimate_shift(scan("T1W", 2, 4.0, 0.0, True), scan("T2W", 23, 7.0, 5.0, True)) == 0
    assert Bag({"T2W": scan("T2W", 23, 7.0, 5.0, True)}).shifts == {"T2W": 0}


def test_a_shift_is_estimated_once_and_stored_for_these_very_scans(tmp_path, monkeypatch):
    cohort = cirrnb.simulate_cohort(
        tmp_path / "tiny", patients=3, seed=2, scale="tiny", healthy=0, workers=1, progress=False
    )

    def bag() -> Bag:
        ready = cirrnb.prepare(cohort, tmp_path / "prepared", workers=1, masks="given", progress=False)
        return next(bag for bag in ready.bags() if not bag.missing)

    pairs = []

    def counted(first: PreparedScan, second: PreparedScan) -> float:
        pairs.append((first.folder, second.folder))
        return estimate_shift(first, second)

    monkeypatch.setattr(module, "estimate_shift", counted)
    shifts = bag().shifts
    assert len(pairs) == 1 and shifts["T2W"] != 0
    assert bag().shifts == shifts and bag().only(["T1W", "T2W"]).shifts == shifts and len(pairs) == 1
    # A damaged file, or another scan under the same name, has no stored estimate.
    (stored,) = bag().scans["T2W"].folder.glob("shift-*.json")
    stored.write_text("{")
    assert bag().shifts == shifts and len(pairs) == 2
    path = bag().scans["T1W"].scan.image
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 9, image.affine), path)
    assert "T2W" in bag().shifts and len(pairs) == 3 and pairs[2] != pairs[0]
