"""What a computation needs of torch and of the environment, whatever the caller or a launcher has set.

A notebook may stand in `torch.inference_mode()`, under autocast or with float64 as default; a shell may hold variables
of an earlier launcher. Neither may change an answer, and neither is changed for the caller.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin

from cirrnb.data.errors import InputError

LAUNCH = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that a launcher (`accelerate launch`, `torchrun`) sets, all of them."""

_FOREIGN = ("ACCELERATE_", "FSDP_", "DEEPSPEED_", "MEGATRON_", "PARALLELISM_CONFIG_", "PMI_", "OMPI_COMM_", "MV2_COMM_")
"""Beginnings of variables by which accelerate would change what a training computes."""


DEVICE = "CIRRNB_DEVICE"
"""Variable that names where networks of loaded models compute, "cuda" or "cuda:1"; unset for the CPU. Commands with
`--device` set it, so that their workers and kernels know it too."""


def usable_device(name: torch.device | str) -> torch.device:
    """The device of a name, "cpu", "cuda" or "cuda:1". Raises InputError if this computer has no such device."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = f"{name!s:.40}, which cannot be used here ({str(error).splitlines()[0]:.120})"
        count = torch.cuda.device_count()
        devices = "cpu" if not count else f"cpu, or cuda:0 to cuda:{count - 1}" if count > 1 else "cpu or cuda"
        remedy = "Leave the device out to compute on the CPU."
        if not count:
            remedy += " For a GPU, its driver and a torch built for CUDA are needed: torch.cuda.is_available() says so."
        raise InputError("device", problem, devices, remedy) from error
    return device


def choose_device(name: str | None) -> None:
    """Have models that are loaded from here on, in this process and its children, compute there; None changes nothing.

    Raises InputError if there is no such device.
    """
    if name is not None:
        usable_device(name)
        os.environ[DEVICE] = name


def usual_device() -> str:
    """Where the networks of loaded models compute."""
    return os.environ.get(DEVICE) or "cpu"


@contextmanager
def isolated_torch() -> Iterator[None]:
    """Gradients possible, no autocast, float32 and the CPU as defaults; the caller's settings come back at the end, the
    state of torch's random numbers among them.

    Also a decorator: `@isolated_torch()`.
    """
    usual = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, usual)
        torch.set_default_dtype(torch.float32)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # the mode of a device costs something at every operation
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.random.fork_rng(devices=[]))  # even a loaded network draws first weights
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def training_accelerator() -> Iterator[Accelerator]:
    """The accelerator of a training: every setting is given, and variables of accelerate's own are out of its sight.

    Several processes compute together where a launcher has set all of `LAUNCH`. `ACCELERATE_USE_CPU` is heeded.

    Raises InputError where some of a launcher's variables are set and others missing.
    """
    _require_whole_launch()
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    launched = "LOCAL_RANK" in os.environ
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_FOREIGN)}
    if not launched and "WORLD_SIZE" in os.environ:
        hidden["WORLD_SIZE"] = os.environ.pop("WORLD_SIZE")
    try:
        yield Accelerator(
            mixed_precision="no",
            cpu=on_cpu,
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            dynamo_backend="no",
        )
    finally:
        os.environ.update(hidden)


def _require_whole_launch() -> None:
    variables = {name: os.environ[name] for name in LAUNCH[:3] if name in os.environ}
    numbers = {name: value for name, value in variables.items() if value.lstrip("-").isdigit()}
    alone = not variables or (variables.keys() == {"WORLD_SIZE"} and numbers.get("WORLD_SIZE") == "1")
    missing = [name for name in LAUNCH if name not in os.environ]
    if alone or (not missing and numbers == variables):
        return
    listing = ", ".join(f"{name}={value:.40}" for name, value in variables.items())
    raise InputError(
        "environment",
        f"{listing}{f' without {chr(44).join(missing)}' if missing else ''}",
        f"all of {', '.join(LAUNCH)}, as a launcher sets them, or none",
        f"For a training in one process: unset {' '.join(variables)}",
    )
