"""The model that comes with the package: small, told for what it is, and quick to answer."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toy_patients import SETTINGS, toy_cohort

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model import shipping
from cirrnb.model.calibrate import calibrate
from cirrnb.model.checkpoint import save_stager
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import SHIPPED, load_model

FOLDER = Path(shipping.__file__).parent / SHIPPED


def test_it_is_small_and_says_what_it_is():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    segmenter = [path for path in (FOLDER.parents[1] / "segmentation" / "shipped").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in [*files, *segmenter]) <= 10e6
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md", ".csv"}
    training = pd.read_csv(FOLDER / "training.csv")
    assert list(training)[:4] == ["stage", *CIRRHOSIS], "nothing that tells who"
    assert all(name.startswith("term ") for name in list(training)[4:])
    assert (
        np.allclose(training[list(CIRRHOSIS)].sum(axis=1), 1, atol=2e-4) and training["stage"].is_monotonic_increasing
    )
    card = (FOLDER / "card.md").read_text(encoding="utf-8")
    assert "simulated" in card and "Research and education only" in card
    assert shipping.LIMITS in card, "the card and its template say the same"
    model = load_model("shipped")
    assert model.simulated and model.calibration is not None and model.calibration.n >= 100
    settings = model.members[0].stager.settings
    assert model.measured is not None and model.sign_intervals is not None and settings.signs and settings.maps


def test_it_answers_within_ten_seconds_of_a_fresh_start(tmp_path):
    script = (
        "import sys, time; began = time.monotonic()\n"
        "import cirrnb; from cirrnb.model.trained_model import load_model\n"
        "cohort = cirrnb.read_cohort(sys.argv[1])\n"
        "prepared = cirrnb.prepare(cohort, sys.argv[2], load_model('shipped').preparation, progress=False, workers=1)\n"
        "table = cirrnb.predict('shipped', prepared)\n"
        "print(time.monotonic() - began, table.loc[0, 'predicted'], table.loc[0, 'set'])"
    )
    cirrnb.simulate_cohort(tmp_path / "cohort", patients=1, seed=5, progress=False)
    command = [sys.executable, "-c", script, str(tmp_path / "cohort"), str(tmp_path / "prepared")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, predicted, possible = done.stdout.split()
    assert predicted in possible.split("|")
    print(f"\nfrom a fresh start to an answer: {float(seconds):.1f} s")


def test_shipping_takes_a_calibrated_stager_and_nothing_of_a_patient(tmp_path, monkeypatch):
    torch.manual_seed(0)
    cohort = toy_cohort(tmp_path / "prepared", {"train": 33})
    run = tmp_path / "run"
    run.mkdir()
    config = {"preparation": asdict(SETTINGS), "simulated": True, "cohort": "toys", "training": {"steps": 3}}
    settings = StagerSettings(width=16, pretrained=False, signs=("ascites",))
    save_stager(run, Stager(settings, fetch=False), config)
    with pytest.raises(InputError, match="no calibrated stager"):
        shipping.ship(run, tmp_path / "shipped")
    calibrate(run, cohort)
    out = shipping.ship(run, tmp_path / "shipped")
    assert load_model(out).calibration == load_model(run).calibration
    assert {path.name for path in out.iterdir()} == {
        "card.md",
        "calibration.json",
        "config.json",
        "model.safetensors",
        "out_of_distribution.json",
        "training.csv",
    }
    assert "ascites" in (out / "card.md").read_text() and "toys" in (out / "card.md").read_text()
    monkeypatch.setattr(shipping, "LIMIT", 10)
    with pytest.raises(InputError, match="at most 10"):
        shipping.ship(run, tmp_path / "other")
