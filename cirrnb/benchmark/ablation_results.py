"""What an ablation found: each entry's answers, its figures over seeds, and its paired difference to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import cirrnb
from cirrnb.benchmark.ablation import ARCHITECTURES, BASELINE, Entry, Sweep
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Cohort
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.comparison import compare_all, spread
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.model.checkpoint import load_stager
from cirrnb.model.cross_validation import mean_of
from cirrnb.model.run_folder import read_history, read_predictions
from cirrnb.view.forest import words

Answers = dict[str, list[pd.DataFrame]]
"""Name of an entry -> its predictions, one table a seed."""

_KAPPA, _ACCURACY = "quadratic weighted kappa", "accuracy"


def collect(
    sweep: Sweep, entries: Sequence[Entry], seeds: Sequence[int], cohort: Cohort, prepared: Path | str
) -> Answers:
    """Test patients' answers of all entries that have a run for every seed; the others are left out.

    Parameters
    ----------
    cohort : the patients the runs were trained on.
    prepared : folder of prepared scans, for those entries where the whole stager is asked again without a sequence.

    Raises
    ------
    InputError
        If the whole stager itself is not there: then there is nothing to compare with.
    """
    complete = [entry for entry in entries if all(sweep.run(entry, seed).is_dir() for seed in seeds)]
    if BASELINE not in [entry.name for entry in complete]:
        raise InputError(
            sweep.runs,
            f"no run of {BASELINE!r} for every seed",
            "the stager that the others are compared with",
            "Look at why its training failed, and run this again; what is done is kept.",
        )
    return {
        entry.name: [_tested(sweep.run(entry, seed), entry, cohort, prepared) for seed in seeds] for entry in complete
    }


def _tested(run: Path, entry: Entry, cohort: Cohort, prepared: Path | str) -> pd.DataFrame:
    told = read_predictions(run)
    # Sets belong to one calibration each and are no part of the comparison.
    told = told.drop(columns="set", errors="ignore")
    if entry.is_trained:
        return told
    # The training patients' own answers stay: what the commonest stage is comes from them.
    tested = told["split"] == "test"
    return pd.concat([predict_without(run, told[tested], cohort, prepared, entry.at_test), told[~tested]])


def predict_without(
    run: Path, told: pd.DataFrame, cohort: Cohort, prepared: Path | str, shown: Sequence[str] = T1W_T2W
) -> pd.DataFrame:
    """What a stager says when it is shown some sequences only.

    Parameters
    ----------
    told : rows of the run's predictions, of those patients who are wanted.
    shown : sequences that are not hidden.

    Returns
    -------
    The rows again, with new stages and probabilities. A patient of whom nothing is left to show has neither.
    """
    stager = load_stager(run)
    scans = cirrnb.prepare(cohort, prepared, stager.preparation, progress=False)
    scans = scans.with_splits(dict(zip(told["subject"], told["split"], strict=True)))
    bags = [bag.only(shown) for bag in scans.bags() if bag.subject in set(told["subject"])]
    answers = cirrnb.predict(stager, [bag for bag in bags if bag]).set_index("subject")
    renewed = ["predicted", *stager.stager.stages, "sequences", "notes"]
    return told.set_index("subject").drop(columns=renewed).join(answers[renewed]).reset_index()[list(told)]


def together(answers: Answers, stages: StageScale = CIRRHOSIS) -> dict[str, pd.DataFrame]:
    """One table an entry: the mean of its seeds' probabilities, and the stage most probable by it."""
    return {name: mean_of(tables, stages.names) for name, tables in answers.items()}


def entry_tables(answers: Answers, resamples: int = 2000, stages: StageScale = CIRRHOSIS) -> dict[str, pd.DataFrame]:
    """Each entry's `Evaluation.table`, seeds taken together."""
    tables = together(answers, stages)
    return {name: evaluate(table, resamples=resamples, stages=stages).table for name, table in tables.items()}


def compare_entries(answers: Answers, resamples: int = 2000, stages: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """The whole stager less each other entry, on the same test patients, seeds taken together.

    As `cirrnb.evaluation.comparison.compare_all`; no rows where there is no other entry.
    """
    if len(answers) < 2:
        return pd.DataFrame()
    return compare_all(together(answers, stages), BASELINE, resamples=resamples, stages=stages)


def ablation_table(
    entries: Sequence[Entry], answers: Answers, comparisons: pd.DataFrame, stages: StageScale = CIRRHOSIS
) -> pd.DataFrame:
    """One row an entry: question, kappa and accuracy over seeds, and the paired difference in kappa.

    Over seeds stands the mean, with the least and the greatest. The difference is that of `compare_entries`. An entry
    without a run for every seed says so.
    """
    rows = {}
    for entry in entries:
        row = {"asks": entry.asks, "kappa over seeds": "no run", "accuracy over seeds": "no run"}
        if entry.name in answers:
            # The intervals are not shown here, so that a few draws do.
            tables = [evaluate(table, resamples=100, stages=stages).table for table in answers[entry.name]]
            seeds = spread(tables)
            row |= {"kappa over seeds": _over(seeds, _KAPPA), "accuracy over seeds": _over(seeds, _ACCURACY)}
        rows[entry.name] = row | _differences(entry.name, comparisons)
    return pd.DataFrame.from_dict(rows, orient="index")


def entry_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row an entry: what it asks and what is done otherwise than for the whole stager."""
    rows = {}
    for entry in entries:
        done = [f"{name} {value}" for name, value in entry.changes.items()]
        if not entry.is_trained:
            done = [f"the whole stager is shown {' and '.join(entry.at_test)} only"]
        rows[entry.name] = {"asks": entry.asks, "what is changed": ", ".join(done) or "nothing"}
    return pd.DataFrame.from_dict(rows, orient="index")


def architecture_table(sweep: Sweep, entries: Sequence[Entry], seed: int) -> pd.DataFrame:
    """One row an architecture: its name in timm, parameters, seconds an epoch, and where it stands: not run here.

    After an epoch or two on random first weights a figure of merit would say nothing, so that none is given.
    """
    rows = {}
    for entry in entries:
        run = sweep.run(entry, seed)
        row = {"backbone": ARCHITECTURES[entry.name], "million parameters": "", "seconds an epoch": "", "works": "no"}
        if run.is_dir():
            history = read_history(run)
            count = sum(weights.numel() for weights in load_stager(run).stager.parameters())
            row |= {"million parameters": f"{count / 1e6:.1f}", "works": "yes"}
            row |= {"seconds an epoch": f"{history['seconds'].mean():.0f}"}
        rows[entry.name] = {**row, "rank": "not run here"}
    return pd.DataFrame.from_dict(rows, orient="index")


def _over(seeds: pd.DataFrame, metric: str) -> str:
    row = seeds[seeds["metric"] == metric].iloc[0]
    if row["seeds"] == 1:
        return f"{row['mean']:.2f} (one seed)"
    return f"{row['mean']:.2f} ({row['seed_low']:.2f} to {row['seed_high']:.2f})"


def _differences(name: str, comparisons: pd.DataFrame) -> dict[str, str]:
    said = {f"{BASELINE} less it, kappa": "", "p (Holm)": ""}
    if comparisons.empty:
        return said
    found = comparisons[(comparisons["baseline"] == name) & (comparisons["metric"] == _KAPPA)]
    for row in found.to_dict(orient="records"):
        told = words(row["difference"], row["low"], row["high"], signed=True)
        said = {f"{BASELINE} less it, kappa": told, "p (Holm)": f"{row['p_holm']:.3f}"}
    return said
