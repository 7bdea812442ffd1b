"""Learning what is usual for a segmenter (`cirrnb.segmentation.unusual`): simulated bodies and patients, no real scan.

The features' mean and spread come from bodies like those of the segmenter's training. Limits come from bodies and
patients that no training has seen. Volumes with less than `LEAST` of liver in them take no part: of those the check of
presence speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.atomic_files import atomic_file
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputError
from cirrnb.data.locks import locked
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.workers import WorkerDied, in_parallel, processors
from cirrnb.segmentation.check_fitting import grid_of
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.segmentation.unusual import OutOfDistributionScore, fit_usual, save_score
from cirrnb.simulation.anatomy import Anatomy, load_anatomy
from cirrnb.simulation.rendering import render
from cirrnb.simulation.wide import build_wide

SEED = 77
"""Of the volumes that are drawn from bodies."""
TRAINED_BODIES = 600
"""Seeds of training's bodies run from 0 up to here; those that are fitted on are chosen among them."""
UNSEEN = 50_500
"""Seed of the first body that no training and no check has seen."""
LEAST = 150.0
"""mL of liver found in a volume, below which its features are means over too few voxels to say what is usual."""
FITTED_VOLUMES, HELD_VOLUMES = 2, 4
"""Volumes of each body, T1W and T2W in turn."""
Progress = Callable[[Iterator[Any], int], Iterator[Any]]


def fit_score(
    out: Path | str,
    patients: Path | str,
    segmenter: Path | str | None = None,
    *,
    bodies: int = 140,
    unseen: int = 15,
    anatomies: Path | str | None = None,
    progress: Progress = lambda items, total: items,
) -> OutOfDistributionScore:
    """Fit the out-of-distribution score of a segmenter into a folder; an interrupted call resumes from kept features.

    Parameters
    ----------
    patients : cohort of simulated patients that no training has seen, for the limits.
    segmenter : folder of a segmenter, by default the shipped one.
    bodies, unseen : simulated bodies to fit on, and further ones for the limits.
    anatomies : folder where bodies of training are kept already; None builds them.

    Raises
    ------
    InputError
        If the segmenter or the patients cannot be read, a worker ended, or another fit is at work in `out`.
    """
    out = Path(out)
    loaded = Segmenter.load(segmenter)
    common = {"network": str(segmenter) if segmenter else "", "out": str(out), "mark": loaded.fingerprint[:12]}
    common["anatomies"] = str(anatomies) if anatomies else ""
    chosen = np.random.default_rng(5).permutation(TRAINED_BODIES)[:bodies]
    jobs: list[dict[str, Any]] = [{**common, "body": int(number), "kind": "fit"} for number in chosen]
    jobs += [{**common, "body": UNSEEN + number, "kind": "held"} for number in range(unseen)]
    jobs += [
        {**common, "image": str(scan.image), "name": scan.name, "sequence": scan.sequence, "kind": "patients"}
        for scan in read_cohort(patients).scans
    ]
    with locked(out):
        by_group: dict[str, dict[str, list[NDArray]]] = {"fit": {}, "held": {}, "patients": {}}
        for place, outcome in progress(in_parallel(jobs, min(processors(), len(jobs)), __name__), len(jobs)):
            if isinstance(outcome, WorkerDied):
                raise InputError(out, str(outcome), "room and memory for it", "Start it again; it resumes.")
            for path in outcome["files"]:
                with np.load(path) as kept:
                    if len(kept["features"]) and kept["found"] >= LEAST:
                        by_group[jobs[place]["kind"]].setdefault(str(kept["sequence"]), []).append(kept["features"])
        usual = {
            name: fit_usual(
                np.array(by_group["fit"][name]), [np.array(by_group[group][name]) for group in ("held", "patients")]
            )
            for name in T1W_T2W
        }
        counts = {
            group: {name: len(rows) for name, rows in sorted(by_name.items())} for group, by_name in by_group.items()
        }
        score_model = OutOfDistributionScore(usual, loaded.fingerprint, counts)
        save_score(out, score_model)
    return score_model


_LOADED: dict[str, Segmenter] = {}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Features of a body's volumes or of a patient's scan, each kept in a file; returns their `files`."""
    if job["network"] not in _LOADED:
        _LOADED[job["network"]] = Segmenter.load(job["network"] or None)
    segmenter = _LOADED[job["network"]]
    folder = Path(job["out"]) / "features" / job["mark"]
    folder.mkdir(parents=True, exist_ok=True)
    if "image" in job:
        stem = f"patients-{job['name'].replace('/', '_').replace(' ', '-')}"
        return {"files": [_kept(folder / f"{stem}.npz", job["sequence"], segmenter, *read_volume(Path(job["image"])))]}
    count = FITTED_VOLUMES if job["kind"] == "fit" else HELD_VOLUMES
    files = [folder / f"{job['kind']}-{job['body']}-{drawing}.npz" for drawing in range(count)]
    if not all(path.is_file() for path in files):
        anatomy = _body(job)
        for drawing, path in enumerate(files):
            _draw(path, job["body"], drawing, segmenter, anatomy)
    return {"files": [str(path) for path in files]}


def _body(job: dict[str, Any]) -> Anatomy:
    path = Path(job["anatomies"]) / f"{job['body']:05d}.anatomy"
    return load_anatomy(path) if job["anatomies"] and path.is_file() else build_wide(job["body"])


def _draw(path: Path, body: int, drawing: int, segmenter: Segmenter, anatomy: Anatomy) -> None:
    random = np.random.default_rng([SEED, body, drawing])
    sequence = T1W_T2W[drawing % 2]
    slab = render(anatomy, random, int(random.integers(6, 16)), sequence)
    top, bottom, left, right = slab.field
    image = slab.image[:, top:bottom, left:right].numpy()
    _kept(path, sequence, segmenter, image, grid_of(image.shape, slab.spacing))


def _kept(path: Path, sequence: str, segmenter: Segmenter, *volume: Any) -> str:
    if not path.is_file():
        segmentation = segmenter.segment(*volume)
        features = np.zeros(0, np.float32) if segmentation.features is None else segmentation.features
        with atomic_file(path) as partial, partial.open("wb") as file:
            np.savez(file, features=features, sequence=sequence, found=segmentation.volumes["liver"])
    return str(path)
