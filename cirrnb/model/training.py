"""Training a stager: the loop, to be read from top to bottom."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from sklearn.metrics import cohen_kappa_score

from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.dataset import BagDataset, EvenlyDrawn, SliceDataset
from cirrnb.data.errors import InputError
from cirrnb.data.locks import claimed
from cirrnb.data.plugins import loaded_plugins
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.data.typed_paths import typed_path
from cirrnb.model import provenance
from cirrnb.model.batch import Batch
from cirrnb.model.callbacks import Step, TrainingCallback, callbacks_named
from cirrnb.model.classifiers import require_size
from cirrnb.model.feeding import Feed
from cirrnb.model.pretrained import asks_hub
from cirrnb.model.run_folder import require_same_run, write_run
from cirrnb.model.schedule import (
    batches_of_epoch,
    best_epoch,
    has_stopped,
    one_cycle,
    plateau,
    steps_of_epoch,
    watched,
)
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.stager import Stager
from cirrnb.model.torch_context import isolated_torch, training_accelerator
from cirrnb.model.training_patients import class_weights, staged_patients
from cirrnb.model.training_progress import Tell, TrainingProgress, teller
from cirrnb.model.training_state import TrainingState
from cirrnb.model.warm_start import begin_as_asked
from cirrnb.model.weight_mean import WeightMean

log = logging.getLogger(__name__)

Seen = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Losses, true and predicted stages of each step's patients, on the device: whoever reads a number waits for it."""


@isolated_torch()
def train(
    prepared: PreparedCohort,
    out: Path | str,
    settings: TrainingSettings | None = None,
    *,
    progress: bool | Tell = True,
    resume: bool = True,
    track: str | Sequence[str] | None = None,
) -> Path:
    """Train a stager on the patients of split "train" and leave a complete run folder at `out`.

    The run folder holds config.json, model.safetensors, history.csv (one row per epoch), predictions.csv (all patients,
    by `predict`, uncalibrated), calibration.json (from the validation patients), out_of_distribution.json (features of
    the training scans) and provenance.json; `evaluate(...).save(out)` adds metrics.json. Until the last epoch is done,
    the training is kept in `.<name>.unfinished` next to `out`. An interrupted training resumes there and ends with the
    weights that it would have had without the interruption.

    Under `accelerate launch` the same call trains on several devices. Of the settings of accelerate, only the number of
    processes and `--cpu` are used.

    Parameters
    ----------
    prepared : prepared scans of patients with stages and splits; see `cirrnb.splits`.
    out : run folder to write. If it already is the complete run of these settings and data, it is returned unchanged.
    settings : network and training; None takes the defaults of `TrainingSettings`. Other presets:
        `TrainingSettings.preset("demo")`.
    progress : True shows a bar and prints notes, for example on the download of weights. A function gets the notes
        as lines, without a bar. False shows nothing.
    resume : False deletes an interrupted training and begins again.
    track : names of callbacks (`cirrnb.model.callbacks`), such as "tensorboard".

    Returns
    -------
    `out`, as a path.

    Raises
    ------
    InputError, InputErrors
        If a patient is in two splits, the training patients have fewer than two stages, a split has no patient with a
        stage, `out` or the interrupted training next to it has other settings or data, another process trains into
        `out`, the loss is not finite, or the environment has only some of a launcher's variables (LOCAL_RANK,
        WORLD_SIZE, ...).

    Examples
    --------
    >>> cohort = cirrnb.splits.random(cirrnb.read_cohort("cohorts/mine"), seed=0)
    >>> prepared = cirrnb.prepare(cohort, progress=False)
    >>> run = cirrnb.train(prepared, "runs/mine", progress=False)
    >>> (run / "model.safetensors").is_file()
    True
    """
    settings, out = settings or TrainingSettings(), typed_path(out)
    if settings.weights is not None and not typed_path(settings.weights).is_file():
        raise InputError(settings.weights, "no file", "a safetensors file of first weights", "Correct the path.")
    bags = staged_patients(prepared, settings.stager.sequences)
    identity = {
        "training": settings.stored(),
        "preparation": prepared.settings.stored(),
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
        return _train(prepared, bags, settings, TrainingState(out, identity), accelerator, progress, resume, track)


def _train(
    prepared: PreparedCohort,
    bags: dict[str, list[Bag]],
    settings: TrainingSettings,
    state: TrainingState,
    accelerator: Accelerator,
    progress: bool | Tell,
    resume: bool,
    track: str | Sequence[str] | None,
) -> Path:
    """Begin or go on, and leave the run folder; no other training writes there meanwhile."""
    out, started = state.out, datetime.now(UTC)
    if accelerator.is_main_process:
        state.begin(resume)
    accelerator.wait_for_everyone()
    callbacks = callbacks_named(track, out) if accelerator.is_main_process else []
    with torch.random.fork_rng(devices=[]), _fast_products(accelerator.device):
        stager, history = _fit(bags, prepared, settings, state, accelerator, progress, callbacks)
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
    prepared: PreparedCohort,
    settings: TrainingSettings,
    state: TrainingState,
    accelerator: Accelerator,
    progress: bool | Tell,
    callbacks: Sequence[TrainingCallback],
) -> tuple[Stager, list[dict[str, Any]]]:
    """Train the epochs that are left; the stager, and a row of the history for each epoch."""
    torch.manual_seed(settings.seed)
    main = accelerator.is_main_process
    stager = _first_stager(settings, prepared, state, progress if main else False)
    optimizer = torch.optim.AdamW(decaying(stager, settings), lr=settings.learning_rate)
    mean = WeightMean(stager, settings.ema) if settings.ema else None
    history = state.restore(stager, optimizer, mean)
    network, stepper = accelerator.prepare(_Scored(stager, settings), optimizer)
    if mean is not None:
        mean.to(accelerator.device)
    weights = class_weights(bags["train"], settings, prepared.stages)
    weights = None if weights is None else weights.to(accelerator.device)
    feeds = _feeds(bags, settings, stager, accelerator.device)
    followers = _Followers([TrainingProgress(progress if main else False, settings.epochs, len(history)), *callbacks])
    epoch = _Epoch(network, stepper, feeds[0], settings, weights, accelerator, len(prepared.stages), mean, followers)
    followers.begin(settings.epochs, len(history))
    try:
        for number in range(len(history), settings.epochs):
            if has_stopped(history, settings):
                break
            began = time.perf_counter()
            row: dict[str, Any] = {"epoch": number + 1}
            stager.forget_statistics()
            row |= epoch.run(number, history)
            with nullcontext() if mean is None else mean.in_place():
                row |= _validate(stager, feeds[1], settings, accelerator)
                history.append(row | {"seconds": round(time.perf_counter() - began, 2)})
                best = best_epoch(watched(history, settings), settings.watch == "accuracy") == number
                best_weights = stager.state_dict() if best and settings.keep == "best" else None
                if best_weights is not None and mean is not None:
                    best_weights = {name: value.clone() for name, value in best_weights.items()}
            if main:
                state.save(number + 1, stager, optimizer, history, best_weights, mean)
                log.info(", ".join(f"{name} {value:.4g}" for name, value in history[-1].items()))
            accelerator.wait_for_everyone()
            followers.epoch(history[-1])
    finally:
        followers.end()
    if settings.keep == "best":
        state.take_best(stager)
    elif mean is not None:
        mean.take()
    return stager, history


def _first_stager(
    settings: TrainingSettings, prepared: PreparedCohort, state: TrainingState, progress: bool | Tell
) -> Stager:
    """The stager with its first weights, or with random ones where a state will be read over them."""
    fetch = settings.stager.pretrained is True and settings.weights is None
    if fetch and not state.begun and asks_hub(settings.stager.backbone):
        teller(progress)(f"Asking the Hugging Face hub for weights of {settings.stager.backbone}, once.")
    file = None if settings.weights is None else typed_path(settings.weights)
    stager = Stager(settings.stager, fetch=not state.begun, stages=prepared.stages, weights=file)
    for encoder in stager.encoders.values():
        require_size(encoder, settings.stager.backbone, prepared.settings.size)  # type: ignore[arg-type]
    if not state.begun:
        begin_as_asked(stager)
    return stager


def decaying(stager: torch.nn.Module, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Groups of parameters with their weight decay, for AdamW."""
    parameters = list(stager.parameters())
    if settings.decay == "all":
        return [{"params": parameters, "weight_decay": settings.weight_decay}]
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _feeds(
    bags: dict[str, list[Bag]], settings: TrainingSettings, stager: Stager, device: torch.device
) -> tuple[Feed, Feed]:
    """Batches for training and for validation."""
    names, stages, workers = stager.sequences, stager.stages, settings.workers
    train: BagDataset | SliceDataset
    valid: EvenlyDrawn | SliceDataset
    if settings.unit == "slices":
        train = SliceDataset(bags["train"], settings.augmentation, settings.seed, names, stages)
        valid = SliceDataset(bags["valid"], None, settings.seed, names, stages)
    else:
        dropout = settings.sequence_dropout
        train = BagDataset(bags["train"], settings.slices, settings.augmentation, settings.seed, dropout, names, stages)
        valid = EvenlyDrawn(bags["valid"], settings.slices, names, stages)
    return Feed(train, workers, device), Feed(valid, min(workers, 2), device)


@contextmanager
def _fast_products(device: torch.device) -> Iterator[None]:
    """On a GPU, float32 products in TF32; the caller's setting comes back at the end."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Followers:
    """Several callbacks called as one."""

    def __init__(self, callbacks: Sequence[TrainingCallback]):
        self._callbacks = callbacks

    def begin(self, epochs: int, done: int) -> None:
        for callback in self._callbacks:
            callback.begin(epochs, done)

    def step(self, step: Step) -> None:
        for callback in self._callbacks:
            callback.step(step)

    def epoch(self, row: dict[str, Any]) -> None:
        for callback in self._callbacks:
            callback.epoch(row)

    def end(self) -> None:
        for callback in self._callbacks:
            callback.end()


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
    feed: Feed
    settings: TrainingSettings
    weights: torch.Tensor | None
    accelerator: Accelerator
    stages: int
    mean: WeightMean | None
    followers: _Followers

    def run(self, epoch: int, history: Sequence[dict[str, Any]]) -> dict[str, float]:
        settings, accelerator = self.settings, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        torch.manual_seed(int(np.random.SeedSequence((settings.seed, epoch, rank)).generate_state(1)[0]))  # dropout
        steps = self._steps(epoch)
        shares = [step[rank::world] or step[:1] for step in steps]
        seen: Seen = []
        rate = 0.0
        self.network.train()
        for number, (batch, step) in enumerate(zip(self.feed.batches(shares, epoch), steps, strict=True)):
            rate = self._rate(epoch * len(steps) + number, settings.epochs * len(steps), history)
            patients = len(step[rank::world])
            seen.append(self._step(batch, patients, world / len(step), rate))
            self.followers.step(Step(epoch, number, len(steps), seen[-1][0].mean()))
        return {"learning_rate": rate, **_summary("train", _gathered(seen), self.stages)}

    def _steps(self, epoch: int) -> list[list[int]]:
        settings = self.settings
        if settings.unit == "slices":
            steps = batches_of_epoch(len(self.feed), settings.batch, settings.seed, epoch)
        else:
            steps = steps_of_epoch(len(self.feed), settings.patients_per_step, settings.seed, epoch)
        return steps[: settings.steps]

    def _rate(self, step: int, steps: int, history: Sequence[dict[str, Any]]) -> float:
        if self.settings.schedule == "one_cycle":
            return one_cycle(step, steps, self.settings.learning_rate)
        return plateau([row["valid_loss"] for row in history], self.settings.learning_rate)

    def _step(
        self, batch: Batch, patients: int, share: float, rate: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One step, without waiting for the device: losses, true and predicted stages."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        focus = 2.0 if self.settings.balance == "focal" else 0.0
        with autocast(self.settings, self.accelerator.device):
            losses, predicted = self.network(batch, self.weights, focus)
        # Devices average their gradients: weighted so that every patient of the step counts alike.
        self.accelerator.backward(losses[:patients].sum() * share)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.mean is not None:
            self.mean.update()
        return losses[:patients].detach(), batch.stage[:patients], predicted[:patients]


def autocast(settings: TrainingSettings, device: torch.device) -> torch.autocast:
    """bfloat16 where the settings ask for it."""
    wanted = settings.precision == "bf16"
    wanted |= settings.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


@torch.inference_mode()
def _validate(stager: Stager, feed: Feed, settings: TrainingSettings, accelerator: Accelerator) -> dict[str, float]:
    """Loss, accuracy and kappa of the validation patients, from evenly spaced slices, or of all their slices where
    these are the unit; NaN where there are none. Processes divide them, in the training's precision."""
    stager.eval()
    rank, world = accelerator.process_index, accelerator.num_processes
    size = settings.batch if settings.unit == "slices" else settings.patients_per_step
    steps = [list(range(start, min(start + size, len(feed)))) for start in range(0, len(feed), size)]
    seen: Seen = []
    for batch in feed.batches(steps[: settings.steps][rank::world], 0):
        with autocast(settings, accelerator.device):
            staging = stager.stage(batch, settings.chunk)
            losses = stager.loss(staging, batch, loss=settings.loss)
        seen.append((losses, batch.stage, staging.log_probabilities.argmax(dim=1)))
    return _summary("valid", _gathered(seen), len(stager.stages))


def _gathered(seen: Seen) -> list[tuple[float, int, int]]:
    """Loss, true and predicted stage of each patient, gathered from all processes."""
    parts = [torch.cat(part).tolist() for part in zip(*seen, strict=True)]
    rows: list[tuple[float, int, int]] = gather_object(list(zip(*parts, strict=True)))
    return rows


def _summary(split: str, seen: list[tuple[float, int, int]], stages: int) -> dict[str, float]:
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
