"""The stager against slices staged one by one: `python docs/score_slice_protocol.py COHORT HOME OUT`.

COHORT is a simulated cohort that nothing was developed on, HOME another one, on whose patients the slice protocol of
Zeng et al. (arXiv 2502.18225) is trained, once on T1W and once on T2W: every slice is a training example with its
patient's stage. The backbone, the draws and the schedule are those of the preset "demo"; the protocol has no scales, no
attention and no fusion. A patient's answer is the mean of its slices' probabilities. Outlines are drawn anew by the
program for everybody. OUT keeps what was made, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

from score_stager import cached_predictions, drawn_anew

import cirrnb
from cirrnb.benchmark.ablation import SLICES
from cirrnb.data import splits
from cirrnb.evaluation.comparison import compare
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.evaluation.reference_paper import slice_accuracy
from cirrnb.model.checkpoint import load_stager
from cirrnb.model.prediction import predict_slices
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.trained_model import load_model

PROTOCOL: dict[str, Any] = {**SLICES, "sequence_dropout": 0.0}
VALID = 0.07
"""Share of HOME's patients that validate; their loss is looked at and chooses nothing."""


def main() -> None:
    """Prepare, train, stage, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    model = load_model("shipped")
    cohort, home = (drawn_anew(folder, given.out, model) for folder in (given.cohort, given.home))
    bags = cohort.bags(staged=True)
    both = cached_predictions(bags, model, given.out / f"{cohort.name}-{model.fingerprint[:16]}.csv")
    divided = splits.random(cirrnb.read_cohort(given.home), (1 - VALID, VALID, 0.0), seed=0)
    home = home.with_splits({scan.subject: scan.split for scan in divided.scans})
    counts = {split: sum(bag.split == split for bag in home.bags(staged=True)) for split in ("train", "valid")}
    print(f"{len(bags)} patients of {given.cohort.name}; the slice protocol learned from {counts} of {given.home.name}")
    print(f"\nstager\n{evaluate(both).table.round(3).to_string(index=False)}")
    for sequence in ("T1W", "T2W"):
        settings = TrainingSettings.preset("demo", sequences=(sequence,), epochs=given.epochs, **PROTOCOL)
        run = cirrnb.train(home, given.out / f"slices-{sequence}-{given.epochs}", settings, progress=False)
        shown = [single for bag in bags if (single := bag.only((sequence,))) is not None]
        answers = cirrnb.predict(run, shown, force=True).assign(split="test")
        slices = predict_slices(load_stager(run), shown).assign(split="test")
        print(f"\nslice protocol of {sequence}\n{evaluate(answers).table.round(3).to_string(index=False)}")
        print(slice_accuracy(slices).round(3).to_string(index=False))
        print(f"the stager less the slice protocol of {sequence}")
        print(compare(both, answers).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
