"""Simulated patients, those of another simulator and real scans on the axis of the out-of-distribution score.

`python docs/likeness.py FEATURES` draws docs/likeness.png, with the extra [test] and chromium. FEATURES is a folder
that `cirrnb fit-checks OUT` left in OUT/features; what is shown beyond it is kept there too. CIRRNB_EXTERNAL_DATA names
real scans, those that may be developed on; CIRRNB_FOREIGN a cohort of another simulator. Nothing here sets a limit.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright
from plotly.subplots import make_subplots
from screenshots import HERE, PATIENCE

from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.sequences import T1W_T2W
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.segmentation.unusual import Familiarity, read_familiarity
from cirrnb.segmentation.weights import shipped_folder
from cirrnb.view.theme import ACCENT, MUTED, finish

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
    familiarity = read_familiarity(shipped_folder(), segmenter.fingerprint)
    assert familiarity is not None, "nothing fitted for this segmenter"
    _complete(folder, segmenter)
    figure = drawn(familiarity, folder)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"]).new_page(
            viewport={"width": 1080, "height": 760}
        )
        file = Path(place) / "page.html"
        file.write_text(figure.to_html(include_plotlyjs=True, config={"displayModeBar": False}), encoding="utf-8")
        page.goto(file.as_uri(), timeout=PATIENCE)
        page.locator(".main-svg .scatterlayer").first.wait_for(timeout=PATIENCE)
        page.locator(".js-plotly-plot").screenshot(path=HERE / "likeness.png")


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
            if str(kept["sequence"]) == sequence and len(kept["features"]):
                yield path.stem.partition("-")[2], kept["features"]


def drawn(familiarity: Familiarity, folder: Path) -> go.Figure:
    """A row a group, a dot a scan, the limits as lines; a panel for each sequence."""
    figure = make_subplots(rows=1, cols=2, subplot_titles=T1W_T2W, shared_yaxes=True, horizontal_spacing=0.03)
    random = np.random.default_rng(0)
    for column, sequence in enumerate(T1W_T2W, start=1):
        usual = familiarity.usual[sequence]
        for row, (words, kind, colour) in enumerate(GROUPS):
            found = list(features(folder, kind, sequence))
            distances = [usual.distance(one) for _, one in found]
            beyond, far = (sum(one > limit for one in distances) for limit in (1.0, usual.far))
            print(f"{sequence} {words}: n {len(found)}, {beyond} beyond usual, of them {far} far")
            print(
                "   ", ", ".join(f"{name} {distance:.2f}" for (name, _), distance in zip(found, distances, strict=True))
            )
            few = len(found) <= 12
            spread = (
                np.linspace(-0.36, 0.36, len(found))
                if few and len(found) > 1
                else random.uniform(-0.3, 0.3, len(found))
            )
            figure.add_scatter(
                x=distances, y=row + spread, mode="markers+text" if few else "markers", showlegend=False,
                text=[f" {name}" for name, _ in found] if few else None, textposition="middle right",
                textfont={"size": 10, "color": MUTED},
                marker={"color": colour, "size": 7 if few else 4, "opacity": 0.9 if few else 0.6},
                row=1, col=column,
            )  # fmt: skip
            figure.add_annotation(
                x=0, y=row, xref=f"x{column if column > 1 else ''} domain", yref="y", text=f"n {len(found)}",
                showarrow=False, xanchor="left", font={"size": 11, "color": MUTED},
            )  # fmt: skip
        for at, words in ((1.0, "unusual"), (usual.far, "far")):
            figure.add_vline(x=at, line={"color": MUTED, "dash": "dot"}, row=1, col=column)
            figure.add_annotation(
                x=at, y=len(GROUPS) - 0.5, xref=f"x{column if column > 1 else ''}", yref="y", text=f"{words} ▸",
                showarrow=False, xanchor="left", font={"size": 11, "color": MUTED},
            )  # fmt: skip
        figure.update_xaxes(title_text="distance (1: limit of usual)", range=[0.3, 2.6], row=1, col=column)
    figure.update_yaxes(
        tickvals=list(range(len(GROUPS))), ticktext=[words for words, *_ in GROUPS], autorange="reversed"
    )
    figure = finish(figure, "How far scans lie from simulated ones", simulated=False, height=720)
    return figure.update_layout(width=1060, margin_t=80)


if __name__ == "__main__":
    main()
