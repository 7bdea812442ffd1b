"""Does the scanner tell the model who is healthy? `python docs/healthy_protocol.py OUT`.

One simulated population is scanned three times: with the scanner drawn without regard to health, with all healthy
people at 1.5 T and all patients at 3 T, and the other way round. The shipped model answers for healthy people and
patients in the mild stage, with the cohorts' own outlines. Printed: AUROC of healthy against mild, by the strongest
sign and by the expected stage, with a bootstrap interval of 95 % over people; the share of each called without a sign;
and the differences to the first row on the same people. OUT keeps what was made, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

import cirrnb
from cirrnb.data.csv_file import write_csv
from cirrnb.data.scan import Cohort
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.trained_model import load_model
from cirrnb.simulation.cohort import simulate_cohort

SEED = 8101
DRAWS = 2000
TIES = {
    "no tie": None,
    "healthy at 1.5 T, patients at 3 T": "healthy-a",
    "healthy at 3 T, patients at 1.5 T": "healthy-b",
}
MEASURES = ("strongest sign", "expected stage")


def main() -> None:
    """Simulate, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--healthy", type=int, default=60)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    tables = {name: answers(given.out, tie, given.patients, given.healthy) for name, tie in TIES.items()}
    shared = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    tables = {name: table.loc[shared] for name, table in tables.items()}
    first = tables["no tie"]
    healthy = first["healthy"].to_numpy(bool)
    print(f"{healthy.sum()} healthy people, {np.count_nonzero(~healthy)} mild patients, the same in each row")
    random = np.random.default_rng(0)
    draws = [np.arange(len(first)), *(resampled(random, healthy) for _ in range(DRAWS))]
    for measure in MEASURES:
        print(f"\n{measure}: AUROC of mild against healthy; difference to the row without a tie")
        base = np.array([auroc(first, measure, chosen) for chosen in draws])
        for name, table in tables.items():
            values = np.array([auroc(table, measure, chosen) for chosen in draws])
            print(f"{name}: {in_words(values)}; {in_words(values - base)}")
    print("\ncalled without a sign: healthy, mild")
    for name, table in tables.items():
        called = table["no_sign"].to_numpy(bool)
        print(f"{name}: {called[healthy].mean():.2f}, {called[~healthy].mean():.2f}")


def answers(out: Path, tie: str | None, patients: int, healthy: int) -> pd.DataFrame:
    """The model's answers for healthy people and mild patients, by subject."""
    folder = out / (tie or "no-tie")
    path = folder.with_suffix(".csv")
    if not path.is_file():
        simulate_cohort(folder, patients=patients, healthy=healthy, seed=SEED, shortcut=tie)
        cohort = cirrnb.read_cohort(folder)
        chosen = tuple(scan for scan in cohort.scans if scan.stage in (None, CIRRHOSIS.names[0]))
        model = load_model("shipped")
        prepared = cirrnb.prepare(Cohort(chosen), out / f"prepared-{folder.name}", model.preparation, force=True)
        write_csv(path, cirrnb.predict(model, prepared, force=True))
    table = pd.read_csv(path, dtype={"subject": str}).set_index("subject")
    table["healthy"] = table["stage"].isna()
    table["strongest sign"] = table[[name for name in table if name.startswith("sign ")]].max(axis=1)
    table["expected stage"] = sum(place * table[name] for place, name in enumerate(CIRRHOSIS.names))
    return table


def resampled(random: np.random.Generator, healthy: np.ndarray) -> np.ndarray:
    """Places of people drawn with replacement, as many healthy ones as there are."""
    return np.concatenate([random.choice(np.flatnonzero(healthy == kind), np.sum(healthy == kind)) for kind in (0, 1)])


def auroc(table: pd.DataFrame, measure: str, chosen: np.ndarray) -> float:
    """How often a mild patient has the larger value than a healthy person."""
    return float(roc_auc_score(~table["healthy"].to_numpy(bool)[chosen], table[measure].to_numpy()[chosen]))


def in_words(values: np.ndarray) -> str:
    """The first value, which is that of all people, and the interval of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
