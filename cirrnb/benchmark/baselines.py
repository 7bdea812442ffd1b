"""Baselines of the stager for 04_ablation: measured, trained on the same patients, compared with its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.comparison import compare_all
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.measure.baselines import Baseline, Sets, floors, on_biomarkers, on_radiomics, stage_all, together
from cirrnb.measure.biomarkers import cohort_biomarkers
from cirrnb.measure.radiomics import CHANGES, available, cohort_radiomics, how_to_install

STAGER = "stager"


@dataclass(frozen=True)
class Measured:
    """What was measured of a cohort.

    Attributes
    ----------
    biomarkers, radiomics : one row a scan; radiomics is None where they were not asked for or MIRP is missing.
    changed : radiomics of some training patients with each change of the mask.
    reasons : subject, sequence, part, reason: why a number is missing.
    remarks : what a reader has to know, in words.
    """

    biomarkers: pd.DataFrame
    radiomics: pd.DataFrame | None
    changed: dict[str, pd.DataFrame] = field(default_factory=dict)
    reasons: pd.DataFrame = field(default_factory=pd.DataFrame)
    remarks: tuple[str, ...] = ()

    def gaps(self) -> pd.DataFrame:
        """Why numbers are missing: one row a reason, with what is missing and of how many scans."""
        scans = self.reasons.assign(scan=self.reasons["subject"] + " " + self.reasons["sequence"]).groupby("reason")
        missing = scans["part"].agg(lambda parts: ", ".join(dict.fromkeys(parts)))
        return pd.DataFrame({"what is missing": missing, "scans": scans["scan"].nunique()})


def measure(
    prepared: PreparedCohort,
    folder: Path | str,
    *,
    radiomics: bool = True,
    disturbed: int = 40,
    workers: int | None = None,
    progress: bool = False,
) -> Measured:
    """Biomarkers and, if MIRP is installed, radiomics of a cohort, kept in `folder`.

    `disturbed` is the number of training patients whose masks are perturbed, to test the stability of features.
    """
    folder = Path(folder)
    values, reasons = cohort_biomarkers(prepared, folder / "biomarkers", workers=workers, progress=progress)
    if not radiomics:
        return Measured(values, None, reasons=reasons, remarks=("Radiomics were not asked for.",))
    if not available():
        remark = f"{how_to_install()} The comparison goes on with the biomarkers."
        return Measured(values, None, reasons=reasons, remarks=(remark,))
    features, missing = cohort_radiomics(prepared, folder / "radiomics", workers=workers, progress=progress)
    training = [bag.subject for bag in prepared.bags(staged=True) if bag.split == "train"][:disturbed]
    some = replace(prepared, scans=tuple(scan for scan in prepared.scans if scan.scan.subject in set(training)))
    changed = {}
    if some.scans:
        for change in CHANGES[1:]:
            place = folder / "radiomics"
            changed[change] = cohort_radiomics(some, place, change=change, workers=workers, progress=progress)[0]
    return Measured(values, features, changed, pd.concat([reasons, missing], ignore_index=True))


def train_baselines(
    prepared: PreparedCohort, measured: Measured, *, seed: int = 0, progress: bool = False
) -> dict[str, Baseline]:
    """All baselines, trained on the patients of split "train"."""
    sets: Sets = {**floors(prepared, measured.biomarkers), **on_biomarkers(measured.biomarkers)}
    if measured.radiomics is not None:
        sets |= on_radiomics(measured.radiomics, measured.changed)
    return stage_all(prepared, sets, seed=seed, progress=progress)


def with_their_help(stager: pd.DataFrame, baselines: dict[str, Baseline]) -> dict[str, pd.DataFrame]:
    """Predictions of the stager, of every baseline that could be trained on the stager's patients, and of the stager
    helped by biomarkers and by the radiomics of all sequences (the mean of both one's probabilities, so that nothing
    more is fitted)."""
    tables = {STAGER: stager}
    baselines = {name: baseline for name, baseline in baselines.items() if not baseline.reason}
    for name, baseline in baselines.items():
        answers = baseline.predictions
        tables[name] = answers[answers["subject"].isin(stager["subject"])]
    radiomics = [name for name in baselines if name.startswith("radiomics ") and name.endswith(", logistic regression")]
    of_all = sorted(radiomics, key=lambda name: name.count(" and "))[-1:]  # those of all sequences
    for helper in ("biomarkers, logistic regression", *of_all):
        if helper in baselines:
            helped = together(stager, baselines[helper].predictions, baselines[helper].stages)
            tables[f"{STAGER} with {helper.partition(',')[0]}"] = helped
    return tables


def baseline_tables(
    answers: dict[str, pd.DataFrame], resamples: int = 2000, stages: StageScale = CIRRHOSIS
) -> dict[str, pd.DataFrame]:
    """`Evaluation.table` of each, on the test patients."""
    return {name: evaluate(table, resamples=resamples, stages=stages).table for name, table in answers.items()}


def compare_baselines(
    answers: dict[str, pd.DataFrame], resamples: int = 2000, stages: StageScale = CIRRHOSIS
) -> pd.DataFrame:
    """The stager less each of the others; as `compare_all`, p corrected for all of them."""
    return compare_all(answers, STAGER, resamples=resamples, stages=stages)


def best(tables: dict[str, pd.DataFrame], among: Sequence[str], metric: str = "quadratic weighted kappa") -> str:
    """Whose metric is highest."""
    return max(among, key=lambda name: float(tables[name].set_index("metric")["value"][metric]))
