"""The stager with one part changed at a time: which changes there are, and the notebooks that try them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cirrnb.data.errors import InputError, listed
from cirrnb.data.sequences import T1W_T2W
from cirrnb.run.jobs import NotebookJob

BASELINE = "whole"


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


# The reference protocol with our backbone: every slice staged by itself, one feature map, no attention.
_SLICES = {"scales": 1, "attention": "none", "pooling": "slice", "fusion": "mean", "head": "cross_entropy"}

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
        Entry("reference_T1W", "T1W slice by slice, as the reference paper", {**_SLICES, "sequences": "T1W"}),
        Entry("reference_T2W", "T2W slice by slice, as the reference paper", {**_SLICES, "sequences": "T2W"}),
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
        parameters = {"run": str(run), "resamples": self.resamples}
        left = (run / "metrics.json",)
        return NotebookJob("03_evaluate", parameters, self.reports / run.name, left, self._train(entry, seed).key)
