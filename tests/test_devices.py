"""That nothing is left on the wrong device and no step waits for the device, told without a GPU.

`FakeTensorMode` computes shapes and devices alone: it raises where tensors of two devices meet, and where the host asks
a device for a value (`.item()`, `nonzero`, `unique`, a truth value), for which it would wait. The way back (`backward`)
asks for a real GPU and is not tried here.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from toy_patients import LARGE, toy_cohort

from cirrnb.data.augmentation import Augmentation
from cirrnb.data.dataset import BagDataset, SliceDataset
from cirrnb.model.batch import Batch, collate
from cirrnb.model.schedule import steps_of_epoch
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.stager import Stager
from cirrnb.model.training import decaying

EVERYTHING = Augmentation(flip=0.3)
DEMO = TrainingSettings.preset("demo", slices=2, width=16, augmentation=None)
SETTINGS = {
    "demo": DEMO,
    "separate": replace(DEMO, stager=replace(DEMO.stager, encoders="separate", demographics=True)),
    "cumulative": replace(DEMO, stager=replace(DEMO.stager, head="cumulative", fusion="weighted")),
    "slices": TrainingSettings.preset("reference", backbone="test_resnet", pretrained=False, batch=6),
    "state space": TrainingSettings.preset("reference", backbone="mambavision_t", pretrained=False, batch=2),
}


def first_batch(settings: TrainingSettings, folder) -> Batch:
    bags = toy_cohort(folder, {"train": 4}, settings=LARGE).bags()
    if settings.unit == "slices":
        dataset = SliceDataset([bag.only(["T1W"]) for bag in bags], EVERYTHING, 0, settings.stager.sequences)
        return collate([dataset[0, index] for index in range(settings.batch)])
    dataset = BagDataset(bags, settings.slices, EVERYTHING, 0, 0.5)
    return collate([dataset[0, index] for index in steps_of_epoch(4, 4, 0, 0)[0]])


def put_on_gpu(network: torch.nn.Module) -> None:
    """Within a `FakeTensorMode`; `Module.to` cannot swap fake parameters."""
    for module in network.modules():
        for name, value in list(module._parameters.items()):
            if value is not None:
                module._parameters[name] = torch.nn.Parameter(torch.empty_like(value, device="cuda"))
        for name, value in list(module._buffers.items()):
            if value is not None:
                module._buffers[name] = torch.empty_like(value, device="cuda")


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_on_a_gpu_neither_waits_nor_mixes_devices(name, tmp_path):
    settings = SETTINGS[name]
    batch = first_batch(settings, tmp_path)
    assert batch.slices.dtype == torch.float16 and batch.changes is not None
    stager = Stager(settings.stager, fetch=False).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        put_on_gpu(stager)
        optimizer = torch.optim.AdamW(decaying(stager, settings), lr=1e-3)
        weights = torch.ones(3).to("cuda")
        moved = batch.to("cuda").changed()
        assert moved.slices.device.type == "cuda" and moved.slices.dtype == torch.float32
        staging = stager.stage(moved, settings.chunk)
        losses = stager.loss(staging, moved, weights, focus=2.0)
        for parameter in stager.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        assert losses.device.type == "cuda" and losses.shape == (len(batch),)
        predicted = staging.log_probabilities.argmax(dim=1)
        assert predicted.device.type == "cuda"
        with torch.no_grad():
            answer = stager.eval().stage(moved, chunk=2).cpu()
        assert answer.log_probabilities.device.type == "cpu"


def test_the_means_tell_waiting_and_mixing():
    """What the test above relies on."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = torch.ones(3).to("cuda")
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with pytest.raises(DynamicOutputShapeException):
            torch.nonzero(there)
        with pytest.raises(Exception, match="device"):
            _ = there + torch.ones(3)
