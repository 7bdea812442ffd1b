"""Training of the segmenter from nothing: endless slabs, one network, averaged weights; a killed training resumes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from cirrnb.segmentation.inputs import channels
from cirrnb.segmentation.network import NetworkSettings, OrganNetwork
from cirrnb.simulation.anatomy import LIVER, load_anatomy
from cirrnb.simulation.rendering import SIZE, render, render_other

SLAB_SLICES = (1, 2, 4, 8)
SLAB_CHANCES = (0.1, 0.25, 0.4, 0.25)


@dataclass(frozen=True)
class TrainingSettings:
    """How a training goes; every value is stored with the weights.

    Attributes
    ----------
    steps : of the optimiser, over which the rate of learning rises for 3 % and falls to 0 along a cosine.
    slices : of a step, in slabs of 1 to 8.
    others : share of slabs that show no abdomen.
    averaging : of the weights, of the running mean kept at each step.
    """

    steps: int = 6000
    slices: int = 16
    rate: float = 3e-3
    decay: float = 0.02
    seed: int = 0
    others: float = 0.07
    averaging: float = 0.998
    pool: int = 24
    pool_steps: int = 40


class Slabs(IterableDataset):
    """Batches of slabs from step `first` on: each depends on the settings and its step alone."""

    def __init__(self, folder: Path, settings: TrainingSettings, first: int) -> None:
        self.files = sorted(folder.glob("*.anatomy"))
        self.settings, self.first = settings, first

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        torch.set_num_threads(1)
        chosen, anatomies = -1, []
        for step in range(self.first, self.settings.steps):
            turn = step // self.settings.pool_steps
            if turn != chosen:
                random = np.random.default_rng([self.settings.seed, 1, turn])
                files = random.choice(len(self.files), min(self.settings.pool, len(self.files)), replace=False)
                chosen, anatomies = turn, [load_anatomy(self.files[number]) for number in files]
            random = np.random.default_rng([self.settings.seed, 2, step])
            slices = int(random.choice(SLAB_SLICES, p=SLAB_CHANCES))
            slabs = []
            for _ in range(self.settings.slices // slices):
                if random.random() < self.settings.others:
                    slabs.append(render_other(random, slices))
                else:
                    slabs.append(render(anatomies[int(random.integers(len(anatomies)))], random, slices))
            yield torch.stack([channels(slab.image) for slab in slabs]), torch.stack([slab.label for slab in slabs])


def loss_of(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy plus one minus the Dice of each organ in the batch, and of the liver as a whole.

    logits : (subjects, slices, classes, rows, columns). label : (subjects, slices, rows, columns).
    """
    logits = logits.flatten(0, 1).float()
    label = label.flatten(0, 1).long()
    logs = logits.log_softmax(dim=1)
    entropy = functional.nll_loss(logs, label)
    shares = logs.exp()
    flat = label.flatten()
    classes = shares.shape[1]
    # What the softmax gives the true label, summed by label: the overlap, without one-hot arrays.
    right = shares.gather(1, label[:, None]).flatten()
    both = torch.zeros(classes).index_add(0, flat, right)
    truth = torch.bincount(flat, minlength=classes).float()
    total = shares.sum((0, 2, 3)) + truth
    liver = slice(LIVER[0], LIVER[-1] + 1)
    inside = ((label >= LIVER[0]) & (label <= LIVER[-1])).float()
    both = torch.cat([both[1:], (shares[:, liver].sum(1) * inside).sum()[None]])
    total = torch.cat([total[1:], total[liver].sum()[None]])
    there = torch.cat([truth[1:], truth[liver].sum()[None]]) > 20
    dice = 1 - (2 * both + 1) / (total + 1)
    weight = torch.ones_like(dice)
    weight[-1] = 3.0
    return entropy + (dice * weight * there).sum() / (weight * there).sum().clamp_min(1)


def train(folder: Path, out: Path, settings: TrainingSettings, network: NetworkSettings, minutes: float = 5.0) -> Path:
    """Train on the anatomies in `folder`; state and history go to `out`, and a killed training goes on from there."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    net = OrganNetwork(network).to(memory_format=torch.channels_last)
    mean = {name: value.clone().float() for name, value in net.state_dict().items()}
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": settings.decay},
            {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.rate,
    )
    first = _restore(out, net, mean, optimiser)
    loader = DataLoader(Slabs(folder, settings, first), batch_size=None, num_workers=1, prefetch_factor=6)
    written, began, sums = time.monotonic(), time.monotonic(), []
    for step, (images, labels) in enumerate(loader, start=first):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * _schedule(step, settings.steps)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images)
        loss = loss_of(logits, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        keep = min(settings.averaging, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, value in net.state_dict().items():
                mean[name].lerp_(value.float(), 1 - keep)
        sums.append(float(loss.detach()))
        if (step + 1) % 50 == 0:
            pace = (time.monotonic() - began) / (step + 1 - first)
            print(f"step {step + 1} loss {np.mean(sums[-50:]):.4f} {pace:.2f} s a step", flush=True)
        if time.monotonic() - written > 60 * minutes or step + 1 == settings.steps:
            _store(out, step + 1, net, mean, optimiser, settings, network)
            written = time.monotonic()
    return out


def _schedule(step: int, steps: int) -> float:
    """Share of the highest rate: rises over 3 % of the steps, then falls to 0 along a cosine."""
    return float(min(1, (step + 1) / (0.03 * steps)) * 0.5 * (1 + np.cos(np.pi * step / steps)))


def _store(
    out: Path,
    step: int,
    net: OrganNetwork,
    mean: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    network: NetworkSettings,
) -> None:
    tensors = {f"net.{k}": v.contiguous() for k, v in net.state_dict().items()} | {
        f"mean.{k}": v.contiguous() for k, v in mean.items()
    }
    names = {id(p): name for name, p in net.named_parameters()}
    for p, state in optimiser.state.items():
        tensors |= {f"optimiser.{key}.{names[id(p)]}": value.contiguous().clone() for key, value in state.items()}
    partial = out / f".state.{os.getpid()}"
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.replace(out / "state.safetensors")
    averaged = out / f".mean.{os.getpid()}"
    save_file(
        {k: v.contiguous() for k, v in mean.items()},
        averaged,
        metadata={"step": str(step), "network": json.dumps(asdict(network)), "training": json.dumps(asdict(settings))},
    )
    averaged.replace(out / f"mean-{step:06d}.safetensors")


def _restore(out: Path, net: OrganNetwork, mean: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> int:
    path = out / "state.safetensors"
    if not path.is_file():
        return 0
    from safetensors import safe_open

    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
    for name in mean:
        mean[name].copy_(tensors[f"mean.{name}"])
    for name, p in net.named_parameters():
        optimiser.state[p] = {
            key: tensors[f"optimiser.{key}.{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
        }
    return step


__all__ = ["SIZE", "Slabs", "TrainingSettings", "loss_of", "train"]
