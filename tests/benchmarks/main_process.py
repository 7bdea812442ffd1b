"""Milliseconds of the main process a slice while a training runs, outside the calls that a GPU would carry out.

    python tests/benchmarks/main_process.py [--workers 2] [--preset demo]

Processor time of the main thread in the steps of one epoch, less that in the calls for the device: copying and changing
slices there, the network forwards and backwards, the optimiser. Waiting for loader workers costs no processor time
and is not counted. It runs against the code before augmentation moved to the device, too:

    git worktree add /tmp/before 8a89c63^
    PYTHONPATH=/tmp/before python -P tests/benchmarks/main_process.py
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import accelerate
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy_patients import toy_cohort

from cirrnb.data.prepared import PreparationSettings
from cirrnb.model import training
from cirrnb.model.batch import Batch
from cirrnb.model.settings import TrainingSettings

PATIENTS, SLICES = 16, (24, 12)


class Measured(Exception):
    """Ends the training once its second epoch was timed."""


class Clock:
    """Processor seconds of the main thread within some calls, nested ones counted once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def around(self, owner: Any, name: str) -> None:
        """Count the calls of a method from here on."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def counted(*arguments: Any, **named: Any) -> Any:
            began, self._depth = time.thread_time(), self._depth + 1
            try:
                return method(*arguments, **named)
            finally:
                self._depth -= 1
                self.seconds += 0.0 if self._depth else time.thread_time() - began

        setattr(owner, name, counted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--preset", choices=("demo", "reference"), default="demo")
    given = parser.parse_args()
    torch.set_num_threads(1)
    whole = given.preset == "reference"
    looks = PreparationSettings(view="slice") if whole else PreparationSettings(view="liver", spacing=2.0)
    further: dict[str, Any] = {"backbone": "test_resnet"} if whole else {}
    settings = TrainingSettings.preset(
        given.preset, pretrained=False, epochs=2, workers=given.workers, precision="fp32", **further
    )
    device, epoch, epochs = Clock(), Clock(), []
    for owner, name in (
        (training._Scored, "forward"),
        (accelerate.Accelerator, "backward"),
        (torch.optim.AdamW, "step"),
        (torch.optim.AdamW, "zero_grad"),
    ):
        device.around(owner, name)
    if hasattr(Batch, "changed"):
        device.around(Batch, "changed")
        device.around(Batch, "to")
    run, slices = training._Epoch.run, []
    embed = training.Stager.embed

    def timed(*arguments: Any) -> Any:
        busy, own = device.seconds, time.thread_time()
        found = run(*arguments)
        epoch.seconds = time.thread_time() - own - (device.seconds - busy)
        epochs.append(epoch.seconds)
        if len(epochs) == settings.epochs:
            raise Measured
        return found

    def counted(stager: Any, batch: Batch, *rest: Any) -> Any:
        slices.append(len(batch.sequence) if stager.training else 0)
        return embed(stager, batch, *rest)

    training._Epoch.run, training.Stager.embed = timed, counted  # type: ignore[assignment,method-assign]
    with tempfile.TemporaryDirectory() as folder:
        split = {"train": PATIENTS, "valid": 3}
        cohort = toy_cohort(Path(folder) / "scans", split, slices=SLICES, settings=looks)
        with contextlib.suppress(Measured):
            training.train(cohort, Path(folder) / "run", settings, progress=False)
    count = sum(slices) / settings.epochs
    print(Path(training.__file__).parents[2].name, end=": ")
    print(f"{given.preset}, {given.workers} workers, {count:.0f} slices of {looks.size[0]} x {looks.size[1]} an epoch:")
    print(f"  main process outside device calls {1000 * epoch.seconds / count:.3f} ms a slice (second epoch)")


if __name__ == "__main__":
    main()
