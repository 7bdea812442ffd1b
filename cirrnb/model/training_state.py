"""A training under way: its state after each epoch, beside the run folder it will become."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError

from cirrnb.data.atomic_files import atomic_folder, atomic_write, move_into_place, remove_unfinished
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.model.checkpoint import fill, read_tensors, save_tensors
from cirrnb.model.stager import Stager
from cirrnb.model.weight_mean import WeightMean

IDENTITY, STATE, MODEL, OPTIMIZER = "identity.json", "state.json", "model.safetensors", "optimizer.safetensors"
BEST, MEAN = "best.safetensors", "mean.safetensors"


@dataclass(frozen=True)
class TrainingState:
    """The folder `.<name>.unfinished` beside the run folder `out`; everything in it is JSON or safetensors.

    Attributes
    ----------
    out : the run folder that will stand there once the training is complete.
    identity : JSON-able settings and data that a continued training must share with the one that began.
    """

    out: Path
    identity: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return self.out.parent / f".{self.out.name}.unfinished"

    def begin(self, resume: bool) -> None:
        """Make the folder, or take up the one that is there; `resume=False` throws that one away.

        Raises InputError if the one that is there was begun with other settings or on other data.
        """
        if not resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        remove_unfinished(self.folder)
        stored = _read(self.folder / IDENTITY)
        if stored is None or not self.begun:  # nothing is lost with settings by which no epoch was trained
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                atomic_write(self.folder / IDENTITY, json.dumps(self.identity, indent=1))
        else:
            different = differences(stored, json.loads(json.dumps(self.identity)))
            if different:
                raise InputError(
                    self.folder,
                    f"an unfinished training with other settings or data ({'; '.join(different)})",
                    "the same as now",
                    "Take the settings it began with, train into another folder, or pass resume=False to begin again.",
                )

    @property
    def begun(self) -> bool:
        """True if the state after at least one epoch is there."""
        return bool(self._epochs())

    def save(
        self,
        epoch: int,
        stager: Stager,
        optimizer: torch.optim.Optimizer,
        history: list[dict[str, Any]],
        best: Mapping[str, torch.Tensor] | None = None,
        mean: WeightMean | None = None,
    ) -> None:
        """Keep the state after `epoch` epochs, then drop the one before; killed at any point, one of them is whole.

        `best` weights are kept as well, until better ones come. The history so far lies beside, as history.csv.
        """
        moments = optimizer.state_dict()["state"]
        # The learning rate is a function of the step and needs no state of its own.
        flat = {f"{index}.{name}": value for index, state in moments.items() for name, value in state.items()}
        state = {"backbone_weights": stager.backbone_weights, "history": history}
        with writing(self.folder), atomic_folder(self.folder / f"epoch-{epoch:04d}") as partial:
            save_tensors(stager.state_dict(), partial / MODEL)
            save_tensors(flat, partial / OPTIMIZER)
            before = [older / BEST for older in self._epochs()[-1:] if (older / BEST).exists()]
            if mean is not None:
                save_tensors(mean.stored(), partial / MEAN)
            if best is not None and mean is None:  # they are the state's own
                _again(partial / MODEL, partial / BEST)
            elif best is not None:
                save_tensors(best, partial / BEST)
            elif before:
                _again(before[0], partial / BEST)
            (partial / STATE).write_text(json.dumps(state), encoding="utf-8")
        for older in self._epochs()[:-1]:
            shutil.rmtree(older, ignore_errors=True)
        with writing(self.folder):
            write_csv(self.folder / "history.csv", pd.DataFrame(history))

    def restore(
        self, stager: Stager, optimizer: torch.optim.Optimizer, mean: WeightMean | None = None
    ) -> list[dict[str, Any]]:
        """Put the newest state into both and return the history so far; an empty one where nothing was saved."""
        epochs = self._epochs()
        if not epochs:
            return []
        fill(stager, read_tensors(epochs[-1] / MODEL), epochs[-1] / MODEL)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in read_tensors(epochs[-1] / OPTIMIZER).items():
            index, moment = name.split(".", 1)
            moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        if mean is not None:
            mean.restore(read_tensors(epochs[-1] / MEAN))
        state = _read(epochs[-1] / STATE)
        assert state is not None
        stager.backbone_weights = state["backbone_weights"]
        return list(state["history"])

    def take_best(self, stager: Stager) -> None:
        """Put the weights of the best epoch into the stager; does nothing if no best epoch was recorded."""
        path = self._epochs()[-1] / BEST
        if path.exists():
            fill(stager, read_tensors(path), path)

    def finish(self, complete: Path) -> Path:
        """Rename the complete run folder, which was written inside this one, to `out`."""
        move_into_place(complete, self.out)
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.out

    def _epochs(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*"))


def _again(file: Path, copy: Path) -> None:
    """The same file under another name, without another copy on disk where the file system can do that; no file of a
    state is ever written to again."""
    try:
        os.link(file, copy)
    except OSError:
        shutil.copyfile(file, copy)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tell in plain words that what is written inside the block could not be."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(
            folder,
            f"a training that cannot be written ({error})",
            "free space and the right to write",
            "Free some space or choose another folder and call again: whole epochs are kept and not trained again.",
        ) from error


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two JSON values, as "epochs 20 then, 30 now"."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        return [text for key in names for text in differences(before.get(key), now.get(key), key)]
    return [] if before == now else [f"{name} {before} then, {now} now"]


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where the file is absent."""
    if not path.exists():
        return None
    try:
        return read_object(path, "a whole file", "Pass resume=False to begin again.", finite=False)
    except OSError as error:
        raise InputError(
            path, f"a file that cannot be read ({error.strerror})", "a readable file", "Check its rights."
        ) from error
