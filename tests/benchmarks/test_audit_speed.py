"""What auditing costs beside unpacking each file once, and in memory, on scans of the largest published kind."""

from __future__ import annotations

import gzip
import shutil
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
from threadpoolctl import threadpool_limits

from cirrnb.data.auditing.audit import audit
from cirrnb.data.scan import Cohort, Scan

pytestmark = pytest.mark.benchmark

SHAPE = (480, 480, 150)
AFFINE = np.diag((-0.78, -0.78, 1.75, 1.0))
SCANS = 6


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Six scans with masks; what is in them does not matter to the time they take."""
    folder = tmp_path_factory.mktemp("scans")
    x, y, z = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((x - 240) / 180) ** 2 + ((y - 240) / 130) ** 2 + 0 * z < 1
    liver = ((x - 160) / 60) ** 2 + ((y - 220) / 60) ** 2 + ((z - 75) / 50) ** 2 < 1
    image = np.where(body, 400, 0) + np.where(liver, 200, 0)
    image = np.abs(image + 15 * np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32))
    nib.save(nib.Nifti1Image(image.astype(np.int16), AFFINE), folder / "image.nii.gz")
    nib.save(nib.Nifti1Image(liver.astype(np.uint8), AFFINE), folder / "mask.nii.gz")
    scans = []
    for number in range(SCANS):
        names = [folder / f"{number}_{what}.nii.gz" for what in ("image", "mask")]
        for name, what in zip(names, ("image", "mask"), strict=True):
            shutil.copy(folder / f"{what}.nii.gz", name)
        scans.append(Scan(str(number), "T1W", names[0], names[1]))
    return Cohort(tuple(scans))


def unpack(cohort: Cohort) -> None:
    for scan in cohort.scans:
        for path in (scan.image, scan.mask):
            gzip.decompress(Path(path).read_bytes())  # type: ignore[arg-type]


def test_auditing_costs_at_most_twice_unpacking(cohort: Cohort) -> None:
    times: dict[str, list[float]] = {"unpacking": [], "auditing": []}
    with threadpool_limits(1):
        audit(cohort, workers=1, progress=False)  # imports
        for _ in range(3):
            for name, work in (("unpacking", unpack), ("auditing", lambda one: audit(one, workers=1, progress=False))):
                begin = time.process_time()
                work(cohort)
                times[name].append(time.process_time() - begin)
    unpacking, auditing = (min(taken) / SCANS for taken in times.values())
    print(f"\na scan: unpacking {unpacking:.2f} s, auditing {auditing:.2f} s: {auditing / unpacking:.2f} times")
    assert auditing <= 2 * unpacking


def test_two_workers_stay_under_a_gigabyte(cohort: Cohort) -> None:
    peak, done = 0, threading.Event()
    own = psutil.Process()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            memory = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    memory += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, memory)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        found = audit(cohort, workers=2, progress=False)
    finally:
        done.set()
        watcher.join()
    assert found.scans.problem.isna().all()
    print(f"\ntwo workers and their caller: {peak / 1e6:.0f} MB at most")
    assert peak < 1e9
