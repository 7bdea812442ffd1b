"""The caller's settings of torch and a launcher's variables change no answer, and are as they were afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from test_explanation import untrained
from test_training import QUICK
from toy_patients import LARGE, toy_cohort

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.explanation.explain import score_of_patient
from cirrnb.explanation.faithfulness import after_randomisation, maximum_sensitivity
from cirrnb.explanation.shapley import shapley_values
from cirrnb.model.checkpoint import load_stager, save_stager
from cirrnb.model.prediction import predict_patient
from cirrnb.model.trained_model import load_model


@contextmanager
def default_dtype(dtype: torch.dtype) -> Generator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu"),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "another device": lambda: torch.device("meta"),
}


def state() -> tuple[object, ...]:
    """What a caller can have set."""
    random = torch.random.get_rng_state().sum().item() if torch.get_default_device().type == "cpu" else 0
    return (
        *(torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()),
        *(torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), random),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    trained = untrained()
    folder = tmp_path_factory.mktemp("run")
    preparation = {"spacing": LARGE.spacing, "field_of_view": LARGE.field_of_view}
    save_stager(folder, trained.stager, {"preparation": preparation, "simulated": True})
    return folder


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("toy"), {"test": 1}, settings=LARGE).bags()[0]


def _explained(method: str) -> Callable[[Path, Any], Any]:
    def explained(run: Path, bag: Any) -> Any:
        found = cirrnb.explain(run, bag, method, settings=SETTINGS.get(method), permutations=2)
        return [*found.maps.values(), found.score, found.baseline_score]

    return explained


def _tested(run: Path, bag: Any) -> Any:
    found = cirrnb.explain(run, bag, "grad_cam", permutations=2)
    return cirrnb.faithfulness(run, bag, found, steps=2, samples=2)[["value"]].to_numpy(float)


SETTINGS = {"integrated_gradients": {"steps": 3}, "gradient_shap": {"samples": 2}, "smooth_saliency": {"samples": 2}}
METHODS = ("integrated_gradients", "grad_cam", "attention", "gradient_shap", "smooth_saliency")
FUNCTIONS: dict[str, Callable[[Path, Any], Any]] = {
    "load_model": lambda run, bag: list(load_model(run).members[0].stager.state_dict().values()),
    "load_stager": lambda run, bag: list(load_stager(run).stager.state_dict().values()),
    "predict": lambda run, bag: [cirrnb.predict(run, [bag])[list(CIRRHOSIS)].to_numpy()],
    "predict_patient": lambda run, bag: [list(predict_patient(run, bag).probabilities.values())],
    **{f"explain by {method}": _explained(method) for method in METHODS},
    "faithfulness": lambda run, bag: [_tested(run, bag)],
    "shares": lambda run, bag: [shapley_values(score_of_patient(run, bag), 0.0, 2, 0).nothing],
    "maximum_sensitivity": lambda run, bag: [maximum_sensitivity(run, bag, "grad_cam", samples=1)],
    "after_randomisation": lambda run, bag: [
        after_randomisation(run, bag, cirrnb.explain(run, bag, "grad_cam", permutations=2))["correlation"].to_numpy()
    ],
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_the_callers_settings_change_no_answer_and_stay(
    run: Path, bag: Any, function: Callable[[Path, Any], Any]
) -> None:
    expected = [np.asarray(one) for one in function(run, bag)]
    for name, context in CONTEXTS.items():
        with context():
            before = state()
            found = function(run, bag)
            assert state() == before, name
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, np.asarray(other), err_msg=name)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("prepared"), {"train": 3, "valid": 1, "test": 1})


def history(prepared: Any, out: Path) -> pd.DataFrame:
    run = cirrnb.train(prepared, out, replace(QUICK, epochs=1), progress=False)
    return pd.read_csv(run / "history.csv").drop(columns="seconds")


@pytest.fixture(scope="module")
def plain(prepared, tmp_path_factory) -> pd.DataFrame:
    return history(prepared, tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_a_training_is_the_same_in_every_context(
    tmp_path: Path, prepared: Any, plain: pd.DataFrame, context: Callable[[], AbstractContextManager[Any]]
) -> None:
    with context():
        before = state()
        found = history(prepared, tmp_path / "run")
        assert state() == before
    pd.testing.assert_frame_equal(found, plain)


@pytest.fixture
def fresh_accelerate() -> Generator[None]:
    def forget() -> None:
        AcceleratorState._reset_state(True)
        GradientState._reset_state()

    forget()
    yield
    forget()


@pytest.mark.parametrize(
    "variables",
    [
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "many"},
        {"ACCELERATE_MIXED_PRECISION": "bf16"},
        {"ACCELERATE_MIXED_PRECISION": "nonsense"},
        {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"},
        {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
        {"ACCELERATE_USE_DEEPSPEED": "true"},
        {"ACCELERATE_USE_MEGATRON_LM": "true"},
        {"ACCELERATE_USE_PARALLELISM_CONFIG": "true"},
        {"ACCELERATE_TORCH_DEVICE": "meta"},
        {"WORLD_SIZE": "1"},
        {"PMI_SIZE": "2", "PMI_RANK": "1"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
    ],
    ids=lambda one: "-".join(one),
)
@pytest.mark.usefixtures("fresh_accelerate")
def test_variables_of_a_launcher_change_no_training(
    tmp_path: Path, prepared: Any, plain: pd.DataFrame, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    pd.testing.assert_frame_equal(history(prepared, tmp_path / "run"), plain)
    assert variables.items() <= os.environ.items()


@pytest.mark.parametrize(
    "variables",
    [
        {"LOCAL_RANK": "0"},
        {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "RANK": "1"},
        {"WORLD_SIZE": "2"},
        {"LOCAL_RANK": "x", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
    ],
    ids=lambda one: "-".join(one),
)
@pytest.mark.usefixtures("fresh_accelerate")
def test_half_a_launch_is_named(
    tmp_path: Path, prepared: Any, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as raised:
        cirrnb.train(prepared, tmp_path / "run", replace(QUICK, epochs=1), progress=False)
    assert raised.value.where == "environment" and next(iter(variables)) in raised.value.found
    assert not (tmp_path / "run").exists()
