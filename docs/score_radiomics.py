"""The stager against radiomics on the same patients: `python docs/score_radiomics.py COHORT HOME OUT`.

COHORT is a simulated cohort that nothing was developed on, HOME another one, on whose patients logistic regression is
trained. Outlines are drawn anew by the program for everybody. Radiomics are those of MIRP, of each sequence and of
all; the number of features and the penalty are chosen by folds within HOME. OUT keeps what was made, so that a run
that was stopped goes on; the accuracy of each and the stager less each are printed.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
from score_stager import cached_predictions, drawn_anew, features

from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.evaluation.comparison import compare
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.measure.baselines import patient_features
from cirrnb.measure.classifiers import CLASSIFIERS, fit, probabilities
from cirrnb.measure.radiomics import cohort_radiomics
from cirrnb.model.trained_model import load_model

STAGES = list(CIRRHOSIS)
CLASSIFIER = "logistic regression"


def main() -> None:
    """Prepare, measure, stage, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sequences", nargs="+", default=["T1W", "T2W"], help="whose radiomics are taken")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    model = load_model("shipped")
    cohort, home = (drawn_anew(folder, given.out, model) for folder in (given.cohort, given.home))
    both = cached_predictions(
        cohort.bags(staged=True), model, given.out / f"{cohort.name}-{model.fingerprint[:16]}.csv"
    )
    stages = pd.Series({bag.subject: bag.stage for bag in home.bags(staged=True)})
    radiomics = {}
    for prepared in (cohort, home):
        some = replace(prepared, scans=tuple(scan for scan in prepared.scans if scan.scan.sequence in given.sequences))
        radiomics[prepared.name] = cohort_radiomics(some, given.out / f"radiomics-{prepared.name}")[0]
    sets = {"measurements": tuple(features(prepared, given.out) for prepared in (home, cohort))}
    together = [tuple(given.sequences)] if len(given.sequences) > 1 else []
    for sequences in (*((name,) for name in given.sequences), *together):
        name = f"radiomics of {' and '.join(sequences)}"
        sets[name] = tuple(patient_features(radiomics[prepared.name], sequences) for prepared in (home, cohort))
    print(f"{len(both)} patients of {given.cohort.name}; {CLASSIFIER} trained on {len(stages)} of {given.home.name}")
    print(f"\nstager\n{evaluate(both).table.round(3).to_string(index=False)}")
    for name, (known, asked_of) in sets.items():
        shared = [column for column in known if column in asked_of and known[column].notna().any()]
        fitted = fit(CLASSIFIERS[CLASSIFIER], known.loc[stages.index, shared], stages)
        chances = probabilities(fitted, asked_of.loc[both["subject"], shared])
        answers = both[["subject", "patient", "stage", "split"]].assign(**dict(zip(STAGES, chances.T, strict=True)))
        answers["predicted"] = [STAGES[place] for place in chances.argmax(axis=1)]
        print(f"\n{name}, {len(shared)} features\n{evaluate(answers).table.round(3).to_string(index=False)}")
        print(f"the stager less {name}\n{compare(both, answers).round(3).to_string(index=False)}")


if __name__ == "__main__":
    main()
