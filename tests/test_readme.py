"""The Python of README.md runs as it stands, one block after the other; a small simulated cohort is the user's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import cirrnb
from cirrnb.measure import radiomics
from cirrnb.model.settings import TrainingSettings

README = Path(__file__).parents[1] / "README.md"


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mirp", reason="radiomics are an extra")
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    cirrnb.simulate_cohort("cohorts/mine", patients=12, seed=0, scale="tiny", healthy=0, workers=1, progress=False)
    # As written, but one epoch is trained, and radiomics of one scan are computed.
    quick, every = TrainingSettings.preset("demo", epochs=1, slices=2), radiomics.cohort_radiomics
    monkeypatch.setattr("cirrnb.model.training.TrainingSettings", lambda: quick)
    monkeypatch.setattr(
        radiomics, "cohort_radiomics", lambda some, out: every(replace(some, scans=some.scans[:1]), out, workers=1)
    )
    told: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), told)  # noqa: S102 -- the project's own text
    assert (tmp_path / "runs" / "mine" / "model.safetensors").is_file()
    assert list((tmp_path / "overlays").glob("*_integrated_gradients.nii.gz")) and Path("case.html").is_file()
