"""What adaptation to a site gains, and where its assumption fails: the table of docs/stager.md.

python docs/site_adaptation.py SITE HOME OUT [--model RUN] [--draw-anew]: SITE is a cohort of another style with stages,
HOME a simulated cohort on which the baseline is trained. Half of the site's patients, drawn 20 times, are adapted to;
the others are scored. Masks are those of the cohorts, or the program's.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cirrnb
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.given_masks import without_masks
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.measure.baselines import patient_features
from cirrnb.measure.biomarkers import cohort_biomarkers
from cirrnb.measure.site_adaptation import on_the_scale_of
from cirrnb.model.adapt import fit_by_terms, stages_by_terms
from cirrnb.model.adaptation import fit_adaptation
from cirrnb.model.prediction import predict_patient
from cirrnb.model.run_folder import TERM, read_terms, read_unseen_answers
from cirrnb.model.trained_model import TrainedModel, load_model, model_folder

REPEATS = 20
STAGES = list(CIRRHOSIS)


def main() -> None:
    """Prepare, measure, stage, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("site", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--draw-anew", action="store_true", help="outlines by the program")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    model = load_model(given.model)
    site, home = (_prepared(folder, given.out, model, given.draw_anew) for folder in (given.site, given.home))
    answers = _cached(given.out / f"{given.site.name}.csv", lambda: _answers(model, site)).set_index("subject")
    answers = answers.dropna(subset=["stage", "predicted"])
    terms = read_terms(model_folder(given.model))
    reference = read_unseen_answers(model, model_folder(given.model))
    assert reference is not None
    measured = {cohort.name: _measured(cohort, given.out) for cohort in (site, home)}
    table = _table(Asked(model, answers, reference, terms), measured[site.name], measured[home.name], _stages(home))
    print(f"{len(answers)} patients of {site.name}; accuracy, mean of {REPEATS} halves (5 to 95 % of halves)")
    print(table.to_string())


@dataclass(frozen=True)
class Asked:
    """A model with its answers for a site, by subject, and its reference answers for the training distribution."""

    model: TrainedModel
    answers: pd.DataFrame
    reference: pd.DataFrame
    home: pd.DataFrame | None

    def adapted(self, adapt: list[str], score: list[str], count: int) -> np.ndarray:
        """Probabilities of the patients scored, after adaptation to others, of whom `count` have a stage."""
        known = dict(self.answers.loc[adapt[:count], "stage"])
        if self.home is None:
            probabilities = self.answers[STAGES]
            fitted = fit_adaptation(
                "site", self.model.fingerprint, probabilities.loc[adapt], self.reference, STAGES, known=known
            )
            return fitted.apply(probabilities.loc[score])
        names = [name for name in self.answers if name.startswith(TERM)]
        terms = self.answers[names].rename(columns=lambda name: name.removeprefix(TERM))
        fitted = fit_by_terms(self.model, "site", terms.loc[adapt], self.home, self.reference, known)
        return stages_by_terms(self.model, terms.loc[score], fitted).to_numpy()


def _answers(model: TrainedModel, site: PreparedCohort) -> pd.DataFrame:
    """As `cirrnb.predict`, and the terms that each answer rests on."""
    table = cirrnb.predict(model, site)
    if model.measured is None:
        return table
    answered = set(table.loc[table["predicted"].notna(), "subject"])
    terms = {bag.subject: predict_patient(model, bag).terms for bag in site.bags() if bag.subject in answered}
    return table.join(pd.DataFrame.from_dict(terms, orient="index").add_prefix(TERM), on="subject")


def _prepared(folder: Path, out: Path, model: TrainedModel, draw_anew: bool) -> PreparedCohort:
    cohort = cirrnb.read_cohort(folder)
    if draw_anew:
        where = out / f"drawn-{folder.name}"
        return cirrnb.prepare(without_masks(cohort), where, model.preparation, force=True)
    return cirrnb.prepare(cohort, out / f"prepared-{folder.name}", model.preparation, masks="given", force=True)


def _cached(path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    if not path.is_file():
        make().to_csv(path, index=False)
    return pd.read_csv(path)


def _measured(prepared: PreparedCohort, out: Path) -> pd.DataFrame:
    values, _ = cohort_biomarkers(prepared, out / f"measured-{prepared.name}")
    return patient_features(values)


def _stages(prepared: PreparedCohort) -> pd.Series:
    return pd.Series({bag.subject: bag.stage for bag in prepared.bags(staged=True)})


def _table(asked: Asked, site: pd.DataFrame, home: pd.DataFrame, home_stages: pd.Series) -> pd.DataFrame:
    answers = asked.answers
    columns = [name for name in home if name in site]
    baseline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=2000))
    baseline.fit(home.loc[home_stages.index, columns], home_stages)
    rows: dict[str, list[float]] = {}
    random = np.random.default_rng(0)
    for _ in range(REPEATS):
        order = list(random.permutation(answers.index))
        adapt, score = order[: len(order) // 2], order[len(order) // 2 :]
        _stager(rows, "stager", asked, adapt, score)
        truth = answers.loc[score, "stage"]
        ways = {
            "as it is": site.loc[score, columns],
            "standardised at the site": (site.loc[score, columns] - site.loc[adapt, columns].mean())
            / site.loc[adapt, columns].std()
            * home[columns].std()
            + home[columns].mean(),
            "quantile map": on_the_scale_of(site.loc[score, columns], site.loc[adapt, columns], home[columns]),
        }
        for way, values in ways.items():
            values = values.replace([np.inf, -np.inf], np.nan)  # a measurement that is the same for everybody there
            right = float((baseline.predict(values) == truth).mean())
            rows.setdefault(f"measurements, logistic regression, {way}", []).append(right)
        for name, share in (("half as many severe", 0.5), ("twice as many severe", 2.0)):
            other = _with_severe(random, answers, order, share)
            middle = len(other) // 2
            _stager(rows, f"stager, {name}", asked, other[:middle], other[middle:], few=())
    summary = {name: (np.mean(values), *np.quantile(values, (0.05, 0.95))) for name, values in rows.items()}
    return pd.DataFrame.from_dict(summary, orient="index", columns=["mean", "low", "high"]).round(3)


def _stager(
    rows: dict[str, list[float]],
    name: str,
    asked: Asked,
    adapt: list[str],
    score: list[str],
    few: tuple[int, ...] = (5, 20, 50),
) -> None:
    """Accuracy on some patients, and how often and how large sets are: as it is, adapted to others without their
    stages, and with a few."""
    truth = asked.answers.loc[score, "stage"].to_numpy()

    def scored(way: str, probabilities: np.ndarray) -> None:
        predicted = np.array(STAGES)[probabilities.argmax(axis=1)]
        rows.setdefault(f"{name}, {way}", []).append(float((predicted == truth).mean()))
        if asked.model.calibration is not None and few != ():
            sets = asked.model.calibration.prediction_sets(probabilities)
            held = np.mean([stage in members for stage, members in zip(truth, sets, strict=True)])
            rows.setdefault(f"{name}, {way}: stage in the set", []).append(float(held))
            rows.setdefault(f"{name}, {way}: stages in a set", []).append(
                float(np.mean([len(members) for members in sets]))
            )

    scored("as it is", asked.answers.loc[score, STAGES].to_numpy())
    for count in (0, *few):
        if len(adapt) >= max(30, count):
            what = f"{count} stages" if count else "no stages"
            scored(f"adapted, {what}", asked.adapted(adapt, score, count))


def _with_severe(random: np.random.Generator, answers: pd.DataFrame, order: list[str], share: float) -> list[str]:
    """The patients with so many times the share of severe ones, by leaving out severe or other ones."""
    severe = [subject for subject in order if answers.loc[subject, "stage"] == "severe"]
    others = [subject for subject in order if answers.loc[subject, "stage"] != "severe"]
    wanted = share * len(severe) / len(order)
    if share < 1:
        severe = severe[: round(wanted * len(others) / (1 - wanted))]
    else:
        others = others[: round(len(severe) * (1 - wanted) / wanted)]
    chosen = severe + others
    return [chosen[place] for place in random.permutation(len(chosen))]


if __name__ == "__main__":
    main()
