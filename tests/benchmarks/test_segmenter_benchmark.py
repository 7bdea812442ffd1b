"""How well the segmenter finds organs: simulated patients, another simulator's, and real scans; time and memory.

CIRRNB_BENCHMARK names a folder in which cohorts and rows are kept; CIRRNB_EXTERNAL_DATA the real files. Patients by
CIRRNB_BENCHMARK_PATIENTS (default 60; the documentation says how many stand behind a figure). CIRRNB_FOREIGN names a
cohort of another simulator in the published layout. CIRRNB_SCORING=1 reads the seven scans kept for scoring: each
time is one scoring and goes into docs/real_scorings.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.nifti.reading import read_volume
from cirrnb.segmentation.segmenter import EXPECTED_ASCITES, Segmentation, Segmenter
from cirrnb.simulation.cohort import simulate_cohort
from cirrnb.simulation.tissue_shares import LIVER, ORGANS

pytestmark = pytest.mark.benchmark

SEED = 3301
"""Of simulated patients that no training has seen: trainings draw other bodies, from other random numbers."""
DEVELOP, SCORE = (1, 2, 3), (5, 8, 10, 13, 15, 19, 20)
SOME_ASCITES = 50.0
"""mL from which a patient has ascites."""


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    folder = os.environ.get("CIRRNB_SEGMENTER")
    return Segmenter.load(folder) if folder else Segmenter.load()


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b)))


def with_interval(values: pd.Series) -> str:
    low, high = np.quantile(
        [values.sample(frac=1, replace=True, random_state=seed).mean() for seed in range(1000)], (0.025, 0.975)
    )
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f}), least {values.min():.2f}, n {len(values)}"


def kept(path: Path, rows: Iterator[dict[str, Any]]) -> pd.DataFrame:
    """Rows from a file, or made and written into it one by one, so that a stopped run goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = path.read_text().splitlines() if path.is_file() else []
    with path.open("a") as file:
        for number, row in enumerate(rows):
            if number >= len(done):
                file.write(json.dumps(row) + "\n")
                file.flush()
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


def measured(found: Segmentation, truth: np.ndarray) -> dict[str, float]:
    voxel = found.grid.voxel_volume / 1000
    row = {"dice liver": dice(found.liver, np.isin(truth, LIVER)), "truth liver": np.isin(truth, LIVER).sum() * voxel}
    for label, name in enumerate(ORGANS, start=1):
        row[f"dice {name}"] = dice(found.labels == label, truth == label)
        row[f"truth {name}"] = (truth == label).sum() * voxel
    row["expected ascites"] = found.observed[EXPECTED_ASCITES]
    return {name: float(value) for name, value in row.items()} | {f"found {k}": v for k, v in found.volumes.items()}


def home(tmp_path: Path) -> Path:
    return Path(os.environ.get("CIRRNB_BENCHMARK") or tmp_path)


def test_simulated_patients(segmenter: Segmenter, tmp_path: Path) -> None:
    patients = int(os.environ.get("CIRRNB_BENCHMARK_PATIENTS", 60))
    folder = home(tmp_path) / f"organs-{patients}"
    simulate_cohort(folder, patients=patients, seed=SEED, organs=True)

    def rows() -> Iterator[dict[str, Any]]:
        for scan in read_cohort(folder).scans:
            truth, _ = read_volume(folder / "organs" / scan.source / scan.sequence / scan.image.name)
            found = segmenter.segment(*read_volume(scan.image))
            yield {"scan": scan.name, "sequence": scan.sequence, **measured(found, truth)}

    table = kept(home(tmp_path) / f"segmenter-{segmenter.fingerprint[:8]}-{patients}.jsonl", rows())
    print(f"\n{segmenter.drawn_by}, {patients} simulated patients of seed {SEED}")
    for sequence in ("T1W", "T2W"):
        part = table[table.sequence == sequence]
        for name in ("liver", "spleen", "caudate", "kidneys", "gallbladder", "aorta", "portal and splenic vein"):
            values = part[f"dice {name}"][part[f"truth {name}"] > 0]
            print(f"  {sequence} Dice {name}: {with_interval(values)}")
        ill = part[part["truth ascites"] > SOME_ASCITES]
        print(f"  {sequence} Dice ascites above {SOME_ASCITES:.0f} mL: {with_interval(ill['dice ascites'])}")
        false = part["found ascites"][part["truth ascites"] <= 0]
        told = f"mean {false.mean():.1f}, most {false.max():.0f}, n {len(false)}"
        print(f"  {sequence} ascites found where there is none, mL: {told}")
        for name in ("liver", "spleen"):
            print(f"  {sequence} volume of {name}, rank correlation: {rank(part, name):.3f}")
        ratios = [part[f"{kind} caudate"] / part[f"{kind} right lobe"] for kind in ("found", "truth")]
        print(f"  {sequence} caudate-to-right-lobe ratio, rank correlation: {spearmanr(*ratios)[0]:.3f}")
        print(f"  {sequence} volume of ascites, rank correlation: {rank(ill, 'ascites'):.3f}, n {len(ill)}")
        present = (part["truth ascites"] > SOME_ASCITES).astype(int)
        print(f"  {sequence} presence of ascites, AUROC: {roc_auc_score(present, part['expected ascites']):.3f}")
    assert len(table) == len(read_cohort(folder).scans)


def rank(part: pd.DataFrame, name: str) -> float:
    return float(spearmanr(part[f"found {name}"], part[f"truth {name}"])[0])


def test_patients_of_another_simulator(segmenter: Segmenter, tmp_path: Path) -> None:
    folder = os.environ.get("CIRRNB_FOREIGN")
    if not folder:
        pytest.skip("CIRRNB_FOREIGN is not set")

    def rows() -> Iterator[dict[str, Any]]:
        for scan in read_cohort(folder).scans:
            assert scan.mask is not None
            found = segmenter.segment(*read_volume(scan.image))
            yield {"sequence": scan.sequence, "dice": dice(found.liver, read_volume(scan.mask)[0] > 0)}

    table = kept(home(tmp_path) / f"segmenter-{segmenter.fingerprint[:8]}-{Path(folder).name}.jsonl", rows())
    for sequence, part in table.groupby("sequence"):
        print(f"\n  another simulator, {sequence}, Dice liver: {with_interval(part['dice'])}")


def real() -> Path:
    folder = os.environ.get("CIRRNB_EXTERNAL_DATA")
    if not folder:
        pytest.skip("CIRRNB_EXTERNAL_DATA is not set")
    return Path(folder)


def test_real_scans(segmenter: Segmenter) -> None:
    folder = real() / "totalsegmentator_mr"
    volume, grid = read_volume(folder / "example_mr_sm.nii.gz")
    truth, _ = read_volume(folder / "example_seg_mr.nii.gz")
    found = segmenter.segment(volume, grid)
    organs = {"liver": 5, "spleen": 1, "kidneys": (2, 3), "gallbladder": 4, "portal and splenic vein": 25}
    values = {name: dice(found.organ(name), np.isin(truth, labels)) for name, labels in organs.items()}
    print(
        f"\n{segmenter.drawn_by}\n  T1W, n = 1: " + ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    )
    for role, numbers in (("develop", DEVELOP), ("score", SCORE if os.environ.get("CIRRNB_SCORING") == "1" else ())):
        rows = []
        for number in numbers:
            volume, grid = read_volume(real() / "chaos_t2" / f"image_{number}.nii.gz")
            truth, _ = read_volume(real() / "chaos_t2" / f"label_{number}.nii.gz")
            found = segmenter.segment(volume, grid)
            organs = {"liver": 1, "kidneys": (2, 3), "spleen": 4}
            rows.append({name: dice(found.organ(name), np.isin(truth, labels)) for name, labels in organs.items()})
            print(f"  T2W {role} {number}: " + ", ".join(f"{name} {value:.2f}" for name, value in rows[-1].items()))
        if rows:
            print(f"  T2W {role}, mean of {len(rows)}: {pd.DataFrame(rows).mean().round(3).to_dict()}")


TIMED = """
import resource, sys, time
import numpy as np
from cirrnb.data.grid import Grid
from cirrnb.segmentation.segmenter import Segmenter
shape, spacing = eval(sys.argv[1]), eval(sys.argv[2])
volume = np.random.default_rng(0).integers(0, 2000, shape).astype(np.int16)
grid = Grid(shape, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))
segmenter = Segmenter.load()
before, wall = time.process_time(), time.perf_counter()
segmenter.segment(volume, grid)
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(time.process_time() - before, time.perf_counter() - wall, most)
"""


@pytest.mark.parametrize(
    ("name", "shape", "spacing"),
    [
        ("256 x 256 x 80", (256, 256, 80), (1.5, 1.5, 3.0)),
        ("small, T1W", (176, 130, 47), (2.0, 2.0, 4.9)),
        ("small, T2W", (176, 130, 31), (2.0, 2.0, 7.5)),
        ("512 x 512 x 160", (512, 512, 160), (0.75, 0.75, 1.5)),
    ],
)
def test_time_and_memory(name: str, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    runs = []
    for _ in range(3):
        words = [sys.executable, "-P", "-c", TIMED, repr(shape), repr(spacing)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        runs.append([float(value) for value in done.stdout.split()])
    core, wall, memory = np.min(runs, axis=0)
    print(f"\n  {name}: {core:.1f} core-seconds, {wall:.1f} s, {memory:.2f} GB at most, libraries included")
    assert core > 0
