"""The baselines of the benchmark: trained on the development cohort, scored on the 400 patients of the other one.

Radiomics, biomarkers and floors are trained on all 240 development patients (settings chosen by folds of them) and
asked about the other cohort once. Beside them stands the stager that comes with the package: two of the five folds of
the benchmark, averaged and calibrated. What is made lies in the folder that CIRRNB_BENCHMARK names. On two cores about
two hours, nearly all of it radiomics.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from test_stager_benchmark import prepared

import cirrnb
from cirrnb.benchmark.baselines import STAGER, baseline_tables, best, measure, train_baselines, with_their_help
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.mask_perturbation import with_rounded_masks
from cirrnb.data.scan import Cohort
from cirrnb.evaluation.comparison import compare_all
from cirrnb.measure.baselines import Baseline, importance, on_biomarkers, patient_features, stage_all
from cirrnb.measure.biomarkers import cohort_biomarkers
from cirrnb.measure.radiomics import radiomics

pytestmark = pytest.mark.benchmark

METRICS = ("accuracy", "balanced accuracy", "quadratic weighted kappa", "Brier score")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("CIRRNB_BENCHMARK")
    return Path(named) if named else tmp_path_factory.mktemp("benchmark")


def both(home: Path) -> PreparedCohort:
    """Development patients to train on and the others to be tested, in one cohort; their ids are told apart."""
    development, last = prepared(home, "development", 240, 7), prepared(home, "last", 400, 1007)
    scans = [
        replace(one, scan=replace(one.scan, split=split, source=name))
        for name, split, cohort in (("development", "train", development), ("last", "test", last))
        for one in cohort.scans
    ]
    return replace(development, scans=tuple(scans))


@cache
def rivals(home: Path) -> dict[str, Baseline]:
    cohort = both(home)
    measured = measure(cohort, home, disturbed=20)
    print(f"\n{measured.gaps().to_string()}")
    return train_baselines(cohort, measured)


@cache
def answers(home: Path) -> dict[str, pd.DataFrame]:
    cohort = both(home)
    tested = [bag for bag in cohort.bags(staged=True) if bag.split == "test"]
    stager = cirrnb.predict("shipped", tested)
    return with_their_help(stager, rivals(home))


def test_all_baselines_on_patients_never_looked_at(home: Path) -> None:
    told = answers(home)
    told = {name: table[table["split"] == "test"] for name, table in told.items()}
    tables = baseline_tables(told)
    rows = {name: table.set_index("metric") for name, table in tables.items()}
    for name, table in rows.items():
        shown = [
            f"{metric} {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            for metric, row in table.iterrows()
            if metric in METRICS
        ]
        print(f"\n{name}: {'; '.join(shown)}")
    columns = ["baseline", "metric", "difference", "low", "high", "p_holm", "only_a", "only_b"]
    print(f"\n{compare_all(told, STAGER)[columns].round(4).to_string(index=False)}")
    strongest = best(tables, [name for name in rivals(home) if name != "majority"])
    print(f"\n{strongest} leans on\n{importance(rivals(home)[strongest]).head(10).round(3).to_string(index=False)}")
    for name, rival in rivals(home).items():
        print(name, getattr(rival.fitted, "best_params_", ""))
    wrong = pd.DataFrame({name: (table["stage"] != table["predicted"]).to_numpy() for name, table in told.items()})
    known = [STAGER, strongest]
    print(f"\nwrong for both {int(wrong[known].all(axis=1).sum())}, for either {int(wrong[known].any(axis=1).sum())}")
    assert len(wrong) == 400


def test_biomarkers_from_outlines_as_smooth_as_a_hand_draws_them(home: Path) -> None:
    """Simulated masks are exact. Here their outlines are rounded off, as a reader or a program would draw them."""
    cohort = both(home)
    masks = with_rounded_masks(Cohort(tuple(one.scan for one in cohort.scans)), home / "rounded-masks").scans
    scans = tuple(replace(one, scan=scan) for one, scan in zip(cohort.scans, masks, strict=True))
    values, _ = cohort_biomarkers(replace(cohort, scans=scans), home / "rounded-biomarkers", progress=False)
    told = stage_all(cohort, on_biomarkers(values), progress=False)
    for name, rival in told.items():
        table = cirrnb.evaluate(rival.predictions).table.set_index("metric")
        for metric in METRICS:
            row = table.loc[metric]
            print(f"\n{name}, outlines rounded: {metric} {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})")


def test_biomarkers_follow_the_simulated_latents(home: Path) -> None:
    latent = pd.read_csv(home / "development" / "latent.csv").set_index("subject")
    development = prepared(home, "development", 240, 7)
    values, _ = cohort_biomarkers(development, home / "latent-biomarkers", progress=False)
    table = patient_features(values).join(latent)
    named = {
        "liver volume": "liver_volume_ml",
        "surface nodularity": "shown_nodularity",
        "sphericity": "shown_lobes",
        "signal heterogeneity": "",
    }
    for marker, truth in named.items():
        for sequence in ("T1W", "T2W"):
            other = truth or f"shown_nodules_{sequence.lower()}"
            rank = spearmanr(table[f"{sequence} {marker}"], table[other], nan_policy="omit").statistic
            severity = spearmanr(table[f"{sequence} {marker}"], table["severity"], nan_policy="omit").statistic
            print(f"\n{sequence} {marker}: rank correlation {rank:.2f} with {other}, {severity:.2f} with severity")
            assert np.isfinite(rank)


def test_seconds_a_scan(home: Path) -> None:
    some = prepared(home, "development", 240, 7).scans[:10]
    radiomics(np.asarray(some[0].image), some[0].mask, some[0].grid.spacing)  # what is loaded once is not counted
    began = time.process_time()
    for one in some:
        radiomics(np.asarray(one.image), one.mask, one.grid.spacing)
    told = (time.process_time() - began) / len(some)
    print(f"\nradiomics: {told:.1f} s of one core a scan, {np.mean([one.mask.sum() for one in some]):.0f} voxels")
