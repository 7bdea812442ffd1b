"""A DICOM folder of 500 files, imported, beside dcm2niix alone on the same files."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import dcm2niix
import numpy as np
import pytest
from dicom_phantoms import T1, T2, write_series

pytestmark = pytest.mark.benchmark

SLICES, SIDE = 250, 256


def test_500_files_beside_dcm2niix_alone(tmp_path: Path) -> None:
    folder = tmp_path / "dicom"
    random = np.random.default_rng(0)
    for number, tags in enumerate((T1, T2), 1):
        ramp = np.linspace(0, 900, SIDE)[:, None] + np.linspace(0, 300, SIDE)
        noise = random.normal(0, 25, (SLICES, SIDE, SIDE))  # noise as in an MR image, so that packing takes its time
        write_series(folder / str(number), tags, voxels=(ramp + noise).clip(0).astype(np.int16), number=number)
    took: dict[str, list[float]] = {"cirrnb import-dicom": [], "dcm2niix": []}
    for turn in range(3):
        own = [sys.executable, "-c", "from cirrnb.cli import main; main()", "import-dicom", str(folder)]
        took["cirrnb import-dicom"].append(_seconds([*own, str(tmp_path / f"own{turn}")]))
        (tmp_path / f"alone{turn}").mkdir()
        took["dcm2niix"].append(_seconds([dcm2niix.bin, "-z", "i", "-o", str(tmp_path / f"alone{turn}"), str(folder)]))
    ours, alone = (sorted(seconds)[1] for seconds in took.values())
    print(f"\n500 files: cirrnb {ours:.2f} s, dcm2niix -z i alone {alone:.2f} s, ratio {ours / alone:.2f}; {took}")
    assert ours / alone < 1.5


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began
