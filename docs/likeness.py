"""Simulated patients, those of another simulator and real scans on the axis of the out-of-distribution score.

`python docs/likeness.py FEATURES` draws docs/likeness.png. FEATURES is a folder
that `cirrnb fit-checks OUT` left in OUT/features; what is shown beyond it is kept there too. CIRRNB_EXTERNAL_DATA names
real scans, those that may be developed on; CIRRNB_FOREIGN a cohort of another simulator. Nothing here sets a limit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.sequences import T1W_T2W
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.segmentation.unusual import OutOfDistributionScore, Usual, read_score
from cirrnb.segmentation.unusual_fitting import LEAST
from cirrnb.segmentation.weights import shipped_folder
from cirrnb.view.palette import ACCENT, INK

HERE = Path(__file__).resolve().parent

REAL = (
    ("T2W", "CHAOS 1", "chaos_t2/image_1.nii.gz"),
    ("T2W", "CHAOS 2", "chaos_t2/image_2.nii.gz"),
    ("T2W", "CHAOS 3", "chaos_t2/image_3.nii.gz"),
    ("T2W", "CMB-CRC", "cmb_crc/SCAN_001_t2_small.nii.gz"),
    ("T1W", "TotalSegmentator", "totalsegmentator_mr/example_mr_sm.nii.gz"),
    ("T1W", "ukat, coronal", "coronal_gre/magnitude.nii.gz"),
    ("T1W", "dome, 3 slices", "dome_gre/dome_gre.nii.gz"),
    *(("T1W", f"mdreg, {angle}°", f"vfa_liver/flip_{angle}.nii.gz") for angle in ("02", "15", "25")),
)
WRONG = (
    ("T1W", "CT as T1W", "not_an_mr/ct_liver.nii.gz"),
    ("T1W", "phase map as T1W", "coronal_gre/phase.nii.gz"),
    ("T1W", "field map as T1W", "coronal_gre/b0_map.nii.gz"),
    ("T2W", "head as T2W", "not_a_liver/head_t2.nii.gz"),
)
GROUPS = (
    ("wide generator, fitted on", "fit", "#9AA5B1"),
    ("wide generator, unseen", "held", ACCENT),
    ("benchmark, unseen", "patients", ACCENT),
    ("another simulator", "foreign", "#3A7D44"),
    ("real abdomens", "real", "#B45F06"),
    ("wrong input", "wrong", "#A6487B"),
)


def main() -> None:
    folder = Path(sys.argv[1])
    segmenter = Segmenter.load()
    score_model = read_score(shipped_folder(), segmenter.fingerprint)
    assert score_model is not None, "nothing fitted for this segmenter"
    _complete(folder, segmenter)
    drawn(score_model, folder).save(HERE / "likeness.png", optimize=True)


def _complete(folder: Path, segmenter: Segmenter) -> None:
    """Features of real scans and of the other simulator's, where they are not kept yet."""
    data, foreign = Path(os.environ["CIRRNB_EXTERNAL_DATA"]), Path(os.environ["CIRRNB_FOREIGN"])
    wanted = [
        (f"{kind}-{name}", sequence, data / file)
        for kind, files in (("real", REAL), ("wrong", WRONG))
        for sequence, name, file in files
    ]
    wanted += [
        (f"foreign-{scan.subject.replace('/', '_')}-{scan.sequence}", scan.sequence, scan.image)
        for scan in read_cohort(foreign).scans
    ]
    for stem, sequence, image in wanted:
        path = folder / f"{stem}.npz"
        if not path.is_file():
            volume, grid = read_volume(image)
            features = segmenter.segment(volume, grid).features
            np.savez(path, features=np.zeros(0, np.float32) if features is None else features, sequence=sequence)


def features(folder: Path, kind: str, sequence: str) -> Iterator[tuple[str, NDArray]]:
    """Name and features of the scans of a kind in which a liver was found."""
    for path in sorted(folder.glob(f"{kind}-*.npz")):
        with np.load(path) as kept:
            enough = kind not in ("fit", "held") or kept["found"] >= LEAST  # as for fitting
            if str(kept["sequence"]) == sequence and len(kept["features"]) and enough:
                yield path.stem.partition("-")[2], kept["features"]


WIDTH, ROW, LEFT, TOP, RANGE, FINER = 1120, 92, 190, 96, (0.3, 3.7), 3
"""Pixels of the picture, of a row, of the words left of the panels and above them; distances shown; supersampling."""


def drawn(score_model: OutOfDistributionScore, folder: Path) -> Image.Image:
    """A row a group, a dot a scan, the limits as lines; a panel for each sequence."""
    height = TOP + ROW * len(GROUPS) + 60
    picture = Image.new("RGB", (WIDTH * FINER, height * FINER), "white")
    pen = ImageDraw.Draw(picture)
    _words(pen, 16, 12, "How far scans lie from simulated ones: a dot a scan, 1 is the limit of usual", INK, 17)
    for row, (words, *_) in enumerate(GROUPS):
        _words(pen, 16, TOP + ROW * (row + 0.5) - 8, words, INK)
    panel = (WIDTH - LEFT - 20) // 2
    for column, sequence in enumerate(T1W_T2W):
        _panel(pen, LEFT + column * (panel + 10), panel, score_model.usual[sequence], folder, sequence)
    return picture.resize((WIDTH, height), Image.Resampling.LANCZOS)


def _panel(pen: ImageDraw.ImageDraw, left: float, width: float, usual: Usual, folder: Path, sequence: str) -> None:
    def across(distance: float) -> float:
        low, high = (np.log(limit) for limit in RANGE)
        return left + 10 + (width - 20) * float(np.clip((np.log(distance) - low) / (high - low), 0, 1))

    bottom = TOP + ROW * len(GROUPS)
    _words(pen, left + 10, 46, sequence, INK, 15)
    for at, words in ((1.0, "unusual"), (usual.far, "far")):
        _line(pen, across(at), TOP - 8, across(at), bottom, "#5B6770")
        _words(pen, across(at) + 3, TOP - (26 if words == "far" else 44), f"{words} from {at:.2g}", "#5B6770")
    for tick in (0.5, 1.0, 2.0, 3.0):
        _words(pen, across(tick) - 8, bottom + 10, f"{tick:g}", "#5B6770")
    random = np.random.default_rng(0)
    for row, (words, kind, colour) in enumerate(GROUPS):
        samples = list(features(folder, kind, sequence))
        distances = [usual.distance(vector) for _, vector in samples]
        beyond, far = (sum(distance > limit for distance in distances) for limit in (1.0, usual.far))
        print(f"{sequence} {words}: n {len(samples)}, {beyond} beyond usual, of them {far} far")
        middle = TOP + ROW * (row + 0.5)
        _line(pen, left, TOP + ROW * row, left + width, TOP + ROW * row, "#E4E7EB")
        _words(pen, left + 10, TOP + ROW * row + 4, f"n {len(samples)}", "#5B6770", 11)
        for place, ((name, _), distance) in enumerate(
            sorted(zip(samples, distances, strict=True), key=lambda pair: pair[1])
        ):
            named = len(samples) <= 12
            y = middle + (ROW * 0.8 * ((place + 0.5) / len(samples) - 0.5) if named else random.uniform(-26, 26))
            x, size = across(distance), 4 if named else 2.5
            pen.ellipse([FINER * edge for edge in (x - size, y - size, x + size, y + size)], fill=colour)
            if named:
                print(f"    {name} {distance:.2f}")
                _words(pen, x + 8, y - 7, name, "#1F2933", 11)


def _line(pen: ImageDraw.ImageDraw, x0: float, y0: float, x1: float, y1: float, colour: str) -> None:
    pen.line([FINER * value for value in (x0, y0, x1, y1)], fill=colour, width=FINER)


def _words(pen: ImageDraw.ImageDraw, x: float, y: float, words: str, colour: str, size: int = 13) -> None:
    pen.text((x * FINER, y * FINER), words, fill=colour, font=ImageFont.load_default(size * FINER))


if __name__ == "__main__":
    main()
