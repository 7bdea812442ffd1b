"""Training a stager: the loop, to be read from top to bottom."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
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
from tqdm import tqdm

from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.dataset import BagDataset, draw
from cirrnb.data.errors import InputError
from cirrnb.data.locks import claimed
from cirrnb.data.plugins import loaded_plugins
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.model import provenance
from cirrnb.model.eligibility import staged_patients
from cirrnb.model.network.batch import Batch, collate
from cirrnb.model.network.stager import Stager
from cirrnb.model.runfolder import require_same_run, write_run
from cirrnb.model.schedule import best_epoch, one_cycle, plateau, steps_of_epoch
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.surroundings import own_accelerator, own_context
from cirrnb.model.unfinished import UnfinishedRun

log = logging.getLogger(__name__)

Seen = list[tuple[float, int, int]]
"""Loss, true and predicted stage of each patient seen."""


@own_context()
def train(
    prepared: PreparedCohort,
    out: Path | str,
    settings: TrainingSettings | None = None,
    *,
    progress: bool = True,
    resume: bool = True,
) -> Path:
    """Train a stager on the patients of split "train" and leave a complete run folder at `out`.

    The folder holds config.json, model.safetensors, history.csv (a row an epoch), predictions.csv (all patients, by
    `predict`, uncalibrated), calibration.json (from the validation patients), familiarity.json (what training scans
    look like) and provenance.json; `evaluate(...).save(out)` adds metrics.json. Until the last epoch is done the
    training lives in `.<name>.unfinished` beside it and goes on from there after a kill, to the same weights as if
    nothing had happened; `resume=False` throws that away and begins again. If `out` is already the complete run of
    these settings and data, it is returned as it is.

    Under `accelerate launch` the same call trains on several devices; of its settings, the number of processes and
    `--cpu` are heeded.

    Raises
    ------
    InputError, InputErrors
        If a patient stands in two splits, the training patients do not show two stages, a split has nobody with a
        stage, what stands at `out` or unfinished beside it has other settings or data, another training into `out` is
        under way, the loss is not finite, or the environment holds some of a launcher's variables (LOCAL_RANK,
        WORLD_SIZE, ...) and not the others.
    """
    settings, out = settings or TrainingSettings(), Path(out)
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
    with own_accelerator() as accelerator, claimed(out) if accelerator.is_main_process else nullcontext():
        if broadcast_object_list([out.exists()])[0]:  # another training completed it while this one waited
            require_same_run(out, identity)
            return out
        return _train(prepared, bags, settings, UnfinishedRun(out, identity), accelerator, progress, resume)


def _train(
    prepared: PreparedCohort,
    bags: dict[str, list[Bag]],
    settings: TrainingSettings,
    unfinished: UnfinishedRun,
    accelerator: Accelerator,
    progress: bool,
    resume: bool,
) -> Path:
    """Begin or go on, and leave the run folder; no other training writes there meanwhile."""
    out, started = unfinished.out, datetime.now(UTC)
    if accelerator.is_main_process:
        unfinished.begin(resume)
    accelerator.wait_for_everyone()
    with torch.random.fork_rng(devices=[]):
        stager, history = _fit(bags, prepared.stages, settings, unfinished, accelerator, progress)
    if accelerator.is_main_process:
        told = {
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": accelerator.device.type,
            "processes": accelerator.num_processes,
            "plugins": loaded_plugins(),
            **unfinished.identity,
        }
        complete = unfinished.folder / "complete"
        write_run(complete, out.name, stager, prepared, history, told, accelerator.device)
        unfinished.finish(complete)
    accelerator.wait_for_everyone()
    return out


def _fit(
    bags: dict[str, list[Bag]],
    stages: StageScale,
    settings: TrainingSettings,
    unfinished: UnfinishedRun,
    accelerator: Accelerator,
    progress: bool,
) -> tuple[Stager, list[dict[str, Any]]]:
    """Train the epochs that are left; the stager, and a row of the history for each epoch."""
    torch.manual_seed(settings.seed)
    stager = Stager(settings.stager, fetch=not unfinished.begun, stages=stages)
    optimizer = torch.optim.AdamW(stager.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    history = unfinished.restore(stager, optimizer)
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
    done, main = len(history), accelerator.is_main_process
    with tqdm(
        initial=done, total=settings.epochs, desc="training", unit="epoch", disable=not (progress and main)
    ) as bar:
        for number in range(done, settings.epochs):
            if has_stopped(history, settings):
                break
            began = time.perf_counter()
            row: dict[str, Any] = {"epoch": number + 1}
            stager.forget_statistics()
            row |= epoch.run(number, history)
            row |= _validate(stager, bags["valid"], settings, accelerator.device)
            history.append(row | {"seconds": round(time.perf_counter() - began, 2)})
            if main:
                best = best_epoch(_watched(history, settings), settings.watch == "accuracy") == number
                unfinished.save(number + 1, stager, optimizer, history, is_best=best and settings.keep == "best")
                log.info(", ".join(f"{name} {value:.4g}" for name, value in history[-1].items()))
                bar.set_postfix_str(f"loss {row['train_loss']:.3f}, valid {row['valid_loss']:.3f}")
            accelerator.wait_for_everyone()
            bar.update()
    if settings.keep == "best":
        unfinished.take_best(stager)
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
        said = self.stager.stage(batch, self.chunk)
        return self.stager.loss(said, batch, weights, focus, self.named), said.log_probabilities.argmax(dim=1)


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

    def run(self, epoch: int, history: Sequence[dict[str, Any]]) -> dict[str, float]:
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
            own = len(step[rank::world])
            seen += self._step(batch.to(accelerator.device), own, world / len(step), rate)
        return {"learning_rate": rate, **_summary("train", gather_object(seen), self.stages)}

    def _rate(self, step: int, steps: int, history: Sequence[dict[str, Any]]) -> float:
        if self.settings.schedule == "one_cycle":
            return one_cycle(step, steps, self.settings.learning_rate)
        return plateau([row["valid_loss"] for row in history], self.settings.learning_rate)

    def _step(self, batch: Batch, own: int, share: float, rate: float) -> Seen:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        device = self.accelerator.device.type
        focus = 2.0 if self.settings.balance == "focal" else 0.0
        with torch.autocast(device, torch.bfloat16, enabled=_in_bf16(self.settings.precision, device)):
            losses, said = self.network(batch, self.weights, focus)
        # Devices average their gradients: weighted so that every patient of the step counts alike.
        self.accelerator.backward(losses[:own].sum() * share)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return _told(losses[:own], batch, said)


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
        said = stager.stage(batch, settings.chunk)
        seen += _told(stager.loss(said, batch, loss=settings.loss), batch, said.log_probabilities.argmax(dim=1))
    return _summary("valid", seen, len(stager.stages))


def _told(losses: torch.Tensor, batch: Batch, said: torch.Tensor) -> Seen:
    return list(zip(losses.tolist(), batch.stage.tolist(), said.tolist(), strict=False))


def _summary(split: str, seen: Seen, stages: int) -> dict[str, float]:
    if not seen:
        return {f"{split}_{name}": float("nan") for name in ("loss", "accuracy", "kappa")}
    losses, truth, said = (np.array(part) for part in zip(*seen, strict=True))
    if not np.isfinite(losses).all():
        raise InputError(
            f"{split} loss", "a value that is not finite", "a training that converges", "Lower learning_rate."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kappa is undefined, NaN, where all truths and all answers are one stage
        kappa = cohen_kappa_score(truth, said, labels=range(stages), weights="quadratic")
    return {f"{split}_loss": losses.mean(), f"{split}_accuracy": float((truth == said).mean()), f"{split}_kappa": kappa}
