"""The ablation: changes to one part of the stager at a time, the notebooks that try them, and what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

import cirrnb
from cirrnb.data.errors import InputError, listed
from cirrnb.data.scan import Cohort
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.comparison import compare_all, spread
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.model.checkpoint import load_stager
from cirrnb.model.cross_validation import mean_of
from cirrnb.model.run_folder import read_history, read_predictions
from cirrnb.run.jobs import NotebookJob
from cirrnb.view.forest import interval_text

BASELINE = "whole"


class Asking(Protocol):
    """What has a name and asks something."""

    @property
    def name(self) -> str: ...
    @property
    def asks(self) -> str: ...


@dataclass(frozen=True)
class Entry:
    """One change to the stager.

    Attributes
    ----------
    name : of the entry and, with the seed, of its run folder.
    asks : the question it answers, for a reader.
    changes : parameters of 02_train that differ from the whole stager's.
    at_test : sequences shown when patients are staged. Where that is not all, nothing is trained: it is the whole
        stager that has to do without.
    """

    name: str
    asks: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    at_test: tuple[str, ...] = T1W_T2W

    @property
    def is_trained(self) -> bool:
        """False where the whole stager is asked again."""
        return self.at_test == T1W_T2W


SLICES = {"scales": 1, "attention": "none", "pooling": "slice", "fusion": "mean", "head": "cross_entropy"}
"""The reference protocol with our backbone: every slice staged by itself, one feature map, no attention."""

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(BASELINE, "the stager with all its parts"),
        Entry("single_scale", "do finer feature maps help?", {"scales": 1}),
        Entry("no_sequence_attention", "does weighing places and channels help?", {"attention": "none"}),
        Entry("shared_attention", "does each sequence need weights of its own?", {"attention": "shared"}),
        Entry("separate_encoders", "does each sequence need a backbone of its own?", {"encoders": "separate"}),
        Entry("mean_fusion", "do the sequences have to look at each other?", {"fusion": "mean"}),
        Entry("T1W", "how far does T1W alone lead?", {"sequences": "T1W"}),
        Entry("T2W", "how far does T2W alone lead?", {"sequences": "T2W"}),
        Entry("without_T2W", "trained on both: what if a patient comes without T2W?", at_test=("T1W",)),
        Entry("without_T1W", "trained on both: what if a patient comes without T1W?", at_test=("T2W",)),
        Entry("abdomen", "does it help to look at the liver and not at the abdomen?", {"view": "abdomen"}),
        Entry("no_mask", "does it need an outline of the liver?", {"mask": "none"}),
        Entry("shifted_mask", "what if that outline is 10 mm off?", {"mask": "shifted"}),
        Entry("cross_entropy", "does it help to know that the stages are ordered?", {"head": "cross_entropy"}),
        Entry("cumulative", "is the other ordered head as good?", {"head": "cumulative"}),
        Entry("slices_4", "are fewer slices in a pass enough?", {"slices": 4}),
        Entry("slices_16", "do more slices in a pass help?", {"slices": 16}),
        Entry("reference_T1W", "T1W slice by slice, as the reference paper", {**SLICES, "sequences": "T1W"}),
        Entry("reference_T2W", "T2W slice by slice, as the reference paper", {**SLICES, "sequences": "T2W"}),
    )
}

ARCHITECTURES = {
    "ResNet-18": "resnet18",
    "ResNet-50": "resnet50",
    "VGG-19": "vgg19",
    "PVTv2": "pvt_v2_b0",
    "ConvNeXt": "convnext_atto",
    "EfficientNet": "efficientnet_b0",
}
"""What it is called -> its name in timm; where a family has several sizes, the smallest."""

# Few slices in a step, so that the largest of them fits beside other work into the memory of a laptop.
_SMALL = {"slices": 4, "patients_per_step": 2}


def choose(names: Sequence[str]) -> list[Entry]:
    """Entries by name, the whole stager first, whether it is named or not; an empty list asks for all.

    Raises InputError for an unknown name.
    """
    unknown = [name for name in names if name not in ENTRIES]
    if unknown:
        raise InputError("entries", listed(unknown), f"among {', '.join(ENTRIES)}", "Correct the name.")
    chosen = [entry for entry in ENTRIES.values() if not names or entry.name in names]
    return [ENTRIES[BASELINE], *(entry for entry in chosen if entry.name != BASELINE)]


def architectures(epochs: int) -> list[Entry]:
    """One entry for each of `ARCHITECTURES`, trained for so many epochs to see that it works, and not how well."""
    return [
        Entry(name, "does it run?", {"backbone": backbone, "epochs": epochs, **_SMALL})
        for name, backbone in ARCHITECTURES.items()
    ]


@dataclass(frozen=True)
class Sweep:
    """Where the runs of an ablation lie, and what they have in common.

    Attributes
    ----------
    runs : folder of the run folders, `<entry>-<seed>`.
    reports : folder of the executed notebooks and their pages, by the same names.
    common : parameters of 02_train for every entry; what an entry changes goes before.
    resamples : draws of the bootstrap in 03_evaluate.
    """

    runs: Path
    reports: Path
    common: Mapping[str, Any]
    resamples: int = 2000

    def run(self, entry: Entry, seed: int) -> Path:
        """The run folder that an entry's answers come from."""
        return self.runs / f"{entry.name if entry.is_trained else BASELINE}-{seed}"

    def training(self, entries: Sequence[Entry], seeds: Sequence[int]) -> list[NotebookJob]:
        """One 02_train for each entry that is trained, and each seed.

        All divide the patients alike, so that every answer can be compared patient by patient.
        """
        return [self._train(entry, seed) for seed in seeds for entry in entries if entry.is_trained]

    def evaluation(self, entries: Sequence[Entry], seeds: Sequence[int]) -> list[NotebookJob]:
        """One 03_evaluate for each run folder that is there."""
        trained = [(entry, seed) for seed in seeds for entry in entries if entry.is_trained]
        return [self._evaluate(entry, seed) for entry, seed in trained if self.run(entry, seed).is_dir()]

    def _train(self, entry: Entry, seed: int) -> NotebookJob:
        run = self.run(entry, seed)
        parameters = {"division": 0, **self.common, **entry.changes, "seed": seed, "run": str(run)}
        return NotebookJob("02_train", parameters, self.reports / run.name, leaves=(run,))

    def _evaluate(self, entry: Entry, seed: int) -> NotebookJob:
        run = self.run(entry, seed)
        parameters = {"model": str(run), "resamples": self.resamples}
        outputs = (run / "metrics.json",)
        return NotebookJob("03_evaluate", parameters, self.reports / run.name, outputs, self._train(entry, seed).key)


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
    predictions = read_predictions(run)
    # Sets belong to one calibration each and are no part of the comparison.
    predictions = predictions.drop(columns="set", errors="ignore")
    if entry.is_trained:
        return predictions
    # The training patients' own answers stay: what the commonest stage is comes from them.
    tested = predictions["split"] == "test"
    return pd.concat([predict_without(run, predictions[tested], cohort, prepared, entry.at_test), predictions[~tested]])


def predict_without(
    run: Path, predictions: pd.DataFrame, cohort: Cohort, prepared: Path | str, shown: Sequence[str] = T1W_T2W
) -> pd.DataFrame:
    """A stager's answers from some of the sequences.

    Parameters
    ----------
    predictions : rows of the run's predictions, of those patients who are wanted.
    shown : sequences that are not hidden.

    Returns
    -------
    The rows again, with new stages and probabilities. A patient of whom nothing is left to show has neither.
    """
    stager = load_stager(run)
    scans = cirrnb.prepare(cohort, prepared, stager.preparation, progress=False)
    scans = scans.with_splits(dict(zip(predictions["subject"], predictions["split"], strict=True)))
    bags = [bag.only(shown) for bag in scans.bags() if bag.subject in set(predictions["subject"])]
    answers = cirrnb.predict(stager, [bag for bag in bags if bag]).set_index("subject")
    renewed = ["predicted", *stager.stager.stages, "sequences", "notes"]
    return (
        predictions.set_index("subject").drop(columns=renewed).join(answers[renewed]).reset_index()[list(predictions)]
    )


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
    entries: Sequence[Asking], answers: Answers, comparisons: pd.DataFrame, stages: StageScale = CIRRHOSIS
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
    """One row an architecture: its name in timm, parameters, seconds an epoch, whether it works, and that it is not
    ranked.

    After an epoch or two on random first weights a figure of merit would say nothing, so that none is given. The rows
    of `cirrnb.benchmark.reproduction` are trained in full.
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
        rows[entry.name] = {**row, "rank": "not ranked" if run.is_dir() else "not run"}
    return pd.DataFrame.from_dict(rows, orient="index")


def _over(seeds: pd.DataFrame, metric: str) -> str:
    row = seeds[seeds["metric"] == metric].iloc[0]
    if row["seeds"] == 1:
        return f"{row['mean']:.2f} (one seed)"
    return f"{row['mean']:.2f} ({row['seed_low']:.2f} to {row['seed_high']:.2f})"


def _differences(name: str, comparisons: pd.DataFrame) -> dict[str, str]:
    texts = {f"{BASELINE} less it, kappa": "", "p (Holm)": ""}
    if comparisons.empty:
        return texts
    rows = comparisons[(comparisons["baseline"] == name) & (comparisons["metric"] == _KAPPA)]
    for row in rows.to_dict(orient="records"):
        interval = interval_text(row["difference"], row["low"], row["high"], signed=True)
        texts = {f"{BASELINE} less it, kappa": interval, "p (Holm)": f"{row['p_holm']:.3f}"}
    return texts
