"""Training of the segmenter: from nothing or from another's weights, on simulated slabs and on scans with masks.

A killed training resumes: state is stored every few minutes, and what a step sees depends on its number alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cirrnb.data.averaged_training import AveragedTraining, add_history, claim_request
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputError
from cirrnb.data.locks import locked
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.workers import Outcome, WorkerDied, in_parallel, processors
from cirrnb.segmentation.network import NetworkSettings, OrganNetwork
from cirrnb.segmentation.slabs import Mixture, Slabs, loss_of
from cirrnb.segmentation.weights import SegmenterConfig, load_network, save_network
from cirrnb.simulation.anatomy import ANATOMY_VERSION, save_anatomy
from cirrnb.simulation.rendering import RENDERING_VERSION
from cirrnb.simulation.wide import build_wide

STATE, HISTORY = "state.safetensors", "history.csv"
Progress = Callable[[Iterator[Any], int, str], Iterator[Any]]
"""Wraps an iterator, given how many items it has in all and what they are."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a training goes; stored with the weights.

    Attributes
    ----------
    steps : of the optimiser (AdamW). The rate rises for the first 3 % of them and stays; the running mean of the
        weights takes the place of a falling rate, with which the network fitted its own generator and lost other scans.
    rate, decay : rate of learning; weight decay of kernels.
    anatomies : simulated bodies to draw slabs from.
    averaging : of the weights; the running mean is what is kept.
    keep_every : steps after which the mean is also kept in a folder of its own, OUT/step-NUMBER, to choose among; 0 for
        never.
    mixture : what a step sees.
    network : widths of a network that begins from nothing.
    """

    steps: int = 8500
    rate: float = 3e-3
    decay: float = 0.02
    anatomies: int = 450
    averaging: float = 0.998
    keep_every: int = 0
    mixture: Mixture = field(default_factory=Mixture)
    network: NetworkSettings = field(default_factory=NetworkSettings)


def _unwatched(items: Iterator[Any], total: int, what: str) -> Iterator[Any]:
    return items


def train_segmenter(
    out: Path | str,
    settings: TrainingSettings | None = None,
    *,
    cohort: Cohort | Path | str | None = None,
    start: Path | str | None = None,
    anatomies: Path | str | None = None,
    device: str = "cpu",
    minutes: float = 5.0,
    progress: Progress = _unwatched,
) -> Path:
    """Train a segmenter into a folder; called again with the same arguments it resumes where it stopped.

    Parameters
    ----------
    out : folder for config.json, segmenter.safetensors, history.csv; and until it is done for the training's state.
    cohort : real scans with liver masks that are trained on too; only those of the split "train" where there is one.
    start : folder of a segmenter whose weights the training begins with; None begins from nothing.
    anatomies : folder in which simulated bodies are kept and looked for; by default `out`/anatomies.
    device : "cpu" or "cuda". On the CPU the arithmetic is bfloat16 where the processor has it.
    minutes : between two stored states.
    progress : shows how far it is.

    Raises
    ------
    InputError
        If `out` holds a training with other settings or one at work, or a scan, a mask or the weights cannot be used.
    """
    settings, out = settings or TrainingSettings(), Path(out)
    scans = _masked(cohort) if cohort is not None else []
    request = {
        **asdict(settings),
        "scans": [scan.name for scan in scans],
        "start": str(Path(start).name) if start else None,
        "versions": {"anatomy": ANATOMY_VERSION, "rendering": RENDERING_VERSION},
    }
    with locked(out):  # two trainings would take turns with one state
        claim_request(out, request)
        files = build_anatomies(Path(anatomies) if anatomies else out / "anatomies", settings.anatomies, progress)
        torch.manual_seed(settings.mixture.seed)
        network = load_network(Path(start))[0] if start else OrganNetwork(settings.network)
        training = _Training(network, settings, torch.device(device))
        first = training.restore(out / STATE)

        def described(done: int) -> SegmenterConfig:
            return SegmenterConfig(network.settings, "own", {**request, "done": done})

        loader = DataLoader(
            Slabs(files, scans, settings.mixture, first, settings.steps),
            batch_size=None,
            num_workers=1,
            prefetch_factor=6,
        )
        written = time.monotonic()
        steps = progress(iter(loader), settings.steps - first, "training")
        for step, (inputs, labels) in enumerate(steps, start=first):
            training.step(step, inputs, labels)
            if settings.keep_every and (step + 1) % settings.keep_every == 0:
                save_network(out / f"step-{step + 1}", training.mean, described(step + 1))
            last = step + 1 == settings.steps
            if last or time.monotonic() - written > 60 * minutes:
                training.store(out / STATE, step + 1)
                add_history(out / HISTORY, training.losses)
                written = time.monotonic()
        save_network(out, training.mean, described(settings.steps))
    return out


def build_anatomies(folder: Path, count: int, progress: Progress = _unwatched) -> list[Path]:
    """Simulated bodies of the seeds 0 to `count` - 1 in a folder, those that are missing built now, in parallel."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{seed:05d}.anatomy" for seed in range(count)]
    jobs = [{"seed": seed, "file": str(path)} for seed, path in enumerate(files) if not path.is_file()]
    if jobs:
        outcomes = in_parallel(jobs, min(processors(), len(jobs)), __name__)
        for _, outcome in progress(outcomes, len(jobs), "building anatomies"):
            if isinstance(outcome, WorkerDied):
                raise InputError(folder, str(outcome), "free space and memory for it", "Start it again; it resumes.")
    return files


def run_job(job: dict[str, Any]) -> Outcome:
    """Build one body, for `cirrnb.data.workers`."""
    save_anatomy(Path(job["file"]), build_wide(int(job["seed"])))
    return {}


def _masked(cohort: Cohort | Path | str) -> list[Scan]:
    people = cohort if isinstance(cohort, Cohort) else read_cohort(cohort)
    scans: Sequence[Scan] = [scan for scan in people.scans if scan.mask is not None]
    if any(scan.split for scan in scans):
        scans = [scan for scan in scans if scan.split == "train"]
    if not scans:
        raise InputError(people.name, "no scan with a mask to train on", "scans with liver masks", "Name their masks.")
    return list(scans)


class _Training(AveragedTraining):
    """The network on slabs."""

    def __init__(self, network: OrganNetwork, settings: TrainingSettings, device: torch.device) -> None:
        self.device = device
        self.half = device.type != "cpu" or _has_bfloat16()
        super().__init__(
            network.train().to(device).to(memory_format=torch.channels_last),
            steps=settings.steps,
            rate=settings.rate,
            decay=settings.decay,
            averaging=settings.averaging,
        )

    def step(self, step: int, inputs: Tensor, labels: Tensor) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits = self.network(inputs.to(self.device))
        self.update(step, loss_of(logits, labels.to(self.device)))


def _has_bfloat16() -> bool:
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())
