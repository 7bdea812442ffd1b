"""The model that comes with the package: small, told for what it is, and quick to answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_patients import toy_cohort

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model import shipping
from cirrnb.model.cross_validation import cross_validate
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.trained_model import SHIPPED, load_model

FOLDER = Path(shipping.__file__).parent / SHIPPED


def test_it_is_small_and_says_what_it_is():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 5e6
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md", ".csv"}
    training = pd.read_csv(FOLDER / "training.csv")
    assert list(training) == ["stage", *CIRRHOSIS], "nothing that tells who"
    assert (
        np.allclose(training[list(CIRRHOSIS)].sum(axis=1), 1, atol=2e-4) and training["stage"].is_monotonic_increasing
    )
    card = (FOLDER / "card.md").read_text(encoding="utf-8")
    assert "simulated" in card and "Research and education only" in card
    model = load_model("shipped")
    assert model.simulated and model.calibration is not None and model.calibration.n >= 100


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


def test_shipping_takes_what_fits_and_nothing_of_a_patient(tmp_path, monkeypatch):
    prepared = toy_cohort(tmp_path / "prepared", {"train": 12})
    settings = TrainingSettings.preset("demo", epochs=1, slices=2, patients_per_step=4, width=16)
    run = cross_validate(prepared, tmp_path / "run", settings, folds=3, progress=False)
    monkeypatch.setattr(shipping, "LIMIT", 2.5 * shipping._size(run / "fold-1"))
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    with pytest.raises(InputError, match="who drew"):
        shipping.ship(run, cohort, tmp_path / "shipped")
    (cohort / "SIMULATED.txt").write_text('These images are SIMULATED.\n{"version": "9.8", "source": "abc"}')
    out = shipping.ship(run, cohort, tmp_path / "shipped")
    assert "version 9.8 of the simulator (source hash abc)" in (out / "card.md").read_text()
    assert json.loads((out / "folds.json").read_text())["folds"] == ["fold-1", "fold-2"]
    assert len(load_model(out).members) == 2
    assert not [path for path in out.rglob("*") if "predictions" in path.name or "provenance" in path.name]
    monkeypatch.setattr(shipping, "LIMIT", 10)
    with pytest.raises(InputError, match="bytes"):
        shipping.ship(run, cohort, tmp_path / "other")
    with pytest.raises(InputError, match="no cross-validation"):
        shipping.ship(run / "fold-1", cohort, tmp_path / "other")
