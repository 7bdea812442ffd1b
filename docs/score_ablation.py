"""What each part of the stager is worth on endless patients: `python docs/score_ablation.py COHORT OUT --steps 700`.

The same as the last section of `notebooks/04_ablation.ipynb`, without the page: COHORT is a simulated cohort that
nothing was developed on, with outlines by the program for everybody. Every design has the same short schedule. Several
of these commands with other `--seeds` may share OUT, one after the other or at once; the last one prints all that it
was asked for. What is in OUT is not done again.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from score_stager import drawn_anew

from cirrnb.benchmark import ablation, endless_ablation
from cirrnb.data.csv_file import read_csv
from cirrnb.model.calibrate import LATENT
from cirrnb.model.endless import EndlessSettings
from cirrnb.model.trained_model import load_model


def main() -> None:
    """Train, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--bodies", type=int, default=300, help="simulated bodies, shared by all designs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--designs", nargs="*", default=[], help="by default all")
    parser.add_argument("--prepared", type=Path, help="where the cohort is prepared; default: OUT")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    cohort = drawn_anew(given.cohort, given.prepared or given.out, load_model("shipped"))
    designs = endless_ablation.choose_designs(given.designs)
    answers = endless_ablation.run_endless_ablation(
        given.out,
        cohort,
        designs,
        given.seeds,
        EndlessSettings(steps=given.steps, patients=given.bodies),
    )
    latent = read_csv(given.cohort / LATENT, ("subject",), expected="a simulated cohort", remedy="Simulate it.")
    table = endless_ablation.endless_ablation_table(designs, answers)
    print(
        f"{len(cohort.bags(staged=True))} patients of {given.cohort.name}; {given.steps} steps, {given.bodies} bodies"
    )
    print(table.join(endless_ablation.sign_table(answers, latent)).round(3).to_string())
    print(ablation.compare_entries(answers).round(3).to_string())


if __name__ == "__main__":
    main()
