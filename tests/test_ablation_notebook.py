"""04_ablation at its smallest: variants trained, baselines measured, all of them compared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_notebooks import text_of

import cirrnb
from cirrnb.run.execution import run_notebook


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("ablation")
    cirrnb.simulate_cohort(home / "cohorts/demo", patients=24, seed=3, healthy=2, progress=False)
    return home


def run_ablation(folder: Path, radiomics: bool = False) -> str:
    """At its smallest: the whole stager, one trained beside it, and the whole one asked again without a sequence."""
    parameters = {
        "cohort": "cohorts/demo",
        "prepared": "prepared/small",
        "entries": ["T1W", "without_T2W"],
        "seeds": [0],
        "epochs": 1,
        "slices": 2,
        "spacing": 8.0,
        "architectures": False,
        "radiomics": radiomics,
        "disturbed": 0,
        "resamples": 100,
    }
    return text_of(run_notebook("04_ablation", folder / "04_ablation.ipynb", parameters, cwd=folder))


@pytest.mark.slow
def test_an_ablation_trains_scores_and_compares(folder: Path) -> None:
    told = run_ablation(folder)
    assert {path.name for path in (folder / "runs/ablation").iterdir()} == {"whole-0", "T1W-0"}
    assert (folder / "runs/ablation/T1W-0/metrics.json").exists()
    for page in ("whole-0/02_train", "whole-0/03_evaluate", "T1W-0/02_train", "T1W-0/03_evaluate"):
        assert (folder / "reports/ablation" / f"{page}.html").exists()
    assert "02_train of T1W-0: done" in told and "no run" not in told and "failed" not in told
    assert "whole less each of the others" in told and "Not asked for." in told
    assert "Radiomics were not asked for." in told and "no segmentation of other organs" in told
    for baseline in ("age and sex", "liver volume", "biomarkers, logistic regression", "stager with biomarkers"):
        assert baseline in told
    assert "Who gets whom wrong" in told and "leans on" in told and "radiomics T1W, random forest" not in told


@pytest.mark.slow
def test_radiomics_among_the_baselines_and_without_mirp(folder: Path, monkeypatch: pytest.MonkeyPatch):
    hidden = folder / "without"
    hidden.mkdir()
    (hidden / "mirp.py").write_text("raise ImportError('not here')", encoding="utf-8")
    with monkeypatch.context() as shadowed:
        shadowed.setenv("PYTHONPATH", str(hidden), prepend=os.pathsep)
        told = run_ablation(folder, radiomics=True)
    assert 'pip install "cirrnb[radiomics]"' in told and "biomarkers, logistic regression" in told
    told = run_ablation(folder, radiomics=True)
    assert "radiomics T1W and T2W, random forest" in told and "stager with radiomics T1W and T2W" in told


@pytest.mark.slow
def test_a_second_ablation_has_nothing_to_do(folder: Path) -> None:
    run_ablation(folder)
    again = run_ablation(folder)
    assert again.count("already done") == 4 and ": done in" not in again
