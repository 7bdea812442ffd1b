"""What the shipped model says of fresh simulated patients: `python docs/fresh_patients.py RUN COHORT`.

RUN is a copy of the shipped model that `cirrnb calibrate RUN COHORT --measurements --draw-anew` calibrated anew: its
training.csv holds the terms of every patient (the network's severity and the measurements), and its network is still
the shipped one. Printed are the answers of the shipped model, for which nothing of COHORT was used, and what the
measurements add where the sum of terms is fitted to the other four fifths of COHORT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.evaluation.comparison import compare
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.model.calibrate import LATENT
from cirrnb.model.measured_stage import NETWORK, unseen_probabilities
from cirrnb.model.run_folder import TERM
from cirrnb.model.trained_model import load_model
from cirrnb.simulation.ceiling import cohort_ceilings

STAGES = list(CIRRHOSIS)


def answers(probabilities: np.ndarray, stages: pd.Series) -> pd.DataFrame:
    """Answers as `cirrnb.predict` gives them; patients are numbered, since training.csv has no names."""
    numbers = [str(number) for number in range(len(stages))]
    table = pd.DataFrame(probabilities, columns=STAGES).assign(subject=numbers, patient=numbers, split="test")
    return table.assign(stage=stages.to_numpy(), predicted=[STAGES[place] for place in probabilities.argmax(axis=1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("cohort", type=Path)
    given = parser.parse_args()
    stored = pd.read_csv(given.run / "training.csv")
    columns = [name for name in stored if name.startswith(TERM)]
    terms = stored[columns].rename(columns=lambda name: name.removeprefix(TERM))
    truth = stored["stage"].map(STAGES.index).to_numpy()
    ceilings = cohort_ceilings(pd.read_csv(given.cohort / LATENT))
    print(ceilings.round(3).to_string(index=False))

    shipped = load_model("shipped").measured
    assert shipped is not None
    rows = [{str(name): float(value) for name, value in row.dropna().items()} for _, row in terms.iterrows()]
    chances = np.stack([shipped.probabilities(row) for row in rows]).reshape(len(rows), -1)
    judged = evaluate(answers(chances, stored["stage"]), ceiling=float(ceilings["accuracy"].iloc[0]))
    print(judged.table.round(3).to_string(index=False))
    print(judged.confusion.to_string())

    for seed in (0, 1, 2):
        both, alone = (
            answers(unseen_probabilities(terms[names], truth, len(STAGES), seed), stored["stage"])
            for names in (list(terms), [NETWORK])
        )
        print(f"\nnetwork and measurements less the network alone, fitted, division {seed}")
        print(compare(both, alone).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
