"""What the stager costs beside its bare backbone, in time and memory; all figures are ratios within one run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cirrnb.model.batch import Batch
from cirrnb.model.encoder import SliceEncoder
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager

pytestmark = pytest.mark.benchmark

BACKBONES = ("test_resnet", "resnet18")


def patients(count: int, slices: int, size: int = 224) -> Batch:
    """`count` patients with `slices` slices of each sequence."""
    total = count * 2 * slices
    return Batch(
        slices=torch.rand(total, 1, size, size, generator=torch.Generator().manual_seed(0)),
        sequence=torch.tensor(([0] * slices + [1] * slices) * count),
        patient=torch.arange(count).repeat_interleave(2 * slices),
        position=torch.arange(total, dtype=torch.float32),
        person=torch.zeros(count, 4),
        stage=torch.arange(count) % 3,
    )


def seconds(*works: Callable[[], object], rounds: int = 5) -> list[float]:
    """Smallest processor time of each work, taken in turn so that whatever else goes on meets all of them."""
    for work in works:
        work()
    found = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            began = time.process_time()
            work()
            found[index] = min(found[index], time.process_time() - began)
    return found


def built(backbone: str, **settings: object) -> tuple[Stager, SliceEncoder]:
    torch.manual_seed(0)
    stager = Stager(StagerSettings(backbone=backbone, pretrained=False, **settings)).eval()
    encoder = stager.encoders["shared"]
    assert isinstance(encoder, SliceEncoder)
    return stager, encoder


@pytest.mark.parametrize("backbone", BACKBONES)
def test_staging_a_patient_costs_little_more_than_the_backbone(backbone: str) -> None:
    stager, encoder = built(backbone)
    batch = patients(1, 24)

    def bare_chunks() -> None:  # as the stager goes through its slices: all at once is slower, and no fair baseline
        for part in batch.slices.split(32):
            encoder.backbone(part)

    with torch.inference_mode():
        whole, bare = seconds(lambda: stager.stage(batch, chunk=32), bare_chunks)
    print(f"\n{backbone}, 2 x 24 slices of 224 x 224: staging {whole:.3f} s, bare {bare:.3f} s, {whole / bare:.2f}")
    assert whole / bare < 1.3


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_training_step_costs_little_more_than_the_bare_one(backbone: str) -> None:
    stager, encoder = built(backbone)
    stager.train()
    batch = patients(8, 8, size=112)

    def step() -> None:
        stager.loss(stager.stage(batch), batch).mean().backward()
        stager.zero_grad()

    def bare() -> None:
        torch.stack([one.mean() for one in encoder.backbone(batch.slices)]).sum().backward()
        stager.zero_grad()

    whole, alone = seconds(step, bare)
    print(f"\n{backbone}, 128 slices of 112 x 112: step {whole:.3f} s, bare step {alone:.3f} s, {whole / alone:.2f}")
    assert whole / alone < 1.1


def test_the_cost_grows_with_the_slices_and_no_faster() -> None:
    stager, _ = built("test_resnet")
    few, many = patients(1, 20, size=112), patients(1, 200, size=112)
    with torch.inference_mode():
        less, more = seconds(lambda: stager.stage(few, chunk=32), lambda: stager.stage(many, chunk=32), rounds=3)
    print(f"\n40 slices {less:.3f} s, 400 slices {more:.3f} s: {more / less:.1f} times for 10 times the slices")
    assert more / less < 12


@pytest.mark.parametrize("backbone", BACKBONES)
def test_formats_are_chosen_by_what_they_bring(backbone: str) -> None:
    """Channels last is what `build_backbone` sets; bf16 is left to GPUs unless it is faster here."""
    _, encoder = built(backbone)
    batch = patients(1, 8)
    contiguous = built(backbone)[1].backbone.to(memory_format=torch.contiguous_format)

    def in_bf16() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            encoder.backbone(batch.slices)

    with torch.inference_mode():
        last, first, half = seconds(
            lambda: encoder.backbone(batch.slices), lambda: contiguous(batch.slices), in_bf16, rounds=3
        )
    print(f"\n{backbone}: channels first / last {first / last:.2f}, bf16 / fp32 {half / last:.2f}")
    assert last < 1.2 * first


PEAK = """
import sys
sys.path.insert(0, {tests!r})
import torch
from test_stager_speed import built, patients
stager, _ = built("test_resnet")
from dataclasses import replace
batch = patients(1, {slices} // 2, size=112)
batch = replace(batch, slices=batch.slices.requires_grad_())
def told(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = told("VmRSS")
stager(batch, chunk=32)[0, 0].backward()
print(told("VmHWM") - before, batch.slices.nbytes // 1024)
"""


def peak(slices: int) -> tuple[float, float]:
    """MB by which an attribution-like pass raises the peak, and MB of its input, in a process of its own."""
    code = PEAK.format(tests=str(Path(__file__).parent), slices=slices)
    # What is freed goes back to the system at once, so that the peak tells what was held and not what malloc kept.
    exact = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **exact}
    )
    rise, given = map(int, done.stdout.split())
    return rise / 1024, given / 1024


def test_400_slices_need_no_more_memory_than_32() -> None:
    few, many = peak(32), peak(400)
    print(f"\nrise of the peak, input apart: 32 slices {few[0]:.0f} MB, 400 slices {many[0]:.0f} MB")
    # What has to be kept in any case is the gradient of the input, as large as the input, and a copy of the input.
    assert many[0] - 2 * many[1] < 1.25 * few[0]


STEP = """
import sys, resource
sys.path.insert(0, {tests!r})
import torch
from test_stager_speed import patients
from cirrnb.data.prepared import PreparationSettings
from cirrnb.model.stager import Stager
from cirrnb.model.settings import TrainingSettings
from dataclasses import replace
settings = TrainingSettings.preset({preset!r}, pretrained=False)
stager = Stager(settings.stager).train()
rows, columns = PreparationSettings(view="liver", spacing={spacing}).size
batch = patients({patients}, settings.slices, size=max(rows, columns))
batch = replace(batch, slices=batch.slices[..., :rows, :columns].contiguous())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
optimizer = torch.optim.AdamW(stager.parameters())
stager.loss(stager.stage(batch, settings.chunk), batch).mean().backward()
optimizer.step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, settings.patients_per_step)
"""


@pytest.mark.parametrize(("preset", "spacing"), [("demo", 2.0), ("standard", 1.5), ("reference", 1.5)])
def test_what_a_training_step_of_each_preset_needs(preset: str, spacing: float) -> None:
    """Measured with one patient and with two, since large steps do not fit everywhere, and drawn on to a whole step."""
    rises = []
    for count in (1, 2):
        code = STEP.format(tests=str(Path(__file__).parent), preset=preset, spacing=spacing, patients=count)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        rise, wanted = map(int, done.stdout.split())
        rises.append(rise / 1024)
    each = rises[1] - rises[0]
    whole = rises[0] + each * (wanted - 1)
    print(f"\n{preset}: {each:.0f} MB a patient, {whole:.0f} MB a step of {wanted} patients above what is loaded")
    assert each > 0
