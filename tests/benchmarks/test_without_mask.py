"""What staging loses where nobody drew the liver: the same simulated patients, prepared with their masks and without.

The patients are the first 40 of `cirrnb simulate OUT --patients 100 --seed 2024`, new to the model of the package.
CIRRNB_BENCHMARK names a folder in which what is made is kept.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

import cirrnb
from cirrnb.evaluation.comparison import compare
from cirrnb.model.trained_model import load_model

pytestmark = pytest.mark.benchmark

PATIENTS, SCORED, SEED = 100, 40, 2024


def test_staging_with_masks_and_without(tmp_path: Path) -> None:
    home = Path(os.environ.get("CIRRNB_BENCHMARK") or tmp_path)
    model = load_model("shipped")
    cohort = cirrnb.simulate_cohort(home / "masks", patients=PATIENTS, seed=SEED, healthy=0)
    cohort = cohort.select(keep=list(cohort.patients.index)[:SCORED])
    bare = replace(cohort, scans=tuple(replace(scan, mask=None) for scan in cohort.scans))
    tables = {}
    for name, people in (("with masks", cohort), ("without", bare)):
        prepared = cirrnb.prepare(people, home / "masks-prepared", model.preparation, masks="given", progress=False)
        tables[name] = cirrnb.predict(model, prepared)
        result = cirrnb.evaluate(tables[name], split=None)
        columns = ["metric", "value", "low", "high", "chance", "majority", "n"]
        print(f"\n{name}\n{result.table[columns].round(3).to_string(index=False)}")
    compared = compare(tables["with masks"], tables["without"], split=None, names=("with masks", "without"))
    changed = (tables["with masks"]["predicted"] != tables["without"]["predicted"]).sum()
    print(f"\n{compared.round(4).to_string(index=False)}\n{changed} of {SCORED} stages change")
    assert compared["n"].eq(SCORED).all()
