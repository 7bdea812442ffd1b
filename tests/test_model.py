"""The front door: a model is loaded, asked, asked why, saved and loaded again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("front")
    return cirrnb.simulate_cohort(folder / "few", patients=2, seed=3, workers=1, progress=False)


@pytest.fixture(scope="module")
def model() -> cirrnb.Model:
    return cirrnb.Model.load("shipped")


def test_a_model_is_asked_and_asked_why(
    model: cirrnb.Model, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = model.predict(cohort)
    assert list(table["subject"]) == list(cohort.patients.index) and table["predicted"].notna().all()
    pd.testing.assert_frame_equal(table, cirrnb.predict("shipped", cohort))
    second = cohort.patients.index[1]
    explanation = model.explain(cohort, second, method="grad_cam", permutations=2)
    assert explanation.subject == second and explanation.fingerprint == model.fingerprint
    assert str(model.device) == "cpu"
    with pytest.raises(InputError, match="cirrhotic/nobody"):
        model.explain(cohort, "cirrhotic/nobody")
    with pytest.raises(InputError, match="cirrhotic/nobody"):
        model.explain(cirrnb.prepare(cohort, "prepared/few", model.preparation), "cirrhotic/nobody")


def test_a_saved_model_is_the_same(model: cirrnb.Model, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "saved")
    again = cirrnb.Model.load(folder)
    assert again.fingerprint == model.fingerprint and again.name == "saved"
    assert not [path for path in folder.rglob("*") if path.suffix not in ("", ".json", ".safetensors")]
    with pytest.raises(InputError, match="new folder"):
        model.save(folder)
