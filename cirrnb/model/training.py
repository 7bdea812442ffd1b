"""Training a stager: the loop, to be read from top to bottom."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from sklearn.metrics import cohen_kappa_score

from cirrnb.data import splits
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.dataset import BagDataset, draw
from cirrnb.data.errors import InputError, raise_if_any
from cirrnb.data.locks import claimed
from cirrnb.data.plugins import loaded_plugins
from cirrnb.data.scan import SPLITS
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.data.typed_paths import typed_path
from cirrnb.model import provenance
from cirrnb.model.batch import Batch, collate
from cirrnb.model.pretrained import asks_hub
from cirrnb.model.run_folder import require_same_run, write_run
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.stager import Stager
from cirrnb.model.torch_context import isolated_torch, training_accelerator
from cirrnb.model.training_progress import Tell, TrainingProgress, teller
from cirrnb.model.training_state import TrainingState
from cirrnb.model.warm_start import begin_as_asked

log = logging.getLogger(__name__)

Seen = list[tuple[float, int, int]]
"""Loss, true and predicted stage of each patient seen."""


@isolated_torch()
def train(
    prepared: PreparedCohort,
    out: Path | str,
    settings: TrainingSettings | None = None,
    *,
    progress: bool | Tell = True,
    resume: bool = True,
) -> Path:
    """Train a stager on the patients of split "train" and leave a complete run folder at `out`.

    The folder holds config.json, model.safetensors, history.csv (a row an epoch), predictions.csv (all patients, by
    `predict`, uncalibrated), calibration.json (from the validation patients), out_of_distribution.json (what training
    scans look like) and provenance.json; `evaluate(...).save(out)` adds metrics.json. Until the last epoch is done the
    training lives in `.<name>.unfinished` beside it and goes on from there after a kill, to the same weights as if
    nothing had happened; `resume=False` throws that away and begins again. If `out` is already the complete run of
    these settings and data, it is returned as it is.

    Under `accelerate launch` the same call trains on several devices; of its settings, the number of processes and
    `--cpu` are heeded. With `progress` True there is a bar, and lines say that the hub is asked for weights and how
    long the training takes; a function gets the lines alone.

    Raises
    ------
    InputError, InputErrors
        If a patient stands in two splits, the training patients do not show two stages, a split has nobody with a
        stage, what stands at `out` or unfinished beside it has other settings or data, another training into `out` is
        under way, the loss is not finite, or the environment holds some of a launcher's variables (LOCAL_RANK,
        WORLD_SIZE, ...) and not the others.

    Examples
    --------
    >>> cohort = cirrnb.splits.random(cirrnb.read_cohort("cohorts/mine"), seed=0)
    >>> prepared = cirrnb.prepare(cohort, progress=False)
    >>> run = cirrnb.train(prepared, "runs/mine", progress=False)
    >>> (run / "model.safetensors").is_file()
    True
    """
    settings, out = settings or TrainingSettings(), typed_path(out)
    bags = staged_patients(prepared, settings.stager.sequences)
    identity = {
        "training": settings.stored(),
        "preparation": asdict(prepared.settings),
        "data": provenance.fingerprint(prepared.bags()),
    }
    if prepared.stages.names != CIRRHOSIS.names:
        identity["stages"] = prepared.stages.names
    if out.exists():
        require_same_run(out, identity)
        return out
    with training_accelerator() as accelerator, claimed(out) if accelerator.is_main_process else nullcontext():
        if broadcast_object_list([out.exists()])[0]:  # another training completed it while this one waited
            require_same_run(out, identity)
            return out
        return _train(prepared, bags, settings, TrainingState(out, identity), accelerator, progress, resume)


def _train(
    prepared: PreparedCohort,
    bags: dict[str, list[Bag]],
    settings: TrainingSettings,
    state: TrainingState,
    accelerator: Accelerator,
    progress: bool | Tell,
    resume: bool,
) -> Path:
    """Begin or go on, and leave the run folder; no other training writes there meanwhile."""
    out, started = state.out, datetime.now(UTC)
    if accelerator.is_main_process:
        state.begin(resume)
    accelerator.wait_for_everyone()
    with torch.random.fork_rng(devices=[]):
        stager, history = _fit(bags, prepared.stages, settings, state, accelerator, progress)
    if accelerator.is_main_process:
        record = {
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": accelerator.device.type,
            "processes": accelerator.num_processes,
            "plugins": loaded_plugins(),
            **state.identity,
        }
        complete = state.folder / "complete"
        write_run(complete, out.name, stager, prepared, history, record, accelerator.device)
        state.finish(complete)
    accelerator.wait_for_everyone()
    return out


def _fit(
    bags: dict[str, list[Bag]],
    stages: StageScale,
    settings: TrainingSettings,
    state: TrainingState,
    accelerator: Accelerator,
    progress: bool | Tell,
) -> tuple[Stager, list[dict[str, Any]]]:
    """Train the epochs that are left; the stager, and a row of the history for each epoch."""
    torch.manual_seed(settings.seed)
    main = accelerator.is_main_process
    progress = progress if main else False
    if settings.stager.pretrained is True and not state.begun and asks_hub(settings.stager.backbone):
        teller(progress)(f"Asking the Hugging Face hub for weights of {settings.stager.backbone}, once.")
    stager = Stager(settings.stager, fetch=not state.begun, stages=stages)
    if not state.begun:
        begin_as_asked(stager)
    optimizer = torch.optim.AdamW(stager.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    history = state.restore(stager, optimizer)
    network, stepper = accelerator.prepare(_Scored(stager, settings), optimizer)
    dataset = BagDataset(
        bags["train"],
        settings.slices,
        settings.augmentation,
        settings.seed,
        settings.sequence_dropout,
        stager.sequences,
        stages,
    )
    weights = class_weights(bags["train"], settings, stages)
    epoch = _Epoch(network, stepper, dataset, settings, weights, accelerator, len(stages))
    with TrainingProgress(progress, settings.epochs, len(history)) as told:
        for number in range(len(history), settings.epochs):
            if has_stopped(history, settings):
                break
            began = time.perf_counter()
            row: dict[str, Any] = {"epoch": number + 1}
            stager.forget_statistics()
            row |= epoch.run(number, history, told)
            row |= _validate(stager, bags["valid"], settings, accelerator.device)
            history.append(row | {"seconds": round(time.perf_counter() - began, 2)})
            if main:
                best = best_epoch(_watched(history, settings), settings.watch == "accuracy") == number
                state.save(number + 1, stager, optimizer, history, is_best=best and settings.keep == "best")
                log.info(", ".join(f"{name} {value:.4g}" for name, value in history[-1].items()))
            accelerator.wait_for_everyone()
            told.epoch(history[-1])
    if settings.keep == "best":
        state.take_best(stager)
    return stager, history


def class_weights(
    bags: Sequence[Bag], settings: TrainingSettings, stages: StageScale = CIRRHOSIS
) -> torch.Tensor | None:
    """Weights (stages,) in the loss, in inverse proportion to how many training patients have each stage and one on
    average over them; None where all count alike."""
    if settings.balance == "none":
        return None
    counts = torch.tensor([sum(bag.stage == stage for bag in bags) for stage in stages])
    return counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))


def has_stopped(history: Sequence[dict[str, Any]], settings: TrainingSettings) -> bool:
    """True if the last `patience` epochs brought no better validation value than one before."""
    best = best_epoch(_watched(history, settings), settings.watch == "accuracy")
    return settings.patience is not None and best is not None and len(history) - 1 - best >= settings.patience


def _watched(history: Sequence[dict[str, Any]], settings: TrainingSettings) -> list[float]:
    return [row[f"valid_{settings.watch}"] for row in history]


class _Scored(torch.nn.Module):
    """A stager as accelerate wraps it: one call from a batch to all that training needs of it."""

    def __init__(self, stager: Stager, settings: TrainingSettings):
        super().__init__()
        self.stager, self.chunk, self.named = stager, settings.chunk, settings.loss

    def forward(self, batch: Batch, weights: torch.Tensor | None, focus: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (patients,) and predicted stages (patients,)."""
        staging = self.stager.stage(batch, self.chunk)
        return self.stager.loss(staging, batch, weights, focus, self.named), staging.log_probabilities.argmax(dim=1)


@dataclass
class _Epoch:
    """One pass over the training patients; all chance in it follows from seed and epoch, so that it can be redone."""

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    dataset: BagDataset
    settings: TrainingSettings
    weights: torch.Tensor | None
    accelerator: Accelerator
    stages: int

    def run(self, epoch: int, history: Sequence[dict[str, Any]], told: TrainingProgress) -> dict[str, float]:
        settings, accelerator = self.settings, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        torch.manual_seed(int(np.random.SeedSequence((settings.seed, epoch, rank)).generate_state(1)[0]))  # dropout
        self.dataset.set_epoch(epoch)
        steps = steps_of_epoch(len(self.dataset), settings.patients_per_step, settings.seed, epoch)
        shares = [step[rank::world] or step[:1] for step in steps]
        loader = torch.utils.data.DataLoader(
            self.dataset, batch_sampler=shares, collate_fn=collate, num_workers=settings.workers
        )
        seen: Seen = []
        rate = 0.0
        self.network.train()
        for number, (batch, step) in enumerate(zip(loader, steps, strict=True)):
            rate = self._rate(epoch * len(steps) + number, settings.epochs * len(steps), history)
            patients = len(step[rank::world])
            seen += self._step(batch.to(accelerator.device), patients, world / len(step), rate)
            told.step(number, len(steps))
        return {"learning_rate": rate, **_summary("train", gather_object(seen), self.stages)}

    def _rate(self, step: int, steps: int, history: Sequence[dict[str, Any]]) -> float:
        if self.settings.schedule == "one_cycle":
            return one_cycle(step, steps, self.settings.learning_rate)
        return plateau([row["valid_loss"] for row in history], self.settings.learning_rate)

    def _step(self, batch: Batch, patients: int, share: float, rate: float) -> Seen:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        device = self.accelerator.device.type
        focus = 2.0 if self.settings.balance == "focal" else 0.0
        with torch.autocast(device, torch.bfloat16, enabled=_in_bf16(self.settings.precision, device)):
            losses, predicted = self.network(batch, self.weights, focus)
        # Devices average their gradients: weighted so that every patient of the step counts alike.
        self.accelerator.backward(losses[:patients].sum() * share)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return _told(losses[:patients], batch, predicted)


def _in_bf16(precision: str, device: str) -> bool:
    return precision == "bf16" or (precision == "auto" and device == "cuda" and torch.cuda.is_bf16_supported())


@torch.inference_mode()
def _validate(
    stager: Stager, bags: Sequence[Bag], settings: TrainingSettings, device: torch.device
) -> dict[str, float]:
    """Loss, accuracy and kappa of the validation patients, from evenly spaced slices; NaN where there are none."""
    stager.eval()
    seen: Seen = []
    for start in range(0, len(bags), settings.patients_per_step):
        part = bags[start : start + settings.patients_per_step]
        batch = collate([draw(bag, settings.slices, stager.sequences, stager.stages) for bag in part]).to(device)
        staging = stager.stage(batch, settings.chunk)
        seen += _told(stager.loss(staging, batch, loss=settings.loss), batch, staging.log_probabilities.argmax(dim=1))
    return _summary("valid", seen, len(stager.stages))


def _told(losses: torch.Tensor, batch: Batch, predicted: torch.Tensor) -> Seen:
    return list(zip(losses.tolist(), batch.stage.tolist(), predicted.tolist(), strict=False))


def _summary(split: str, seen: Seen, stages: int) -> dict[str, float]:
    if not seen:
        return {f"{split}_{name}": float("nan") for name in ("loss", "accuracy", "kappa")}
    losses, truth, predicted = (np.array(part) for part in zip(*seen, strict=True))
    if not np.isfinite(losses).all():
        raise InputError(
            f"{split} loss", "a value that is not finite", "a training that converges", "Lower learning_rate."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kappa is undefined, NaN, where all truths and all answers are one stage
        kappa = cohen_kappa_score(truth, predicted, labels=range(stages), weights="quadratic")
    return {
        f"{split}_loss": losses.mean(),
        f"{split}_accuracy": float((truth == predicted).mean()),
        f"{split}_kappa": kappa,
    }


def steps_of_epoch(patients: int, per_step: int, seed: int, epoch: int) -> list[list[int]]:
    """Patients' indices in random order, in steps of nearly equal size: a last step of one patient would be noise."""
    order = np.random.default_rng((seed, epoch)).permutation(patients)
    return [part.tolist() for part in np.array_split(order, math.ceil(patients / per_step))]


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of step 0 to `steps` - 1: up along a cosine for three tenths of them from peak / 25, then down to
    nearly nothing. Smith and Topin, *Super-Convergence*, arXiv 1708.07120, in the form of torch's OneCycleLR; being a
    function of the step it leaves no state to save."""
    top = 0.3 * steps - 1
    if step <= top:
        return _cosine(peak / 25, peak, step / top)
    return _cosine(peak, peak / 25e4, (step - top) / (steps - 1 - top))


def plateau(losses: Sequence[float], peak: float, patience: int = 5) -> float:
    """Learning rate after epochs with these validation losses: a tenth whenever more than `patience` epochs brought no
    better one. What torch's ReduceLROnPlateau does, as a function of the history."""
    rate, best, waited = peak, math.inf, 0
    for loss in losses:
        if math.isnan(loss):
            continue  # nobody validates, and nothing is known to have come to a halt
        if loss < best * (1 - 1e-4):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            rate, waited = rate / 10, 0
    return rate


def best_epoch(values: Sequence[float], higher_is_better: bool) -> int | None:
    """Index of the first best value, passing over NaN; None where there is none."""
    known = [(value if higher_is_better else -value, -index) for index, value in enumerate(values) if value == value]
    return -max(known)[1] if known else None


def _cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * way)) / 2


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
    staged = {name: [one for bag in bags if (one := bag.only(sequences))] for name, bags in staged.items()}
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
