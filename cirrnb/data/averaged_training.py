"""Training on endless data: AdamW, the running mean of the weights, a state that resumes exactly.

What a step sees depends on its number alone; then a training that was killed and resumed gives the weights that it
would have given.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cirrnb.data.atomic_files import atomic_file, atomic_write
from cirrnb.data.csv_file import read_csv, write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object

REQUEST = "request.json"
"""What a training was begun with."""
REPORT_STEPS = 50
"""Steps of a row of the history."""
WARM_UP = 0.03
"""Share of the steps over which the rate rises."""


def claim_request(out: Path, request: dict[str, Any]) -> None:
    """Write what is asked for into the folder of a training.

    Raises InputError if the folder was begun with another request.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, request = out / REQUEST, json.loads(json.dumps(request))
    if not path.is_file():
        atomic_write(path, json.dumps(request, indent=1) + "\n")
        return
    stored = read_object(path, "what a training was begun with", "Choose another folder.")
    if stored != request:
        differs = ", ".join(name for name in request if stored.get(name) != request[name])
        raise InputError(out, f"a training with other settings ({differs})", "the same ones", "Choose another folder.")


class AveragedTraining:
    """A network, its optimiser, and the running mean of its weights, which is what is kept.

    The rate is constant, and the mean takes the place of a falling one, or it falls over the last share `fall` of the
    steps. Weight decay holds for kernels alone.
    """

    def __init__(
        self, network: nn.Module, *, steps: int, rate: float, decay: float, averaging: float, fall: float = 0.0
    ) -> None:
        self.network, self.steps, self.rate, self.averaging, self.fall = network, steps, rate, averaging, fall
        self.mean = {name: value.detach().clone().float() for name, value in network.state_dict().items()}
        kernels = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=rate)
        self.losses: list[tuple[int, float]] = []

    def update(self, step: int, loss: Tensor) -> None:
        """One step of the optimiser down the gradient of a loss, and of the running mean."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * schedule(step, self.steps, self.fall)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        keep = min(self.averaging, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.mean[name].lerp_(value.float(), 1 - keep)
        self.losses.append((step, float(loss.detach())))

    def store(self, path: Path, step: int) -> None:
        """Write network, mean and optimiser, of which `step` steps are done, atomically."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"mean.{name}": value for name, value in self.mean.items()}
        names = {id(p): name for name, p in self.network.named_parameters()}
        for p, state in self.optimiser.state.items():
            tensors |= {f"optimiser.{key}.{names[id(p)]}": value for key, value in state.items()}
        stored = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        with atomic_file(path) as partial:
            save_file(stored, partial, metadata={"step": str(step)})

    def restore(self, path: Path) -> int:
        """Take up what `store` wrote; the step to go on with, 0 if nothing was stored. Raises InputError."""
        if not path.is_file():
            return 0
        device = str(next(self.network.parameters()).device)
        try:
            tensors = load_file(path, device=device)
            with safe_open(path, "pt") as file:
                step = int((file.metadata() or {})["step"])
            self.network.load_state_dict(_part(tensors, "network."))
            self.mean = _part(tensors, "mean.")
            for name, p in self.network.named_parameters():
                keys = ("step", "exp_avg", "exp_avg_sq")
                if f"optimiser.step.{name}" in tensors:  # a parameter without a gradient has no state
                    self.optimiser.state[p] = {key: tensors[f"optimiser.{key}.{name}"] for key in keys}
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise InputError(path, f"no usable state ({error})", "what a training stored", "Remove it.") from error
        return step


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def schedule(step: int, steps: int, fall: float = 0.0) -> float:
    """Share of the rate: rises over the first 3 % of the steps, and falls over the last share `fall` of them."""
    falling = (steps - step) / (fall * steps) if fall else 1.0
    return min(1.0, (step + 1) / (WARM_UP * steps), falling)


def add_history(path: Path, losses: list[tuple[int, float]]) -> None:
    """Write the mean loss of every `REPORT_STEPS` steps behind what a history holds; the last ones wait until they are
    so many."""
    rows: list[dict[Any, Any]] = []
    if path.is_file():
        rows = read_csv(path, remedy="Remove it.").to_dict("records")
    while len(losses) >= REPORT_STEPS:
        part, losses[:] = losses[:REPORT_STEPS], losses[REPORT_STEPS:]
        rows.append({"step": part[-1][0] + 1, "loss": round(sum(value for _, value in part) / REPORT_STEPS, 4)})
    write_csv(path, rows, ["step", "loss"])
