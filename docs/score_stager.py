"""Everything that is said of a stager on simulated patients: `python docs/score_stager.py COHORT OUT [--home HOME]`.

COHORT is a simulated cohort that nothing was developed on; HOME one on whose measurements logistic regression is
trained, the baseline. Outlines are drawn anew by the program for everybody. OUT keeps prepared scans, answers and
measurements, so that a run that was stopped goes on; the tables are printed. Several COHORTs are scored one by one and
together.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cirrnb
from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.csv_file import read_csv, write_csv
from cirrnb.data.given_masks import without_masks
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.evaluation.comparison import compare
from cirrnb.evaluation.decision_rules import decision_rules
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.measure.baselines import patient_features
from cirrnb.measure.biomarkers import cohort_biomarkers
from cirrnb.model.trained_model import TrainedModel, load_model
from cirrnb.simulation.ceiling import PRESENT, cohort_ceilings, sign_floors
from cirrnb.simulation.cohort import stored_request
from cirrnb.simulation.populations import population_of

STAGES = list(CIRRHOSIS)
CHUNK = 20
"""Patients asked about between two stored tables."""


@dataclass(frozen=True)
class Scored:
    """A cohort: its truth, the predictions with both and with one sequence, and the measurements."""

    latent: pd.DataFrame
    answers: dict[str, pd.DataFrame]
    measured: pd.DataFrame
    ceilings: pd.DataFrame


def scored(folder: Path, out: Path, model: TrainedModel) -> Scored:
    """Prepare, stage and measure a cohort; what is there already is not done again."""
    prepared = drawn_anew(folder, out, model)
    bags = prepared.bags(staged=True)
    key = model.fingerprint[:16]
    answers = {"T1W and T2W": cached_predictions(bags, model, out / f"{folder.name}-{key}.csv")}
    for sequence in model.sequences:
        alone = [Bag({sequence: bag.scans[sequence]}) for bag in bags if sequence in bag.scans]
        answers[sequence] = cached_predictions(alone, model, out / f"{folder.name}-{key}-{sequence}.csv")
    latent = read_csv(folder / "latent.csv", ("subject", "patient"), expected="a simulated cohort", remedy="")
    latent = latent.set_index("subject").loc[[bag.subject for bag in bags]].reset_index()
    request = stored_request(folder)
    assert request is not None
    return Scored(latent, answers, features(prepared, out), cohort_ceilings(latent, population_of(request)))


def drawn_anew(folder: Path, out: Path, model: TrainedModel) -> PreparedCohort:
    """The cohort with outlines by the program for everybody."""
    cohort = without_masks(cirrnb.read_cohort(folder))
    return cirrnb.prepare(cohort, out / f"prepared-{folder.name}", model.preparation, force=True)


def features(prepared: PreparedCohort, out: Path) -> pd.DataFrame:
    """(patients, measurements)."""
    values, _ = cohort_biomarkers(prepared, out / f"measured-{prepared.name}")
    return patient_features(values)


def cached_predictions(bags: list[Bag], model: TrainedModel, path: Path) -> pd.DataFrame:
    """The predictions of the model, written to a file chunk by chunk."""
    known = pd.read_csv(path, dtype={"subject": str}) if path.is_file() else pd.DataFrame({"subject": []})
    remaining = [bag for bag in bags if bag.subject not in set(known["subject"])]
    for start in range(0, len(remaining), CHUNK):
        predicted = cirrnb.predict(model, remaining[start : start + CHUNK], force=True)
        known = pd.concat([known, predicted], ignore_index=True) if len(known) else predicted
        write_csv(path, known)
    return known.assign(split="test")


def baseline(home: pd.DataFrame, stages: pd.Series) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Logistic regression on measurements."""
    fitted = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=2000))
    shared = [name for name in home if home[name].notna().any()]
    fitted.fit(home.loc[stages.index, shared], stages)

    def answer(values: pd.DataFrame) -> pd.DataFrame:
        chances = pd.DataFrame(fitted.predict_proba(values[shared]), columns=fitted.classes_, index=values.index)
        return chances[STAGES].assign(predicted=chances.idxmax(axis=1))

    return answer


def tables(name: str, cohort: Scored, answer: Callable[[pd.DataFrame], pd.DataFrame] | None) -> dict[str, object]:
    """Print the results of a cohort, and return its figures."""
    print(f"\n## {name}: {len(cohort.latent)} patients\n")
    print(cohort.ceilings.round(3).to_string(index=False))
    ceiling = float(cohort.ceilings.set_index("signs")["accuracy"]["all"])
    both = cohort.answers["T1W and T2W"]
    judged = evaluate(both, ceiling=ceiling)
    print(judged.table.round(3).to_string(index=False))
    print(judged.confusion.to_string())
    if judged.coverage is not None:
        print(judged.coverage.round(3).to_string(index=False))
    print(decision_rules(both).round(3).to_string(index=False))
    accuracy = float(judged.table.set_index("metric")["value"]["accuracy"])
    figures: dict[str, object] = {"n": judged.n, "accuracy": accuracy, "ceiling": ceiling, "share": accuracy / ceiling}
    print(f"accuracy over ceiling: {accuracy / ceiling:.3f}")
    for sequence, alone in cohort.answers.items():
        if alone is not both:
            print(f"\nboth sequences less {sequence} alone")
            print(compare(both, alone).round(3).to_string(index=False))
    if answer is not None:
        predictions = answer(cohort.measured.loc[both["subject"]]).reset_index(names="subject")
        other = both[["subject", "patient", "stage", "split"]].merge(predictions, on="subject")
        print("\nless measurements with logistic regression")
        print(compare(both, other).round(3).to_string(index=False))
        figures["measurements"] = float((other["predicted"] == other["stage"]).mean())
    print(signs(both, cohort.latent).round(3).to_string(index=False))
    return figures


def signs(answers: pd.DataFrame, latent: pd.DataFrame) -> pd.DataFrame:
    """Each sign output, with the performance of severity alone for the sign on the same patients."""
    floors = sign_floors(latent)
    both = latent.merge(answers, on="subject", suffixes=("", " said"))
    rows = []
    for floor in floors.itertuples():
        column = f"sign {floor.sign}"
        if column in both:
            truth, output = both[f"shown_{floor.sign}"].to_numpy(float), both[column].to_numpy(float)
            known = np.isfinite(output)
            truth, output = truth[known], output[known]
            has = truth > PRESENT
            rank = float(spearmanr(truth[has], output[has]).statistic)
            rows.append((floor.sign, roc_auc_score(has, output), rank, floor.auroc, floor.rank, int(has.sum())))
        elif floor.sign == "no sign" and "no_sign" in both:
            shown = both[[name for name in both if name.startswith("shown_")]].to_numpy(float)
            strongest = both[[name for name in both if name.startswith("sign ")]].max(axis=1)
            none = (shown < 0.1).all(axis=1)
            rows.append(("no sign", roc_auc_score(none, -strongest), np.nan, floor.auroc, np.nan, int(none.sum())))
    columns = ["sign", "auroc", "rank", "auroc of severity", "rank of severity", "present"]
    return pd.DataFrame(rows, columns=columns)


def together(cohorts: list[Scored]) -> Scored:
    """Patients of several cohorts as one; subjects get the number of their cohort."""

    def joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
        named = [part.assign(subject=f"{number}/" + part["subject"]) for number, part in enumerate(parts)]
        return pd.concat(named, ignore_index=True)

    latent = joined([cohort.latent for cohort in cohorts])
    answers = {name: joined([cohort.answers[name] for cohort in cohorts]) for name in cohorts[0].answers}
    measured = [
        cohort.measured.rename(index=lambda name, n=number: f"{n}/{name}") for number, cohort in enumerate(cohorts)
    ]
    return Scored(latent, answers, pd.concat(measured), cohort_ceilings(latent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--model", default="shipped")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    model = load_model(given.model)
    given.out.mkdir(parents=True, exist_ok=True)
    answer = None
    if given.home:
        home = drawn_anew(given.home, given.out, model)
        stages = pd.Series({bag.subject: bag.stage for bag in home.bags(staged=True)})
        answer = baseline(features(home, given.out), stages)
    parts = [scored(folder, given.out, model) for folder in given.cohorts]
    named = {folder.name: part for folder, part in zip(given.cohorts, parts, strict=True)}
    if len(parts) > 1:
        named["all together"] = together(parts)
    figures = {name: tables(name, part, answer) for name, part in named.items()}
    atomic_write(given.out / "figures.json", json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
