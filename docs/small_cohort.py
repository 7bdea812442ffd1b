"""What a start from the shipped weights gains with few patients: `python docs/small_cohort.py COHORT OUT`.

COHORT is one of another simulator, with its own masks. A third of its patients train a stager twice, from random
weights (preset "demo") and from the shipped ones (a peak rate of 0.0002 in place of 0.0005); the others are scored,
and by the shipped stager as it is. OUT keeps both runs, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import cirrnb
from cirrnb.evaluation.comparison import compare
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.model.settings import TrainingSettings

FRACTIONS = (0.3, 0.04, 0.66)
STARTS = {
    "random weights": {"pretrained": "none"},
    "shipped weights": {"pretrained": "simulated", "learning_rate": 2e-4},
}


def main() -> None:
    """Train twice, score, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    cohort = cirrnb.splits.random(cirrnb.read_cohort(given.cohort), FRACTIONS, seed=0)
    settings = TrainingSettings.preparation("demo")
    prepared = cirrnb.prepare(cohort, given.out / "prepared", settings, masks="given", force=True)
    bags = prepared.bags(staged=True)
    test = [bag for bag in bags if bag.split == "test"]
    counts = {split: sum(bag.split == split for bag in bags) for split in ("train", "valid", "test")}
    print(f"{given.cohort.name}: {counts}")
    tables = {}
    for name, changes in STARTS.items():
        settings = TrainingSettings.preset("demo", epochs=given.epochs, **changes)
        run = cirrnb.train(prepared, given.out / name.replace(" ", "-"), settings, progress=False)
        tables[name] = cirrnb.predict(run, test, force=True)
    tables["shipped stager as it is"] = cirrnb.predict("shipped", test, force=True)
    for name, table in tables.items():
        print(f"\n{name}\n{evaluate(table).table.round(3).to_string(index=False)}")
    first, second, _ = tables.values()
    print("\nshipped weights less random weights")
    print(compare(second, first).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
