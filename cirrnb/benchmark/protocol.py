"""The reference paper's protocol, published and here, line by line; and whether a figure may be compared with it.

Zeng et al., *Liver cirrhosis stage estimation from MRI with deep learning*, arXiv 2502.18225, 2025: from its abstract
and from what its released code does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cirrnb.data.json_file import read_object
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import SPLITS, Cohort
from cirrnb.model.run_folder import read_predictions, read_slice_predictions

PATIENTS = (234, 28, 29)
"""Training, validation and test patients of the paper."""
MAJORITY = {"T1W": 0.560, "T2W": 0.516}
"""Share of the paper's test slices that are mild."""
PUBLISHED: dict[tuple[str, str], float] = {("vgg19", "T1W"): 0.728, ("mambavision_t", "T2W"): 0.638}
"""(backbone, sequence) -> share of test slices that got their patient's stage; the paper's best of each sequence. Its
other figures are not known here."""

YES, NO, UNKNOWN = "yes", "no", "unknown"


@dataclass(frozen=True)
class Line:
    """One line of the protocol.

    Attributes
    ----------
    what : the subject. published, here : how the paper and this run do it.
    same : `YES`, `NO` or `UNKNOWN`.
    """

    what: str
    published: str
    here: str
    same: str


def run_lines(run: Path | str, cohort: Cohort) -> pd.DataFrame:
    """Compare a finished run with the protocol: what, published, here, same (yes, no, unknown); one row per line."""
    rows = lines(Path(run), cohort)
    return pd.DataFrame([vars(line) for line in rows]).rename(columns={"same": "the same"})


def lines(run: Path, cohort: Cohort | None) -> list[Line]:
    """The lines of a finished run, trained on patients of `cohort`; without it nobody knows who they are.

    Raises InputError where it is no run folder.
    """
    config = read_object(run / "config.json", "a whole run folder", "Train again.")
    training, stager = config["training"], config["stager"]
    preparation = PreparationSettings(**config["preparation"])
    predictions = read_predictions(run)
    return [
        _patients(predictions, cohort),
        _slices(run, stager["sequences"]),
        *_images(preparation, stager),
        *_batches(training),
        *_descent(training),
        *_network(stager, str(config.get("backbone_weights", "unknown"))),
    ]


def comparable(lines_of_run: list[Line], simulated: bool) -> str:
    """Whether a figure may be compared with the published one: "yes", "no: why", or "same patients, slices unknown"."""
    reasons = ["simulated patients"] if simulated else []
    reasons += [f"{line.what}: {line.here}" for line in lines_of_run if line.same == NO]
    if reasons:
        return f"no: {'; '.join(reasons)}"
    if any(line.what == "patients" and line.same == UNKNOWN for line in lines_of_run):
        return "as many patients; who they are, and which slices, is not known here"
    slices = next(line for line in lines_of_run if line.what == SLICES)
    return "yes" if slices.same == YES else "same patients, slices unknown"


def comparable_run(run: Path | str) -> str:
    """`comparable` of a finished run whose cohort is not at hand; "not known" without its settings."""
    if not (Path(run) / "config.json").is_file():
        return "not known"
    config = read_object(Path(run) / "config.json", "a whole run folder", "Train again.")
    return comparable(lines(Path(run), None), bool(config["simulated"])) if "training" in config else "not known"


SLICES = "test slices"


def _patients(predictions: pd.DataFrame, cohort: Cohort | None) -> Line:
    used = predictions[predictions["split"].isin(SPLITS) & predictions["stage"].notna()]
    counts = tuple(int((used["split"] == name).sum()) for name in SPLITS)
    published = f"{' / '.join(map(str, PATIENTS))} with T1W and T2W, as T2W stands"
    if cohort is None:
        return Line("patients", published, " / ".join(map(str, counts)), UNKNOWN if counts == PATIENTS else NO)
    stands = {scan.subject: scan.split for scan in cohort.scans if scan.sequence == "T2W"}
    as_t2w = all(stands.get(subject) == split for subject, split in zip(used["subject"], used["split"], strict=True))
    here = f"{' / '.join(map(str, counts))}, {'as T2W stands' if as_t2w else 'divided otherwise'}"
    same = YES if counts == PATIENTS and as_t2w and not cohort.simulated else NO
    if cohort.simulated:
        here += ", simulated"
    return Line("patients", published, here, same)


def _slices(run: Path, sequences: list[str]) -> Line:
    """The paper's T1W slices are not published; of T2W the share of mild test slices tells whether they can be its."""
    table = read_slice_predictions(run)
    if table is None or len(sequences) != 1:
        return Line(SLICES, "each counted by itself", "the answer is by patient", NO)
    tested = table[(table["split"] == "test") & table["stage"].notna()]
    mild = float((tested["stage"] == "mild").mean()) if len(tested) else float("nan")
    known = MAJORITY.get(sequences[0])
    published = "not known" if known is None else f"{100 * known:.1f} % of them mild"
    if sequences == ["T1W"]:
        published += "; which T1W slices were cut is not known"
    same = YES if sequences == ["T2W"] and known is not None and abs(mild - known) < 0.0006 else UNKNOWN
    return Line(SLICES, published, f"{len(tested)} that show liver, {100 * mild:.1f} % of them mild", same)


def _images(preparation: PreparationSettings, stager: Mapping[str, Any]) -> list[Line]:
    whole = preparation.pixels == (256, 256)
    grey = "three equal channels, mean and standard deviation 0.5"
    one_channel = "one channel, mean 0.449 and standard deviation 0.226"
    here = grey if stager.get("classifier") else one_channel
    low, high = preparation.percentiles
    return [
        Line("images", "whole slices, 256 x 256 pixels", preparation.described, _same(whole)),
        Line("channels", grey, here, _same(here == grey)),
        Line(
            "grey values",
            "of the published PNG files, 0 to 1; how they were scaled is not known",
            f"percentiles {low:g} and {high:g} of the body are 0 and 1",
            UNKNOWN,
        ),
    ]


def _batches(training: Mapping[str, Any]) -> list[Line]:
    slices = training.get("unit") == "slices"
    here = f"all, {training.get('batch', 32)} a batch" if slices else f"{training['slices']} of each patient"
    if training.get("steps"):
        here += f", {training['steps']} {'step' if training['steps'] == 1 else 'steps'} at most"
    amounts = training["augmentation"] or {}
    changed = {name: value for name, value in amounts.items() if value}
    augmented = ", ".join(f"{name} {value:g}" for name, value in changed.items()) or "none"
    return [
        Line(
            "slices of an epoch", "all, shuffled over the patients, 32 a batch", here, _same(here == "all, 32 a batch")
        ),
        Line(
            "augmentation", "mirrored along each side 0.3, turned 10 degrees", augmented, _same(changed == _AUGMENTED)
        ),
    ]


_AUGMENTED = {"rotation": 10.0, "flip": 0.3}


def _descent(training: Mapping[str, Any]) -> list[Line]:
    plain = training["balance"] == "none" and "loss" not in training and training["stager"]["head"] == "cross_entropy"
    loss = "cross-entropy, unweighted" if plain else f"{training['stager']['head']}, balance {training['balance']}"
    rate, decay = training["learning_rate"], training["weight_decay"]
    which = "of matrices alone" if training.get("decay") == "matrices" else "of all parameters"
    optimiser = f"AdamW, rate {rate:g}, weight decay {decay:g} {which}"
    falls = training["schedule"] == "plateau"
    stops = f"{training['patience']} epochs {training.get('patience_counts', 'no_better').replace('_', ' ')}"
    kept = f"{training['keep']} epoch by validation {training['watch']}" if training["keep"] == "best" else "last epoch"
    wanted = "AdamW, rate 0.0001, weight decay 1e-05 of matrices alone"
    return [
        Line("loss", "cross-entropy, unweighted", loss, _same(plain)),
        Line("optimiser", wanted, optimiser, _same(optimiser == wanted and not training.get("ema"))),
        Line(
            "schedule",
            "a tenth after 5 epochs without a better validation loss",
            "the same" if falls else training["schedule"],
            _same(falls),
        ),
        Line("epochs", "100 at most", f"{training['epochs']} at most", _same(training["epochs"] == 100)),
        Line("stops after", "20 epochs worse than the best", stops, _same(stops == "20 epochs worse")),
        Line("weights kept", "best epoch by validation accuracy", kept, _same(kept == _KEPT)),
        Line("seed", "42", str(training["seed"]), UNKNOWN),
    ]


_KEPT = "best epoch by validation accuracy"


def _network(stager: Mapping[str, Any], weights: str) -> list[Line]:
    classifier = "as its authors classify with it, the last layer new"
    if str(stager["backbone"]).startswith("vgg"):
        classifier = (
            "without batch normalisation, classic classifier of two layers of 4096, these and the last layer new"
        )
    whole = bool(stager.get("classifier"))
    here = f"{stager['backbone']}, {classifier if whole else 'with the encoder of this package'}"
    trained = weights.startswith("pretrained")
    plain = "_bn" not in str(stager["backbone"])
    return [
        Line("network", classifier, here, _same(whole and plain)),
        Line("first weights", "ImageNet", weights, _same(trained)),
    ]


def _same(holds: bool) -> str:
    return YES if holds else NO
