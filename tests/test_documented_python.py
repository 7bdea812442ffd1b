"""The Python that users read runs as it stands: README.md, docs/python.md, and the examples of public docstrings. A
small simulated cohort is the user's."""

from __future__ import annotations

import doctest
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cirrnb
from cirrnb.measure import radiomics
from cirrnb.model.settings import TrainingSettings

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "python.md")
LONG = ("adapt", "cross_validate")
"""Public names whose examples train or stage for longer: by hand, pytest -m slow."""
ORDER = ("simulate_cohort", "read_cohort", "prepare", "train", "predict", "evaluate", "explain", "faithfulness")
"""Public names whose examples leave what later ones read; the others follow."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder with a cohort. As documented, but trainings take one epoch."""
    folder = tmp_path_factory.mktemp("home")
    quick = TrainingSettings.preset("demo", epochs=1, slices=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cirrnb.simulate_cohort("cohorts/mine", patients=12, seed=0, scale="tiny", healthy=0, workers=1, progress=False)
        patch.setattr("cirrnb.model.training.TrainingSettings", lambda: quick)
        patch.setattr("cirrnb.model.cross_validation.TrainingSettings", lambda: quick)
        yield folder


def test_the_python_of_the_pages_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mirp", reason="radiomics are an extra")
    blocks = {
        page.name: re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.M) for page in PAGES
    }
    assert [len(found) for found in blocks.values()] == [1, 5]
    # As written, but radiomics of one scan are computed.
    every = radiomics.cohort_radiomics
    monkeypatch.setattr(
        radiomics, "cohort_radiomics", lambda some, out: every(replace(some, scans=some.scans[:1]), out, workers=1)
    )
    # As written, but the cohort that README.md simulates is the user's small one under another name.
    monkeypatch.setattr(
        cirrnb,
        "simulate_cohort",
        lambda out, patients: cirrnb.read_cohort(shutil.copytree("cohorts/mine", out)),
    )
    told: dict[str, object] = {}
    for name, found in blocks.items():
        for text in found:
            exec(compile(text, name, "exec"), told)  # noqa: S102 -- the project's own text
    assert (home / "runs" / "small" / "model.safetensors").is_file()
    assert (home / "runs" / "mine" / "model.safetensors").is_file()
    assert list((home / "overlays").glob("*_integrated_gradients.nii.gz")) and Path("case.html").is_file()


def examples(name: str) -> list[doctest.DocTest]:
    """What the docstring of a public name shows."""
    shown: Any = getattr(cirrnb, name)
    found = doctest.DocTestFinder(recurse=False).find(shown, name, module=False, globs={"cirrnb": cirrnb})
    return [one for one in found if one.examples]


def public() -> list[str]:
    return [name for name in cirrnb.__all__ if not name.startswith("__") and name != "splits"]


def test_every_public_name_shows_an_example() -> None:
    assert [name for name in public() if not examples(name)] == []


def _run(names: list[str]) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    told: list[str] = []
    for name in names:
        for one in examples(name):
            runner.run(one, out=told.append)
    assert not told, "".join(told)


def test_the_examples_of_docstrings_run(home: Path) -> None:
    others = [name for name in public() if name not in (*ORDER, *LONG)]
    _run([*ORDER[1:], *others])


@pytest.mark.slow
def test_longer_examples_of_docstrings_run(home: Path) -> None:
    cirrnb.simulate_cohort("cohorts/site", patients=30, seed=4, scale="tiny", healthy=0, progress=False)
    (home / "cohorts" / "mine").rename(home / "cohorts" / "other")
    _run(["simulate_cohort", *LONG])
