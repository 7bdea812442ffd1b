"""Fitting of the four checks on simulated populations that no training has seen.

Thresholds stand on bodies and patients that took no part in the fit they are scored by. Negatives of presence are
simulated too: slabs without a liver, other parts of a body, phantoms, noise; those in which some liver was found, by
mistake, count. Real scans take no part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.locks import locked
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.workers import WorkerDied, in_parallel, processors
from cirrnb.segmentation.checks import ANY, CHECKS, PRESENCE, UPSIDE_DOWN, Checker, Linear, save_checker
from cirrnb.segmentation.observations import numbers
from cirrnb.segmentation.pairs import PAIR, Labelled, compare
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.segmentation.sequence_model import (
    BOUND,
    KNOWN,
    OTHER,
    SEQUENCE,
    Additive,
    Likeness,
    SequenceModel,
    contrasts,
    expanded,
    likenesses,
    placed,
)
from cirrnb.simulation.body_parts import PARTS, render_part
from cirrnb.simulation.cohort import simulate_cohort
from cirrnb.simulation.contrast import OTHER_CONTRASTS
from cirrnb.simulation.rendering import PIXEL, Slab, render, render_other
from cirrnb.simulation.tissue_shares import LIVER
from cirrnb.simulation.wide import build_wide

FIRST_BODY = 50_000
"""Seeds of the bodies; trainings draw theirs from 0 up."""
PAIR_SEED = 4101
"""Of the simulated patients whose two scans are compared."""
NOTHING = "nothing"
"""Kind of a volume without an abdomen."""
RENDERINGS = (*("T1W", "T2W", OTHER, NOTHING) * 2, *(OTHER, "T1W", "T2W") * 2, *(OTHER,) * 6)
"""Volumes drawn from each body: the others are of many kinds, hence more of them."""
PARTS_EACH = 4
"""Other parts of a body observed with each body, by turns."""
FOLDS = 5
"""Parts of bodies and patients for the thresholds."""
SOME, NONE = 300.0, 15.0
"""mL of liver in a volume from which it is there, and below which it is not."""
REFUSED, DOUBTED = 0.0025, 0.01
"""Share of right input that each check refuses, and that it doubts or refuses."""

NARROWNESS, STRENGTH = 0.05, 10.0
"""Of the likeness to simulated scans, and the inverse of its penalty; from the flat part of a cross-validation
over bodies, with each kind of other contrast left out in turn."""

AGAINST = -3.9
"""Nothing is refused for odds of less than 50 to 1 against it, however rare they are among simulated patients."""
Rows = list[dict[str, Any]]
Numbers = NDArray[np.float64]
Progress = Callable[[Iterator[Any], int], Iterator[Any]]


def fit_checks(
    out: Path | str,
    segmenter: Path | str | None = None,
    *,
    bodies: int = 80,
    patients: int = 60,
    progress: Progress = lambda items, total: items,
) -> Checker:
    """Fit the checks of a segmenter into a folder: checks.json, and what was observed, so that a stopped call resumes.

    Parameters
    ----------
    segmenter : folder of a segmenter, by default the shipped one.
    bodies : simulated bodies, a volume for each of `RENDERINGS`, and `PARTS_EACH` other parts of a body with each.
    patients : simulated patients, for the pairs.

    Raises
    ------
    InputError
        If the segmenter cannot be read, a worker ended, or another fit is at work in `out`.
    """
    out = Path(out)
    loaded = Segmenter.load(segmenter)
    common = {"network": str(segmenter) if segmenter else "", "fingerprint": loaded.fingerprint, "out": str(out)}
    with locked(out):
        simulate_cohort(out / "patients", patients=patients, seed=PAIR_SEED)
        names = sorted({scan.subject for scan in read_cohort(out / "patients").scans})
        jobs = [{**common, what: number} for what in ("body", "parts") for number in range(bodies)]
        jobs += [
            {**common, "patient": name, "other": names[(place + 1) % len(names)]} for place, name in enumerate(names)
        ]
        rows: list[Rows] = [[] for _ in jobs]
        for place, outcome in progress(in_parallel(jobs, min(processors(), len(jobs)), __name__), len(jobs)):
            if isinstance(outcome, WorkerDied):
                raise InputError(out, str(outcome), "free space and memory for it", "Start it again; it resumes.")
            rows[place] = outcome["rows"]
        bodies_seen, pairs = (
            [row for part in rows[: 2 * bodies] for row in part],
            [row for part in rows[2 * bodies :] for row in part],
        )
        checker = fit(bodies_seen, pairs, loaded.fingerprint)
        save_checker(out / "checks.json", checker)
    return checker


_LOADED: dict[str, Segmenter] = {}
_JOBS = {"body": "body", "parts": "parts", "pair": "patient"}
"""How files of observations begin, and the job's entry that names what was observed."""


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Observations of one body's volumes, of other parts of a body, or of one patient's pairs.

    They are kept in a file by the segmenter's fingerprint.
    """
    what = next(f"{what}-{job[key]}" for what, key in _JOBS.items() if key in job).replace("/", "-")
    path = Path(job["out"]) / "observed" / f"{what}-{job['fingerprint'][:12]}.json"
    if path.is_file():
        return {"rows": json.loads(path.read_text(encoding="utf-8"))}
    if job["network"] not in _LOADED:
        _LOADED[job["network"]] = Segmenter.load(job["network"] or None)
    segmenter = _LOADED[job["network"]]
    if "patient" in job:
        rows = list(_of_patient(segmenter, job))
    else:
        rows = list(_of_body(segmenter, job["body"]) if "body" in job else _of_parts(segmenter, job["parts"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(rows))
    return {"rows": rows}


def _of_body(segmenter: Segmenter, number: int) -> Iterator[dict[str, Any]]:
    """T1W and T2W of one body, of all its slices and of a few, other contrasts, and volumes without an abdomen."""
    anatomy = build_wide(FIRST_BODY + number)
    others = iter(range(4 * number, 4 * number + len(RENDERINGS)))  # every kind in each body, first another one
    for drawing, kind in enumerate(RENDERINGS):
        random = np.random.default_rng([FIRST_BODY, number, drawing])
        slices = int(random.integers(5, 36 if drawing < 4 else 14))
        if kind == OTHER:
            kind = OTHER_CONTRASTS[next(others) % len(OTHER_CONTRASTS)]
        slab = render_other(random, slices) if kind == NOTHING else render(anatomy, random, slices, kind)
        yield _observed(segmenter, slab, number, kind, random)
    random = np.random.default_rng([FIRST_BODY, number, 99])
    noise = np.abs(random.standard_normal((12, 100, 110))).astype(np.float32)
    yield {
        "kind": NOTHING,
        "body": number,
        "liver": 0.0,
        **segmenter.segment(noise, grid_of(noise.shape, 7.0)).observed,
    }


def _of_parts(segmenter: Segmenter, number: int) -> Iterator[dict[str, Any]]:
    """Volumes of other parts of a body, each part in its turn."""
    for drawing in range(PARTS_EACH):
        random = np.random.default_rng([FIRST_BODY, number, 100 + drawing])
        name = tuple(PARTS)[(PARTS_EACH * number + drawing) % len(PARTS)]
        slab = render_part(random, int(random.integers(4, 25)), name)
        yield {"part": name, **_observed(segmenter, slab, number, NOTHING, random)}


def _observed(segmenter: Segmenter, slab: Slab, body: int, kind: str, random: np.random.Generator) -> dict[str, Any]:
    top, bottom, left, right = slab.field
    image = slab.image[:, top:bottom, left:right].numpy()
    grid = grid_of(image.shape, slab.spacing)
    label = slab.label.numpy()
    liver = float(((label >= LIVER[0]) & (label <= LIVER[-1])).sum() * grid.voxel_volume / 1000)
    return {"kind": kind, "body": body, "liver": liver, **segmenter.segment(image, grid).observed}


def grid_of(shape: tuple[int, ...], spacing: float) -> Grid:
    """Of slices to the head, rows to the back, columns to the left."""
    affine = np.array([[0, 0, -PIXEL, 0], [0, -PIXEL, 0, 0], [spacing, 0, 0, 0], [0, 0, 0, 1.0]])
    return Grid((shape[0], shape[1], shape[2]), affine)


def _of_patient(segmenter: Segmenter, job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    scans = {(scan.subject, scan.sequence): scan for scan in read_cohort(Path(job["out"]) / "patients").scans}
    labelled = {}
    for sequence in ("T1W", "T2W"):
        volume, grid = read_volume(scans[job["patient"], sequence].image)
        segmentation = segmenter.segment(volume, grid)
        labelled[sequence] = Labelled(volume, segmentation.labels, grid)
        yield {"kind": sequence, "body": -1, "liver": segmentation.volumes["liver"], **segmentation.observed}
    volume, grid = read_volume(scans[job["other"], "T2W"].image)
    stranger = Labelled(volume, segmenter.segment(volume, grid).labels, grid)
    random = np.random.default_rng([PAIR_SEED, len(job["patient"])])
    first = labelled["T1W"]
    noise = 0.02 * float(first.volume.std()) * random.standard_normal(first.volume.shape)
    again = Labelled(first.volume + noise, first.labels, first.grid)
    for kind, other in (("pair", labelled["T2W"]), ("two patients", stranger), ("twice", again)):
        yield {"kind": kind, **compare(first, other)}


def fit(seen: Rows, pairs: Rows, fingerprint: str) -> Checker:
    """The checks, fitted on all observations of bodies and patients.

    Thresholds are cross-validated: each of `FOLDS` parts is scored by checks that are fitted on the others.
    """
    for place, row in enumerate(pairs):
        row.setdefault("place", place // 5)
    parts: list[tuple[Rows, Rows]] = []
    for part in range(FOLDS):
        of_part = [row for row in pairs if row["place"] % FOLDS == part]
        scans = [row for row in of_part if row["kind"] in T1W_T2W]
        compared = [row for row in of_part if row["kind"] in ("pair", "two patients", "twice")]
        parts.append(([row for row in seen if row["body"] % FOLDS == part] + scans, compared))
    scores: dict[str, list[float]] = {name: [] for name in (*CHECKS, ANY)}
    two_people: list[float] = []
    for place, (held, pairs_held) in enumerate(parts):
        checker = _fitted(*_joined(parts[:place] + parts[place + 1 :]), fingerprint)
        right = [row for row in held if row["kind"] in ("T1W", "T2W") and row["liver"] >= SOME]
        scores["presence"] += [checker.presence.score(row) for row in right]
        scores["sequence"] += [checker.sequence.score(row, row["kind"]) for row in right]
        scores[ANY] += [checker.sequence.any_known(row) for row in right]
        scores["side"] += [checker.side_score(row) for row in right]
        scores["pair"] += [checker.pair.score(row) for row in pairs_held if row["kind"] == "pair"]
        two_people += [checker.pair.score(row) for row in pairs_held if row["kind"] == "two patients"]
    # The two scores of the sequence share the proportion that one check may doubt. The score of another sequence never
    # refuses: real contrasts are more various than simulated ones.
    doubted = {name: DOUBTED / 2 if name in ("sequence", ANY) else DOUBTED for name in scores}
    thresholds = {name: thresholds_of(np.array(values), doubted[name]) for name, values in scores.items()}
    whole = _fitted(*_joined(parts), fingerprint)
    described = {
        "volumes": len(seen),
        "patients": len(pairs) // 5,
        "right input behind each threshold": {name: len(values) for name, values in scores.items()},
        "AUROC of pairs against two patients": round(auroc(scores["pair"], two_people), 4),
    }
    return Checker(**{**whole.__dict__, "thresholds": thresholds, "fitted": described})


def _joined(parts: Sequence[tuple[Rows, Rows]]) -> tuple[Rows, Rows]:
    return [row for seen, _ in parts for row in seen], [row for _, compared in parts for row in compared]


def _fitted(seen: Rows, compared: Rows, fingerprint: str) -> Checker:
    """The checks without thresholds."""
    return Checker(
        presence=_fit_presence(seen),
        sequence=_fit_sequence(seen),
        upside_down=_fit_upside_down(seen),
        turned=_fit_turned(seen),
        pair=_fit_pair(compared),
        thresholds={},
        fingerprint=fingerprint,
        fitted={},
    )


def thresholds_of(scores: Numbers, doubted: float = DOUBTED) -> tuple[float, float]:
    """Doubt and refuse: quantiles `doubted` and `REFUSED` of right input, at most 0 and `AGAINST`.

    With fewer scores than a quantile needs, its tail is continued as a generalised Pareto's with an exponential tail:
    the mean excess below the 5th percentile.
    """
    scores = scores[np.isfinite(scores)]
    base = float(np.quantile(scores, 0.05))
    excess = base - scores[scores <= base]
    mean = max(float(excess.mean()), 1e-3)
    doubt, refuse = (base - mean * float(np.log(0.05 / share)) for share in (doubted, REFUSED))
    return min(doubt, 0.0), min(refuse, AGAINST)


def auroc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Share of all pairs of a number of `higher` and one of `lower` in which the former is larger; ties count half."""
    above = np.asarray(higher)[:, None] - np.asarray(lower)[None]
    return float(np.mean(above > 0) + 0.5 * np.mean(above == 0))


def _table(rows: Rows, names: Sequence[str]) -> Numbers:
    return np.array([numbers(row, tuple(names)) for row in rows])


def _linear(values: Numbers, right: NDArray[np.bool_], names: tuple[str, ...], absent: Numbers) -> Linear:
    values = np.where(np.isfinite(values), values, absent)
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-3)
    made = Linear(names, np.zeros(len(names)), mean, scale, absent, 0.0)
    z = np.clip((values - mean) / scale, -made.bound, made.bound)
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=2000).fit(z, right)
    return replace(made, weights=model.coef_[0], intercept=float(model.intercept_[0]))


def _fit_presence(rows: Rows) -> Linear:
    """Volumes without any liver are easy negatives: included, they would dominate the weights."""
    with_liver = [row for row in rows if row["liver"] >= SOME and row["kind"] in ("T1W", "T2W")]
    absent = [row for row in rows if row["liver"] < NONE or row["kind"] == NOTHING]
    absent = [row for row in absent if np.isfinite(row["probability"])]
    values = _table([*with_liver, *absent], PRESENCE)
    return _linear(values, np.arange(len(values)) < len(with_liver), PRESENCE, np.zeros(len(PRESENCE)))


def _fit_sequence(rows: Rows) -> SequenceModel:
    """All kinds of unknown sequence have the same weight; together they weigh as much as each known sequence."""
    classes = (*T1W_T2W, OTHER)
    with_liver = [row for row in rows if row["liver"] >= SOME and row["kind"] in (*T1W_T2W, *OTHER_CONTRASTS)]
    kinds = [row["kind"] for row in with_liver]
    truth = np.array([classes.index(kind) if kind in classes else 2 for kind in kinds])
    others = len(set(kinds) - set(T1W_T2W))
    weight = np.array([1 / kinds.count(kind) / (1 if kind in classes else others) for kind in kinds])
    which = _fit_which(with_liver, truth, weight)
    weight = np.where(truth < 2, weight / 2, weight)  # both sequences together against the others
    return SequenceModel(classes, which, fit_likeness(with_liver, truth < 2, weight))


def _fit_which(rows: Rows, truth: NDArray, weight: Numbers) -> Additive:
    """A logistic regression of classes on `contrasts`."""
    values, mean, scale = _standard(rows, SEQUENCE)
    model = LogisticRegression(C=1.0, max_iter=5000)
    model.fit(expanded(values, mean, scale), truth, sample_weight=weight * len(rows) / weight.sum())
    return Additive(SEQUENCE, mean, scale, np.ascontiguousarray(model.coef_), model.intercept_)


def fit_likeness(
    rows: Rows, known: NDArray[np.bool_], weight: Numbers, narrowness: float = NARROWNESS, strength: float = STRENGTH
) -> Likeness:
    """A logistic regression on likenesses to every scan; `strength` is the inverse of its penalty."""
    values, mean, scale = _standard(rows, KNOWN)
    mean, scale = mean.round(4), scale.round(4)
    points = placed(values, KNOWN, mean, scale).round(2)
    model = LogisticRegression(C=strength, max_iter=5000)
    model.fit(likenesses(points, points, narrowness), known, sample_weight=weight * len(rows) / weight.sum())
    return Likeness(KNOWN, mean, scale, points, model.coef_[0].round(4), float(model.intercept_[0]), narrowness)


def _standard(rows: Rows, names: tuple[str, ...]) -> tuple[Numbers, Numbers, Numbers]:
    """What `contrasts` gives, by these names, its mean and its standard deviation."""
    values = _table([contrasts(row) for row in rows], names)
    seen = np.isfinite(values)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, values, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(seen, values - mean, 0) ** 2).sum(axis=0) / count)
    return values, mean, np.maximum(spread, 1e-3)


def _fit_upside_down(rows: Rows) -> Linear:
    with_liver = [row for row in rows if row["liver"] >= SOME and row["kind"] in ("T1W", "T2W")]
    values = _table(with_liver, UPSIDE_DOWN)
    values = np.where(np.isfinite(values), values, 0.0)
    scale = np.maximum(np.sqrt((values**2).mean(axis=0)), 1e-3)
    z = np.clip(values / scale, -BOUND, BOUND)
    both, right = np.r_[z, -z], np.arange(2 * len(z)) < len(z)
    model = LogisticRegression(C=1.0, fit_intercept=False, max_iter=2000).fit(both, right)
    zero = np.zeros(len(UPSIDE_DOWN))
    return Linear(UPSIDE_DOWN, model.coef_[0], zero, scale, zero, 0.0, BOUND)


def _fit_turned(rows: Rows) -> tuple[float, float]:
    with_liver = [row for row in rows if row["liver"] >= SOME and row["kind"] in ("T1W", "T2W")]
    slopes = []
    for name in ("mirrored", "front to back"):
        values = _table(with_liver, (f"liver as it stands against {name}",))
        both, right = np.r_[values, -values], np.arange(2 * len(values)) < len(values)
        model = LogisticRegression(C=1.0, fit_intercept=False).fit(both, right)
        slopes.append(float(model.coef_[0, 0]))
    return slopes[0], slopes[1]


def _fit_pair(rows: Rows) -> Linear:
    values = _table(rows, PAIR)
    right = np.array([row["kind"] == "pair" for row in rows])
    absent = np.nanmedian(values, axis=0)
    return _linear(values, right, PAIR, absent)
