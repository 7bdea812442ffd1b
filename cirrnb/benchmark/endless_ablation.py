"""What each part of a stager that learns from endless simulated patients is worth, and how many bodies it needs.

Every design is trained with the same shortened schedule, and asked about the same patients, whom none was trained on.
A network of a short training knows the order of patients before it knows where the stages begin, so that the places
where they begin are fitted to four fifths of the patients and used on the last fifth, five times, for every design
alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

import cirrnb
from cirrnb.benchmark.ablation import BASELINE, Answers, ablation_table, compare_entries
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.csv_file import read_csv, write_csv
from cirrnb.data.errors import InputError, listed
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.adaptation import severity_of
from cirrnb.model.endless import EndlessSettings, Progress, train_endless, unwatched
from cirrnb.model.measured_stage import NETWORK, unseen_probabilities
from cirrnb.model.provenance import fingerprint
from cirrnb.model.settings import StagerSettings
from cirrnb.simulation.ceiling import PRESENT

RANK, SIGNS = "rank correlation with the stage", "mean AUROC of the signs"
_SIGN = "sign "


@dataclass(frozen=True)
class Design:
    """One change to the whole design.

    Attributes
    ----------
    name : of the design and, with the seed, of its run folder.
    asks : the question it answers, for a reader.
    changes : fields of `StagerSettings` or of `EndlessSettings` that differ from the whole's.
    """

    name: str
    asks: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, whole: EndlessSettings, seed: int) -> EndlessSettings:
        """Settings of the training of this design, from those of the whole design."""
        of_stager = {field.name for field in fields(StagerSettings)} & set(self.changes)
        stager = replace(whole.stager, **{name: self.changes[name] for name in of_stager})
        others = {name: value for name, value in self.changes.items() if name not in of_stager}
        return replace(whole, stager=stager, seed=seed, **others)


SLICE_PROTOCOL = {"scales": 1, "attention": "none", "pooling": "slice", "fusion": "mean", "signs": ()}
"""Every slice staged by itself (Zeng et al., arXiv 2502.18225), of both sequences, on the same endless patients; such a
stager has no outputs of signs."""

DESIGNS = {
    design.name: design
    for design in (
        Design(BASELINE, "the stager with all its parts"),
        Design("single_scale", "do finer feature maps help?", {"scales": 1}),
        Design("no_attention", "does weighing places and channels help?", {"attention": "none"}),
        Design("shared_attention", "does each sequence need weights of its own?", {"attention": "shared"}),
        Design("mean_fusion", "do the sequences have to look at each other?", {"fusion": "mean"}),
        Design("signs_alone", "does the stage need more than the signs?", {"residual": False}),
        Design("slices", "does it help to see a patient's slices together?", SLICE_PROTOCOL),
        Design("T1W", "how far does T1W alone lead?", {"sequences": ("T1W",)}),
        Design("T2W", "how far does T2W alone lead?", {"sequences": ("T2W",)}),
        Design("bodies_125", "are 125 bodies enough?", {"patients": 125}),
        Design("bodies_250", "are 250 bodies enough?", {"patients": 250}),
        Design("bodies_500", "are 500 bodies enough?", {"patients": 500}),
    )
}


def choose_designs(names: Sequence[str]) -> list[Design]:
    """Designs by name, preceded by the whole design; an empty list gives all designs.

    Raises InputError for an unknown name.
    """
    unknown = [name for name in names if name not in DESIGNS]
    if unknown:
        raise InputError("designs", listed(unknown), f"among {', '.join(DESIGNS)}", "Correct the name.")
    return [design for design in DESIGNS.values() if not names or design.name in names or design.name == BASELINE]


def run_endless_ablation(
    out: Path | str,
    patients: PreparedCohort,
    designs: Sequence[Design],
    seeds: Sequence[int] = (0, 1),
    settings: EndlessSettings | None = None,
    *,
    bodies: Path | str | None = None,
    readers: int = 1,
    progress: Progress = unwatched,
) -> Answers:
    """Train every design with every seed and predict the same patients with all; finished runs are kept.

    Parameters
    ----------
    out : folder; run folders NAME-SEED and answers in it.
    patients : with stages, whom no design is trained on; their strengths of signs are judged by `sign_table`.
    settings : of the whole design and of the schedule that all share.
    bodies : folder of training patients, by default `out`/bodies.

    Returns
    -------
    Name of a design -> one table of answers for each seed: subject, patient, split ("test"), stage, predicted, the
    probability of each stage by the fit to the other parts, severity, and the strength of each sign.
    """
    out, whole = Path(out), settings or EndlessSettings()
    bags = patients.bags(staged=True)
    digest = fingerprint(bags)[:16]
    answers: Answers = {}
    for design in designs:
        answers[design.name] = []
        for seed in seeds:
            run = out / f"{design.name}-{seed}"
            train_endless(
                run, design.settings(whole, seed), bodies=bodies or out / "bodies", readers=readers, progress=progress
            )
            answers[design.name].append(_kept_predictions(run, bags, out / f"{run.name}-{digest}.csv"))
    return answers


def _kept_predictions(run: Path, bags: Sequence[Bag], path: Path) -> pd.DataFrame:
    """Predictions of a design, kept in a file that is named after the run and the patients' scans."""
    if path.is_file():
        known = read_csv(path, ("subject", "stage"), expected="answers of a design", remedy="Remove it.")
        known[["subject", "patient"]] = known[["subject", "patient"]].astype(str)
        return known
    sequences = cirrnb.Model.load(run).sequences
    shown = [chosen for bag in bags if (chosen := bag.only(sequences)) is not None]
    predictions = cirrnb.predict(run, shown, force=True)
    stages = CIRRHOSIS.names
    missing = len(bags) - int(predictions["predicted"].notna().sum())
    if missing:
        raise InputError(
            path, f"no answer for {missing} patients", "both sequences of every patient", "Leave them out."
        )
    # Severity only orders the patients; the thresholds between stages are fitted below.
    severity = severity_of(predictions[list(stages)].to_numpy(float))
    truth = np.array([stages.index(str(bag.stage)) for bag in bags])
    fitted = unseen_probabilities(pd.DataFrame({NETWORK: severity}), truth, len(stages))
    table = predictions[["subject", "patient"]].assign(split="test", stage=[str(bag.stage) for bag in bags])
    table["predicted"] = [stages[place] for place in fitted.argmax(axis=1)]
    table[list(stages)] = fitted
    table["severity"] = severity
    signs = [name for name in map(str, predictions) if name.startswith(_SIGN)]
    table[signs] = predictions[signs]
    write_csv(path, table)
    return table


def sign_table(answers: Answers, latent: pd.DataFrame) -> pd.DataFrame:
    """One row per design: rank correlation of its severity with the stage, and mean AUROC of the presence of signs that
    its sequences can show (NaN without sign outputs), each the mean over the seeds. `latent` is the ground truth of the
    simulated patients."""
    rows = {}
    for name, tables in answers.items():
        ranks, areas = [], []
        for table in tables:
            both = table.merge(latent, on="subject", suffixes=("", " true"))
            places = both["stage"].map(CIRRHOSIS.names.index)
            ranks.append(float(spearmanr(both["severity"], places).statistic))
            areas.append(float(np.mean(values)) if (values := _areas(both)) else float("nan"))
        rows[name] = {RANK: float(np.mean(ranks)), SIGNS: float(np.mean(areas))}
    return pd.DataFrame.from_dict(rows, orient="index")


def _areas(both: pd.DataFrame) -> list[float]:
    areas = []
    for column in both:
        channel = str(column).removeprefix(_SIGN)
        shown = f"shown_{channel}"
        if channel != column and shown in both and both[column].notna().all():
            present = both[shown] > PRESENT
            if 0 < present.mean() < 1:
                areas.append(float(roc_auc_score(present, both[column])))
    return areas


def endless_ablation_table(designs: Sequence[Design], answers: Answers, resamples: int = 2000) -> pd.DataFrame:
    """One row a design: what it asks, kappa and accuracy over seeds, and the paired difference in kappa; as
    `cirrnb.benchmark.ablation.ablation_table`."""
    return ablation_table(designs, answers, compare_entries(answers, resamples))
