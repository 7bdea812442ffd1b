"""The patients a training learns from: who has a stage, in which split, and what each stage counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from cirrnb.data import splits
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError, raise_if_any
from cirrnb.data.scan import SPLITS
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.model.settings import TrainingSettings


def class_weights(
    bags: Sequence[Bag], settings: TrainingSettings, stages: StageScale = CIRRHOSIS
) -> torch.Tensor | None:
    """Weights (stages,) in the loss, in inverse proportion to how many training patients have each stage and one on
    average over them; None where all count alike."""
    if settings.balance == "none":
        return None
    counts = torch.tensor([sum(bag.stage == stage for bag in bags) for stage in stages])
    return counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))


def staged_patients(prepared: PreparedCohort, sequences: Collection[str]) -> dict[str, list[Bag]]:
    """For each of `SPLITS` the patients with a stage and one of `sequences`, with scans of those alone.

    "valid" and "test" may be empty: the last epoch is kept whatever the validation says, and who wants all patients
    to train on has a reason.

    Raises
    ------
    InputErrors
        If the cohort has no sequence of a name, a patient stands in two splits, or scans were prepared otherwise than
        the cohort says.
    InputError
        If the training patients do not show two stages, or a split holds patients but none with a stage.
    """
    if not isinstance(prepared, PreparedCohort):
        remedy = "Split the cohort, prepare it, and hand in what cirrnb.prepare returns."
        raise InputError("prepared", f"a {type(prepared).__name__}", "a prepared cohort", remedy)
    splits.check(prepared.cohort)
    raise_if_any(
        InputError(prepared.name, f"no sequence {name}", f"names among {', '.join(prepared.sequences)}", _SEQUENCES)
        for name in sequences
        if name not in prepared.sequences
    )
    raise_if_any(
        InputError(scan.scan.name, f"a scan prepared with {scan.settings}", f"{prepared.settings}", "Prepare it again.")
        for scan in prepared.scans
        if scan.settings != prepared.settings
    )
    staged = {name: prepared.bags(split=name, staged=True) for name in SPLITS}
    for name, bags in staged.items():
        everyone = len(prepared.bags(split=name))
        if everyone and not bags:
            raise InputError(
                prepared.name, f"{everyone} patients in split {name}, none of them with a stage", "stages", _REMEDY
            )
    staged = {name: [chosen for bag in bags if (chosen := bag.only(sequences))] for name, bags in staged.items()}
    stages = {bag.stage for bag in staged["train"]}
    if len(stages) < 2:
        raise InputError(
            prepared.name,
            f"{len(staged['train'])} training patients with {' or '.join(sequences)} and a stage "
            f"({', '.join(map(str, stages)) or 'none'})",
            "at least two stages to tell apart",
            _REMEDY,
        )
    return staged


_SEQUENCES = "Set the sequences to look at, or name those of the cohort when it is read."
_REMEDY = "Split the cohort with official, random or kfold of cirrnb.data.splits and prepare it again."
