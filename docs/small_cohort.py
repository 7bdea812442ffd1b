"""What a start from the shipped weights gains with few patients: `python docs/small_cohort.py COHORT OUT`.

COHORT is one of another simulator, with its own masks. A third of its patients are scored, 20 validate, and 50 and 250
of the others train stagers: from random weights (preset "demo"), from the shipped ones (a peak rate of 0.0002 in place
of 0.0005), and, with `--photographs`, another backbone from weights that were trained on photographs. The shipped
stager is scored as it is. OUT keeps all runs, so that a run that was stopped goes on.

PHOTOGRAPHS is a safetensors file of ImageNet weights, as `docs/photograph_weights.py` makes it.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import cirrnb
from cirrnb.data.bag import PreparedCohort
from cirrnb.evaluation.comparison import compare
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.model.settings import TrainingSettings

VALID = 20
SHIPPED, RANDOM, PHOTOGRAPHS = "shipped weights", "random weights", "photographs"
BACKBONE = "tf_efficientnet_lite0"


def few(prepared: PreparedCohort, patients: int) -> PreparedCohort:
    """The cohort with that many training patients, drawn at random; the others stand in no split."""
    subjects = sorted(bag.subject for bag in prepared.bags("train", staged=True))
    kept = set(np.random.default_rng(0).permutation(subjects)[:patients].tolist())
    splits = {prepared_scan.scan.subject: prepared_scan.scan.split for prepared_scan in prepared.scans}
    return prepared.with_splits(
        {subject: None if split == "train" and subject not in kept else split for subject, split in splits.items()}
    )


def main() -> None:
    """Train, score, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, nargs="+", default=[50, 250], help="who train")
    parser.add_argument("--photographs", type=Path, help="weights of tf_efficientnet_lite0, a safetensors file")
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    cohort = cirrnb.read_cohort(given.cohort)
    valid = VALID / int(cohort.patients["stage"].notna().sum())
    cohort = cirrnb.splits.random(cohort, (2 / 3 - valid, valid, 1 / 3), seed=0)
    settings = TrainingSettings.preparation("demo")
    prepared = cirrnb.prepare(cohort, given.out / "prepared", settings, masks="given", force=True)
    test = prepared.bags("test", staged=True)
    starts: dict[str, dict[str, Any]] = {
        RANDOM: {"pretrained": "none"},
        SHIPPED: {"pretrained": "simulated", "learning_rate": 2e-4},
    }
    if given.photographs:
        starts[PHOTOGRAPHS] = {"pretrained": "photographs", "backbone": BACKBONE, "weights": str(given.photographs)}
    tables = {"shipped stager as it is": cirrnb.predict("shipped", test, force=True)}
    print(f"{given.cohort.name}: {len(test)} patients are scored")
    print(f"\nshipped stager as it is\n{evaluate(*tables.values()).table.round(3).to_string(index=False)}", flush=True)
    for patients in given.patients:
        trained = few(prepared, patients)
        count = len(trained.bags("train", staged=True))
        for name, changes in starts.items():
            settings = TrainingSettings.preset("demo", epochs=given.epochs, **changes)
            run = cirrnb.train(trained, given.out / f"{name.replace(' ', '-')}-{count}", settings, progress=False)
            tables[f"{name}, {count}"] = table = cirrnb.predict(run, test, force=True)
            print(f"\n{name}, {count} patients\n{evaluate(table).table.round(3).to_string(index=False)}", flush=True)
        for name in (other for other in starts if other != SHIPPED):
            print(f"\n{SHIPPED} less {name}, {count} patients")
            compared = compare(tables[f"{SHIPPED}, {count}"], tables[f"{name}, {count}"])
            print(compared.round(3).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
