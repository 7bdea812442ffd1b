"""What a notebook shows of an object: short, with counts and a picture, and without a path of the machine."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_patients import toy_cohort

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.scan import Cohort
from cirrnb.data.status import FAR, Reason
from cirrnb.model.prediction import predict_patient

NAMES = ["Cohort", "PreparedCohort", "Bag", "Prediction", "Evaluation", "Explanation", "Model"]
ODD = "<b>&'\"x"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("summaries") / "secret"
    home.mkdir()
    cohort = cirrnb.simulate_cohort(
        home / "mine", patients=3, seed=3, scale="tiny", healthy=0, workers=1, progress=False
    )
    model = cirrnb.Model.load("shipped")
    prepared = cirrnb.prepare(cohort, home / "prepared", model.preparation, workers=1, progress=False)
    bag = prepared.bags()[0]
    made = [
        *(cohort, prepared, bag, predict_patient(model, bag)),
        cirrnb.evaluate(model, prepared, split=None),
        cirrnb.explain(model, bag, "grad_cam", permutations=2),
        model,
    ]
    return dict(zip(NAMES, made, strict=True))


class _Text(HTMLParser):
    """The text of a page; raises for tags that do not match."""

    VOID = ("img", "br")

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _text(html: str) -> str:
    return " ".join(" ".join(_Text(html).text).split())


@pytest.mark.parametrize("name", NAMES)
def test_a_representation_is_one_short_line_without_a_path(name: str, objects: dict[str, Any]) -> None:
    text = repr(objects[name])
    assert text.startswith(f"{name}(") and len(text) < 300 and "\n" not in text
    assert "secret" not in text and "Path" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_counts_and_a_picture(name: str, objects: dict[str, Any]) -> None:
    html = objects[name]._repr_html_()
    assert len(html) < 500_000 and "secret" not in html and "/tmp" not in html and "Path" not in _text(html)
    assert "SIMULATED" in _text(html)
    assert re.search(r"data:image/png;base64|background:#|background:rgba", html)
    facts = {
        "Cohort": "Patients 3 Scans",
        "PreparedCohort": "Patients 3 Scans",
        "Bag": "Stage",
        "Prediction": "Most likely",
        "Evaluation": "Patients 3",
        "Explanation": "log-odds",
        "Model": "Fingerprint",
    }
    assert facts[name] in _text(html)


def test_counts_are_those_of_the_patients(objects: dict[str, Any]) -> None:
    cohort: Cohort = objects["Cohort"]
    for stage, count in cohort.patients["stage"].value_counts().items():
        assert f"{count} {stage}" in repr(cohort) and f"{count} {stage}" in repr(objects["PreparedCohort"])
    assert f"{len(cohort)} scans" in repr(cohort)


def test_the_picture_of_an_explanation_is_of_its_strongest_slice(objects: dict[str, Any]) -> None:
    told = objects["Explanation"]
    maps = {name: np.zeros_like(array) for name, array in told.maps.items()}
    name = next(iter(maps))
    maps[name][1, 2:9, 2:9] = 1.0
    text = _text(replace(told, maps=maps)._repr_html_())
    assert f"{name}, slice 2 of {len(maps[name])}" in text and "None" not in text


def test_large_cohorts_are_as_short(tmp_path: Path) -> None:
    prepared = toy_cohort(tmp_path, {"train": 40, "valid": 6, "test": 9})
    assert len(repr(prepared)) < 200 and len(repr(prepared.cohort)) < 200
    text = _text(prepared._repr_html_())
    assert "mild 19 14 3 2" not in text and re.search(r"test train valid .*mild \d+ \d+ \d+ \d+", text)


def test_what_is_missing_shows_no_error(tmp_path: Path, objects: dict[str, Any]) -> None:
    empty = Cohort(())
    assert "0 patients" in repr(empty) and "Patients 0" in _text(empty._repr_html_())
    gone = replace(objects["Cohort"].scans[0], image=tmp_path / "gone.nii.gz", patient=ODD)
    html = Cohort((gone,), name=ODD)._repr_html_()
    assert "<img" not in html and ODD not in html and ODD in _text(html)
    broken = replace(gone, image=tmp_path / "broken.nii.gz")
    broken.image.write_bytes(b"no NIfTI")
    assert "<img" not in Cohort((broken,))._repr_html_()
    assert repr(Bag({})) == "Bag()" and "without a scan" in Bag({})._repr_html_()


def test_a_hidden_stage_stays_behind_a_fold(objects: dict[str, Any]) -> None:
    said = objects["Prediction"]
    hidden = replace(said, reasons=(Reason(FAR, "far from all"),))
    html = hidden._repr_html_()
    before, _, within = html.partition("<details>")
    assert "Most likely" not in before and "Most likely" in within.partition("</details>")[0]
    assert said.predicted not in repr(hidden) and said.predicted in repr(said)
