"""That nothing is left on the wrong device and no step waits for the device, told without a GPU.

`FakeTensorMode` computes shapes and devices alone: it raises where tensors of two devices meet, and where the host asks
a device for a value (`.item()`, `nonzero`, `unique`, a truth value), for which it would wait. Predictions, explanations
and reports look at values, and trainings go backwards: `pretend_gpu` has both, and refuses where two devices meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pretend_gpu import DEVICE, pretend_gpu
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from toy_patients import LARGE, toy_cohort
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.augmentation import Augmentation
from cirrnb.data.bag import Bag
from cirrnb.data.dataset import BagDataset, SliceDataset
from cirrnb.data.errors import InputError
from cirrnb.explanation.model import Model
from cirrnb.explanation.sign_maps import own_sign_maps
from cirrnb.model.batch import Batch, collate
from cirrnb.model.checkpoint import TrainedStager, save_stager
from cirrnb.model.endless import train_endless
from cirrnb.model.prediction import predict_patient
from cirrnb.model.schedule import steps_of_epoch
from cirrnb.model.settings import StagerSettings, TrainingSettings
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import TrainedModel
from cirrnb.model.training import decaying
from cirrnb.model.weight_mean import WeightMean
from cirrnb.reports.compute import ReportModel, ReportSettings, patient_report

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


def trained_step(settings: TrainingSettings, batch: Batch, device: str) -> list[torch.Tensor]:
    """Weights, and their running mean, after a step with augmentation and dropout."""
    torch.manual_seed(0)
    stager = Stager(settings.stager, fetch=False).train().to(device)
    optimizer = torch.optim.AdamW(decaying(stager, settings), lr=1e-3)
    mean = WeightMean(stager, 0.9)
    mean.to(torch.device(device))
    moved = batch.to(device).changed()
    losses = stager.loss(stager.stage(moved, settings.chunk), moved, torch.ones(3).to(device), focus=2.0)
    losses.sum().backward()
    optimizer.step()
    mean.update()
    after = [*stager.parameters(), *mean.values.values()]
    assert {one.device.type for one in after} == {device}
    return [one.detach().cpu() for one in after]


@pytest.mark.parametrize("name", ["separate", "slices"])
def test_a_step_backwards_on_the_device_changes_weights_as_on_the_cpu(name, tmp_path):
    batch = first_batch(SETTINGS[name], tmp_path)
    here = trained_step(SETTINGS[name], batch, "cpu")
    with pretend_gpu():
        there = trained_step(SETTINGS[name], batch, DEVICE)
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


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


SIGNS = ("nodularity", "nodules_t1w", "nodules_t2w", "ascites")


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Bag:
    return toy_cohort(tmp_path_factory.mktemp("toy"), {"test": 1}, slices=(3, 2), settings=LARGE).bags()[0]


def untrained() -> TrainedModel:
    """With all that can lie on a device: attention, outputs and maps of signs, attention between sequences."""
    torch.manual_seed(0)
    settings = StagerSettings(pretrained=False, width=16, signs=SIGNS, maps=True, demographics=True)
    return TrainedModel((TrainedStager(Stager(settings).eval(), LARGE, True, "toy", {}),), "toy")


def explained(model: TrainedModel, bag: Bag, device: str, method: str) -> list[np.ndarray]:
    steps = {"integrated_gradients": {"steps": 3}, "gradient_shap": {"samples": 2}, "smooth_saliency": {"samples": 2}}
    found = cirrnb.explain(model, bag, method, settings=steps.get(method), permutations=2, device=device)
    return [*found.maps.values(), np.array([found.score])]


def faithful(model: TrainedModel, bag: Bag, device: str) -> list[np.ndarray]:
    found = cirrnb.explain(model, bag, "grad_cam", permutations=2, device=device)
    table = cirrnb.faithfulness(model, bag, found, steps=2, samples=1, device=device)
    return [table["value"].to_numpy(float)]


def changed_sign(model: TrainedModel, bag: Bag, device: str) -> list[np.ndarray]:
    answer = predict_patient(Model((model.members[0],), "toy").to(device), bag, {SIGNS[0]: 0.9})
    return [np.array([*answer.probabilities.values(), *(sign.strength for sign in answer.signs)])]


def sign_maps(model: TrainedModel, bag: Bag, device: str) -> list[np.ndarray]:
    found = own_sign_maps(Model((model.members[0],), "toy").to(device), bag)
    return [one for by_sign in found.values() for one in by_sign.values()]


def reported(model: TrainedModel, bag: Bag, device: str) -> list[np.ndarray]:
    there = Model((model.members[0],), "toy").to(device)
    page = patient_report(ReportModel(there, {}, None, ""), bag, ReportSettings("grad_cam", 2, 2), simulated=True)
    return [np.array([*page.prediction.probabilities.values(), *(test.value or 0 for test in page.map_tests)])]


METHODS = ("integrated_gradients", "grad_cam", "attention", "gradient_shap", "smooth_saliency")
ANSWERS: dict[str, Callable[[TrainedModel, Bag, str], list[Any]]] = {
    "predict": lambda model, bag, device: [cirrnb.predict(model, [bag], device=device).iloc[0, 6:9].to_numpy(float)],
    **{name: lambda model, bag, device, name=name: explained(model, bag, device, name) for name in METHODS},
    "faithfulness": faithful,
    "what if a sign were there": changed_sign,
    "maps of signs": sign_maps,
    "a patient's report": reported,
}


@pytest.mark.parametrize("asked", ANSWERS.values(), ids=ANSWERS)
def test_answers_and_maps_are_computed_on_the_device(asked, bag):
    model = untrained()
    here = asked(model, bag, "cpu")
    with pretend_gpu():
        there = asked(model, bag, DEVICE)
        assert {one.device.type for one in model.members[0].stager.parameters()} == {DEVICE}
        assert all(isinstance(one, np.ndarray) for one in there), "answers come back"
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_the_pretended_device_refuses_to_mix():
    with pretend_gpu():
        there = torch.ones(3, requires_grad=True).to(DEVICE)
        (there * 2).sum().backward()
        assert (there + 1).cpu().tolist() == [2, 2, 2] and there.device.type == DEVICE
        with pytest.raises(RuntimeError, match="on the device and on the CPU"):
            _ = there + torch.ones(3)
        with pytest.raises(RuntimeError):
            there.detach().numpy()


ABSENT = "cuda:63"


@pytest.mark.parametrize(
    "asked",
    [
        lambda model, bag, tmp_path: cirrnb.predict(model, [bag], device=ABSENT),
        lambda model, bag, tmp_path: cirrnb.explain(model, bag, "grad_cam", device=ABSENT),
        lambda model, bag, tmp_path: Model(model.members, "toy").to(ABSENT),
        lambda model, bag, tmp_path: train_endless(tmp_path / "run", device=ABSENT),
        lambda model, bag, tmp_path: cirrnb.predict(model, [bag], device="nothing"),
    ],
    ids=["predict", "explain", "Model.to", "train_endless", "a device of no kind"],
)
def test_a_device_that_is_not_there_is_an_error_with_a_remedy(asked, bag, tmp_path):
    with pytest.raises(InputError, match=r"^device: .*cannot be used here.*Leave the device out"):
        asked(untrained(), bag, tmp_path)


@pytest.mark.parametrize(
    "command", [["report", "demo"], ["explore", "demo", "--no-browser"], ["train-segmenter", "out"]]
)
def test_commands_refuse_a_device_that_is_not_there_before_they_begin(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CIRRNB_DEVICE", raising=False)
    found = CliRunner().invoke(app, [*command, "--device", ABSENT])
    said = f"{found.output} {found.exception}"
    assert found.exit_code and ABSENT in said and "Leave the device out" in said
    assert list(tmp_path.iterdir()) == []


def test_a_chosen_device_reaches_every_model_that_is_loaded(tmp_path, monkeypatch):
    """As `--device` of report and explore does it, for their workers and kernels too."""
    model = untrained()
    save_stager(tmp_path, model.members[0].stager, {"preparation": LARGE.stored(), "simulated": True})
    monkeypatch.setenv("CIRRNB_DEVICE", "cpu")  # so that what is set below is taken back
    from cirrnb.model.torch_context import choose_device
    from cirrnb.model.trained_model import load_model

    with pretend_gpu():
        choose_device(DEVICE)
        loaded = load_model(tmp_path)
        assert next(loaded.members[0].stager.parameters()).device.type == DEVICE
