"""What explanations are worth, on named test patients of the benchmark: removal, randomisation, and the truth.

Twenty patients of the cohort `cirrnb simulate OUT --patients 400 --seed 1007`: the first ten in its order whose stage
is severe and the first ten whose stage is moderate. The stager is the first fold of the benchmark's fused one. What is
made lies in the folder that CIRRNB_BENCHMARK names; CIRRNB_EXPLAINED takes the first so many of either stage, for
those in a hurry. On two cores a patient takes about ten minutes.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from test_stager_benchmark import prepared, train_folds

import cirrnb
from cirrnb.data.prepared import Bag
from cirrnb.evaluation.intervals import bootstrap
from cirrnb.explanation.faithfulness import after_randomisation, case
from cirrnb.explanation.methods import method_named
from cirrnb.explanation.truth import attributed_to_signs, liver_share, localisation, magnitude, sign_effects
from cirrnb.explanation.twins import SimulatedTruth
from cirrnb.model.trained import load_model

pytestmark = pytest.mark.benchmark

METHODS = ("integrated_gradients", "gradient_shap", "smooth_saliency", "grad_cam", "occlusion", "attention")
COUNT = int(os.environ.get("CIRRNB_EXPLAINED", "10"))
RANDOMISED = 2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("CIRRNB_BENCHMARK")
    return Path(named) if named else tmp_path_factory.mktemp("benchmark")


def chosen(home: Path) -> list[Bag]:
    bags = prepared(home, "last", 400, 1007).bags(staged=True)
    severe, moderate = ([bag for bag in bags if bag.stage == stage][:COUNT] for stage in ("severe", "moderate"))
    ordered = [bag for pair in zip(severe, moderate, strict=True) for bag in pair]
    return ordered[::-1] if os.environ.get("CIRRNB_BACKWARDS") else ordered


@cache
def measured(home: Path) -> dict[str, pd.DataFrame]:
    """All tables, kept patient by patient so that a run that was stopped goes on."""
    model, truth = load_model(train_folds(home, "fused")[0]), SimulatedTruth(home / "last")
    kept = home / "explained"
    kept.mkdir(exist_ok=True)
    people = chosen(home)
    first = {bag.subject for bag in (people[::-1] if os.environ.get("CIRRNB_BACKWARDS") else people)[: 2 * RANDOMISED]}
    costly = {bag.subject for bag in (people[::-1] if os.environ.get("CIRRNB_BACKWARDS") else people)[:2]}
    for bag in people:
        name = bag.patient
        if (kept / f"{name}-done").exists():
            continue
        known = case(model, bag, "severity")
        effects = sign_effects(known.score, bag, truth)
        parts: dict[str, list[pd.DataFrame]] = {"worth": [], "randomised": [], "found": [], "signs": [], "costs": []}
        for method in METHODS if bag.subject in costly else [one for one in METHODS if one != "occlusion"]:
            began = time.process_time()
            told = cirrnb.explain(model, bag, method, permutations=4 if method != METHODS[0] else 64)
            cost = pd.DataFrame({"seconds": [time.process_time() - began], "delta": [told.relative_delta]})
            liver, share = liver_share(told.maps, bag)
            parts["costs"].append(cost.assign(method=method, liver=liver, liver_share=share))
            parts["worth"].append(cirrnb.faithfulness(model, bag, told).assign(method=method))
            if bag.subject in first:
                parts["randomised"].append(after_randomisation(model, bag, told).assign(method=method))
            found = localisation(magnitude(told.maps, known.spacing), bag, truth)
            parts["found"].append(found.merge(effects, on="sign", how="left").assign(method=method))
            if method_named(method).signed:
                given = attributed_to_signs(told, bag, truth)
                parts["signs"].append(effects.merge(given, on="sign").assign(method=method))
        for part, tables in parts.items():
            if tables:
                pd.concat(tables).assign(patient=name, stage=bag.stage).to_csv(kept / f"{name}-{part}.csv", index=False)
        (kept / f"{name}-done").touch()
    return {
        part: pd.concat([pd.read_csv(path, dtype={"patient": str}) for path in sorted(kept.glob(f"*-{part}.csv"))])
        for part in ("worth", "randomised", "found", "signs", "costs")
        if list(kept.glob(f"*-{part}.csv"))
    }


def interval(values: pd.Series) -> str:
    """Mean over patients with its 95 % bootstrap interval."""
    told = values.dropna().to_numpy(dtype=float)
    if len(told) < 3:
        return f"{told.mean():.3f} (n {len(told)})" if len(told) else "none"
    limits = bootstrap(lambda index: float(told[index].mean()), np.zeros(len(told)))
    return f"{told.mean():.3f} ({limits.low:.3f} to {limits.high:.3f}, n {len(told)})"


def test_removal_beside_opponents(home: Path) -> None:
    table = measured(home)["worth"]
    for (measure, method), part in table.groupby(["measure", "method"], sort=False):
        sign = 1 if part["better"].iloc[0] == "higher" else -1
        print(f"\n{measure}, {method}: {interval(part['value'])}")
        for rival in ("random", "shifted", "edges", "attention"):
            if part[rival].notna().any():
                print(f"    better than {rival} by {interval(sign * (part['value'] - part[rival]))}")
    assert set(table["method"]) == set(METHODS)


def test_randomisation(home: Path) -> None:
    tables = measured(home)
    if "randomised" not in tables:
        pytest.skip("left out")
    for (method, part), table in tables["randomised"].groupby(["method", "randomised"], sort=False):
        print(f"\n{method}, {part} and above randomised: rank correlation {interval(table['correlation'])}")


def test_maps_against_the_truth(home: Path) -> None:
    table = measured(home)["found"]
    for method, part in table.groupby("method", sort=False):
        used = part[part["used"].astype(str) == "True"]
        print(f"\n{method}: used signs {interval(used.groupby('patient')['auroc'].mean())}")
        for sign, own in part.groupby("sign", sort=False):
            of_used = own[own["used"].astype(str) == "True"]["auroc"]
            print(f"    {sign}: {interval(own['auroc'])}; where used {interval(of_used)}")
    assert table["auroc"].between(0, 1).all()


def test_attribution_grows_with_the_effect(home: Path) -> None:
    for method, table in measured(home)["signs"].groupby("method", sort=False):
        patients = dict(list(table.groupby("patient")))
        names = list(patients)

        def rank(index: np.ndarray, patients=patients, names=names) -> float:  # type: ignore[no-untyped-def]
            drawn = pd.concat([patients[names[i]] for i in index])
            return float(spearmanr(drawn["effect"], drawn["attributed"]).statistic)

        limits = bootstrap(rank, np.zeros(len(names)), resamples=500)
        value = rank(np.arange(len(names)))
        print(f"\n{method}: rank correlation with the effect {value:.2f} ({limits.low:.2f} to {limits.high:.2f})")
        print(table.groupby(["stage", "sign"])[["effect", "attributed"]].mean().round(2).to_string())


def test_what_it_costs(home: Path) -> None:
    table = measured(home)["costs"]
    told = table.groupby("method", sort=False)[["seconds", "delta", "liver", "liver_share"]].mean()
    print(f"\n{told.round(3).to_string()}")
    assert (table["seconds"] > 0).all()
