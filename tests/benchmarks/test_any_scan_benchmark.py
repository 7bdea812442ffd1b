"""What the four checks make of right and of wrong input: real scans, corrupted ones, patients of another simulator.

CIRRNB_EXTERNAL_DATA names the real files (those that may be developed on), CIRRNB_FOREIGN a cohort of another program,
of which CIRRNB_FOREIGN_PATIENTS are taken at random (seed 0).
Nothing here sets a threshold: those come from simulated patients (`cirrnb fit-checks`). Each kind of wrong input is
marked: "negative" if the like of it took part in training or fitting, "never seen" otherwise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.grid import Grid, Orientation
from cirrnb.data.nifti.reading import is_hounsfield, read_volume
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import Cohort, Scan
from cirrnb.preparation.cohort import prepare
from cirrnb.segmentation.check_fitting import run_job
from cirrnb.segmentation.checks import Check, Checker, worst
from cirrnb.segmentation.judging import checker_of
from cirrnb.segmentation.pairs import Labelled, compare
from cirrnb.segmentation.segmenter import Segmentation, Segmenter, clean
from cirrnb.segmentation.unusual import OutOfDistributionScore, read_score
from cirrnb.segmentation.weights import shipped_folder
from cirrnb.segmentation.working_grid import WorkingGrid
from cirrnb.simulation.body_parts import PARTS

pytestmark = pytest.mark.benchmark

CHAOS = tuple((f"chaos_t2/image_{number}.nii.gz", "T2W") for number in (1, 2, 3))
RIGHT = (
    *CHAOS,
    ("cmb_crc/SCAN_001_t2_small.nii.gz", "T2W"),
    ("totalsegmentator_mr/example_mr_sm.nii.gz", "T1W"),
    ("coronal_gre/magnitude.nii.gz", "T1W"),
)
PART = (
    ("dome_gre/dome_gre.nii.gz", "T1W"),
    *((f"vfa_liver/flip_{angle}.nii.gz", "T1W") for angle in ("02", "15", "25")),
)


@dataclass(frozen=True)
class Case:
    """A volume, what it is declared as, and what is wrong with it."""

    kind: str
    seen: str
    name: str
    volume: NDArray
    grid: Grid
    declared: str


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("CIRRNB_EXTERNAL_DATA")
    if not folder:
        pytest.skip("CIRRNB_EXTERNAL_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.load(os.environ.get("CIRRNB_SEGMENTER"))


@pytest.fixture(scope="module")
def checker(segmenter: Segmenter) -> Checker:
    folder = Path(os.environ.get("CIRRNB_SEGMENTER") or shipped_folder())
    found = checker_of(folder, segmenter.fingerprint)
    assert found is not None, "no checks for this segmenter"
    return found


def told(checks: list[Check]) -> str:
    scores = ", ".join(f"{check.name} {check.score:.1f}" for check in checks)
    failed = ", ".join(f"{check.name} {check.outcome}" for check in checks if check.outcome != "passed")
    return f"{worst(checks):9} ({scores})" + (f": {failed}" if failed else "")


def test_right_input(data: Path, segmenter: Segmenter, checker: Checker) -> None:
    for role, files in (("whole livers", RIGHT), ("parts of livers", PART)):
        print(f"\n{role}")
        for name, declared in files:
            found = segmenter.segment(*read_volume(data / name))
            print(
                f"  {name}: {told(checker.check_scan(found.observed, declared))}; cut off: {', '.join(found.cut_off)}"
            )


def test_wrong_input(data: Path, segmenter: Segmenter, checker: Checker) -> None:
    counts: dict[tuple[str, str], list[str]] = {}
    for case in wrong(data):
        if is_hounsfield(np.asarray(case.volume, np.float32)):
            counts.setdefault((case.kind, case.seen), []).append("refused")
            print(f"  {case.kind} [{case.seen}] {case.name}: refused when it is read")
            continue
        found = segmenter.segment(case.volume, case.grid)
        checks = checker.check_scan(found.observed, case.declared)
        counts.setdefault((case.kind, case.seen), []).append(worst(checks))
        print(f"  {case.kind} [{case.seen}] {case.name}: {told(checks)}")
    print("\n| kind | in training | n | refused | doubtful | passed |\n|---|---|---|---|---|---|")
    for (kind, seen), outcomes in counts.items():
        row = [str(outcomes.count(outcome)) for outcome in ("refused", "doubtful", "passed")]
        print(f"| {kind} | {seen} | {len(outcomes)} | {' | '.join(row)} |")
    assert sum(map(len, counts.values())) >= 30 and len(counts) >= 12


def wrong(data: Path) -> Iterator[Case]:
    """Volumes that are no liver, or not what they are declared as."""
    head = read_volume(data / "not_a_liver/head_t2.nii.gz")
    for declared in ("T1W", "T2W"):
        yield Case("head, real", "negative", declared, *head, declared)
        for kind, name in (("phase map, real", "phase"), ("field map, real", "b0_map")):
            yield Case(kind, "never seen", declared, *read_volume(data / f"coronal_gre/{name}.nii.gz"), declared)
        yield Case("ADC map, real", "negative", declared, *adc(data), declared)
        volume, grid = read_volume(data / "not_an_mr/ct_liver.nii.gz")
        for offset in (0.0, 1024.0, 5000.0):
            yield Case("CT, real", "negative", f"{declared}, offset {offset:.0f}", volume + offset, grid, declared)
    for name, sequence in RIGHT[:5]:
        volume, grid = read_volume(data / name)
        other = "T1W" if sequence == "T2W" else "T2W"
        yield Case("declared as the other sequence, real", "negative", name, volume, grid, other)
        for kind, axis in (("mirrored, real", 2), ("front to back, real", 1), ("upside down, real", 0)):
            yield Case(kind, "never seen", name, flipped(volume, grid, axis), grid, sequence)
        for kind, change in CORRUPTIONS.items():
            yield Case(kind, "never seen", name, change(volume), grid, sequence)
    random = np.random.default_rng(0)
    shape = (110, 90, 20)
    grid = Grid(shape, np.diag([-3.0, -3.0, 7.0, 1.0]))
    for number in range(3):
        smooth = ndimage.gaussian_filter(random.standard_normal(shape), (6, 6, 2))
        yield Case(
            "noise", "negative", str(number), np.abs(random.standard_normal(shape)).astype(np.float32), grid, "T1W"
        )
        yield Case(
            "smooth random field", "never seen", str(number), (smooth - smooth.min()).astype(np.float32), grid, "T2W"
        )
    checks = (np.indices(shape) // 12).sum(axis=0) % 2
    yield Case("chessboard", "never seen", "", checks.astype(np.float32), grid, "T1W")


def _spectrum(volume: NDArray) -> NDArray:
    axes = tuple(int(axis) for axis in np.argsort(volume.shape)[1:])
    return np.log1p(np.abs(np.fft.fftshift(np.fft.fft2(volume, axes=axes), axes=axes))).astype(np.float32)


CORRUPTIONS: dict[str, Callable[[NDArray], NDArray]] = {
    "negative of an abdomen": lambda volume: float(volume.max()) - volume,
    "edges of an abdomen": lambda volume: ndimage.gaussian_gradient_magnitude(volume.astype(np.float32), 1.0),
    "raw data of an abdomen": _spectrum,
}


def flipped(volume: NDArray, grid: Grid, axis: int) -> NDArray:
    """The volume turned along slices (0), rows (1) or columns (2), its header left as it is."""
    return np.flip(volume, Orientation.of(grid).axes[axis])


def adc(data: Path) -> tuple[NDArray, Grid]:
    pydicom = pytest.importorskip("pydicom")
    slices = [pydicom.dcmread(path) for path in sorted((data / "cmb_crc/dicom_SCAN_001_adc").glob("*.dcm"))]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    volume = np.stack([one.pixel_array.T for one in slices], axis=-1).astype(np.float32)
    step = float(slices[1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2])
    rows, columns = (float(value) for value in slices[0].PixelSpacing)
    return volume, Grid(volume.shape, np.diag([-columns, -rows, step, 1.0]))


def test_pairs(data: Path, segmenter: Segmenter, checker: Checker) -> None:
    found = []
    for name, _ in RIGHT[:5]:
        volume, grid = read_volume(data / name)
        found.append((name, Labelled(volume, segmenter.segment(volume, grid).labels, grid)))
    print("\ntwo people, and one image twice; of no real person are both sequences at hand")
    for place, (name, first) in enumerate(found):
        for other, second in found[place:]:
            check = checker.check_pair(compare(first, second))
            print(f"  {name} with {'itself' if first is second else other}: {check.outcome} ({check.score:.1f})")


def test_patients_of_another_simulator(segmenter: Segmenter, checker: Checker) -> None:
    folder = os.environ.get("CIRRNB_FOREIGN")
    if not folder:
        pytest.skip("CIRRNB_FOREIGN is not set")
    patients: dict[str, list[tuple[Segmentation, list[Check], Labelled]]] = {}
    cohort = read_cohort(folder)
    names = list(dict.fromkeys(scan.subject for scan in cohort.scans))
    most = int(os.environ.get("CIRRNB_FOREIGN_PATIENTS", len(names)))
    chosen = {names[place] for place in np.random.default_rng(0).permutation(len(names))[:most]}
    for scan in cohort.scans:
        if scan.subject not in chosen:
            continue
        volume, grid = read_volume(scan.image)
        seen = segmenter.segment(volume, grid)
        checks = checker.check_scan(seen.observed, scan.sequence)
        patients.setdefault(scan.subject, []).append((seen, checks, Labelled(volume, seen.labels, grid)))
    outcomes, failed = [], {}
    for scans in patients.values():
        checks = [check for _, found, _ in scans for check in found]
        if len(scans) == 2:
            checks.append(checker.check_pair(compare(scans[0][2], scans[1][2])))
        outcomes.append(worst(checks))
        for check in checks:
            if check.outcome != "passed":
                failed[check.name, check.outcome] = failed.get((check.name, check.outcome), 0) + 1
    count = {outcome: outcomes.count(outcome) for outcome in ("refused", "doubtful", "passed")}
    print(f"\npatients of another simulator, n = {len(outcomes)}: {count}; by check {failed}")


UNSEEN = 80
"""First body whose other parts took no part in the shipped fit."""


def test_other_parts_of_a_body(segmenter: Segmenter, checker: Checker, tmp_path: Path) -> None:
    """What the check of presence makes of simulated parts that it was not fitted on; CIRRNB_PARTS draws of four."""
    common = {"network": os.environ.get("CIRRNB_SEGMENTER", ""), "fingerprint": segmenter.fingerprint}
    draws = range(UNSEEN, UNSEEN + int(os.environ.get("CIRRNB_PARTS", 70)))
    rows = [row for number in draws for row in run_job({**common, "out": str(tmp_path), "parts": number})["rows"]]
    print("\n| part | n | with some liver found | refused | doubtful | passed |\n|---|---|---|---|---|---|")
    for name in (*PARTS, "all"):
        mine = [row for row in rows if name in (row["part"], "all")]
        outcomes = [checker.check_scan(row, "T1W")[0].outcome for row in mine]
        row = [str(outcomes.count(outcome)) for outcome in ("refused", "doubtful", "passed")]
        print(f"| {name} | {len(mine)} | {sum(np.isfinite(one['probability']) for one in mine)} | {' | '.join(row)} |")


LABELLED = (
    *((f"chaos_t2/image_{number}.nii.gz", f"chaos_t2/label_{number}.nii.gz", 1, "T2W") for number in (1, 2, 3)),
    ("totalsegmentator_mr/example_mr_sm.nii.gz", "totalsegmentator_mr/example_seg_mr.nii.gz", 5, "T1W"),
)
"""Image, labels, the label of the liver, sequence."""


def test_the_view_holds_the_whole_liver(data: Path, tmp_path: Path) -> None:
    """Share of the true liver outside the view that the program's mask gives, and how much larger the view is."""
    ratios = []
    print("\nview on the liver, masks by the program; the box is that of the true liver")
    for name, labels, number, sequence in LABELLED:
        scan = Scan(Path(name).name, sequence, data / name)
        (found,) = prepare(Cohort((scan,)), tmp_path, PreparationSettings(view="liver"), force=True, workers=1).scans
        truth, grid = read_volume(data / labels)
        places = grid.to_patient(np.argwhere(truth == number))
        index = np.linalg.solve(found.grid.affine, np.c_[places, np.ones(len(places))].T)[:3].T
        inside = ((index > -0.5) & (index < np.array(found.grid.shape) - 0.5)).all(axis=1)
        box = (index.max(axis=0) - index.min(axis=0) + 1) * found.grid.spacing
        view = np.array(found.grid.shape) * found.grid.spacing
        ratios.append(float(np.prod(view) / np.prod(box)))
        print(
            f"  {name}: {100 * (1 - inside.mean()):.2f} % outside; view {view.round()} mm, box {box.round()} mm, "
            f"{ratios[-1]:.2f} times its volume, {np.prod(view[1:]) / np.prod(box[1:]):.2f} times its area"
        )
    print(f"  median ratio of volumes {np.median(ratios):.2f}, n = {len(ratios)}")


def test_time_of_all_checks(data: Path, segmenter: Segmenter, checker: Checker) -> None:
    """Seconds a scan beyond drawing the organs: what is observed (mirrored and turned too), features around the liver,
    the four checks and the distance. Aim: 1 s on two cores; processor time tells it on a busy machine."""
    score_model = read_score(shipped_folder(), segmenter.fingerprint)
    rows = []
    labelled = []
    for name, declared in (*CHAOS, *RIGHT[3:5]):
        volume, grid = read_volume(data / name)
        segmenter.segment(volume, grid)  # the first call warms up
        whole = _seconds(lambda: segmenter.segment(volume, grid))  # noqa: B023
        bare = _seconds(lambda: _only_drawn(segmenter, volume, grid))  # noqa: B023
        found = segmenter.segment(volume, grid)
        judged = _seconds(lambda: _judged(checker, score_model, found, declared))  # noqa: B023
        labelled.append(Labelled(volume, found.labels, grid))
        rows.append([name, len(volume), *(whole[place] - bare[place] + judged[place] for place in (0, 1))])
    pair = _seconds(lambda: compare(labelled[0], labelled[1]))
    print(f"\npair of scans: {pair[0]:.2f} s, {pair[1]:.2f} s of processor")
    for name, _, wall, busy in rows:
        print(f"{name}: {wall:.2f} s, {busy:.2f} s of processor")
    assert all(np.isfinite(row[2:]).all() for row in rows)


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time, the least of three."""
    found = []
    for _ in range(3):
        wall, busy = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - wall, time.process_time() - busy))
    return min(one[0] for one in found), min(one[1] for one in found)


def _only_drawn(segmenter: Segmenter, volume: NDArray, grid: Grid) -> None:
    """Organs without anything that a check wants."""
    turned = Orientation.of(grid)
    working = WorkingGrid.of(turned.grid(grid))
    working.enlarge(clean(segmenter.probabilities(working.reduce(turned.apply(volume)))))


def _judged(checker: Checker, score_model: OutOfDistributionScore | None, found: Segmentation, declared: str) -> None:
    checker.check_scan(found.observed, declared)
    if score_model is not None:
        score_model.score(found.features, declared)
