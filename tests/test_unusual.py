"""The out-of-distribution score: features around the liver, grades, what is stored, and a stage that is hidden."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from offline_browser import opened
from test_explanation import untrained
from toy_patients import LARGE, toy_cohort

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Scan
from cirrnb.data.status import FAR, UNUSUAL, USUAL, distance_of, grade_of, likeness_reasons
from cirrnb.model.prediction import Prediction, predict_patient
from cirrnb.segmentation.surroundings import LEVELS, pooled, regions
from cirrnb.segmentation.unusual import (
    FEWEST,
    OutOfDistributionScore,
    Usual,
    fit_usual,
    limits,
    read_score,
    save_score,
)
from cirrnb.view import sentences

# ------------------------------------------------------------------------------------------------ features


def test_regions_lie_around_the_liver_within_the_slice_and_the_body() -> None:
    liver, body = np.zeros((3, 40, 48), bool), np.ones((3, 40, 48), bool)
    liver[1, 15:25, 18:30] = True
    body[:, :, 36:] = False
    inside, rim, around = regions(liver, body, (7.0, 3.0, 3.0))
    assert inside.sum() == 120 and not rim[[0, 2]].any() and not around[[0, 2]].any()
    # 3 mm pixels: the rim of 6 mm is two pixels wide beside a straight edge, what is around eight more.
    assert np.flatnonzero(rim[1, 20]).tolist() == [16, 17, 30, 31]
    assert np.flatnonzero(around[1, 20]).tolist() == [*range(8, 16), *range(32, 36)]
    assert not (inside & rim | rim & around).any()


def test_features_are_means_of_each_region() -> None:
    liver, body = np.zeros((2, 30, 34), bool), np.ones((2, 30, 34), bool)
    liver[:, 8:16, 8:16] = True  # whole cells of every level
    masks = regions(liver, body, (7.0, 3.0, 3.0))
    features = []
    for level in LEVELS:
        values = torch.zeros(2, 3, 32 >> level, 48 >> level)  # padded to a multiple of 16
        values[:, 0] = level
        first, last = 8 >> level, 16 >> level
        values[:, 1, first:last, first:last] = 5.0
        values[1, 2] = 2.0
        features.append(values)
    found = pooled(features, masks, 16)
    assert found is not None and found.shape == (3 * 3 * len(LEVELS),)
    for place, level in enumerate(LEVELS):
        np.testing.assert_allclose(found[3 * place : 3 * place + 3], [level, 5.0, 1.0], rtol=1e-5)
    rim = found[9:12]  # the finest level: no cell of the liver is in the rim
    assert rim[1] == 0 and rim[2] == pytest.approx(1.0)
    assert pooled(features, regions(np.zeros_like(liver), body, (7.0, 3.0, 3.0)), 16) is None


# ------------------------------------------------------------------------------------------------ grades


def drawn(random: np.random.Generator, count: int, moved: float = 0.0) -> np.ndarray:
    """Features of 60 numbers that vary along five directions; `moved` along a direction in which they do not."""
    base = random.normal(size=(count, 5)) @ np.random.default_rng(9).normal(size=(5, 60))
    rooted = 5 + 0.3 * base + 0.05 * random.normal(size=(count, 60))
    rooted[:, :30] += moved
    return np.maximum(rooted, 0) ** 2


@pytest.fixture(scope="module")
def usual() -> Usual:
    random = np.random.default_rng(0)
    return fit_usual(drawn(random, 300), [drawn(random, 400)])


def test_about_one_in_a_hundred_unseen_patients_is_unusual_and_hardly_any_far(usual: Usual) -> None:
    distances = np.array([usual.distance(row) for row in drawn(np.random.default_rng(5), 4000)])
    assert 0.002 < (distances > 1).mean() < 0.03 and (distances > usual.far).mean() < 0.002


def test_what_is_usual_in_one_population_is_usual(usual: Usual) -> None:
    random = np.random.default_rng(0)
    fitted, narrow, wide = drawn(random, 300), drawn(random, 400), drawn(random, 100, moved=0.2)
    assert fit_usual(fitted, [narrow, wide]).limit > 1.2 * fit_usual(fitted, [narrow]).limit


def test_what_lies_beside_all_simulated_patients_is_far(usual: Usual) -> None:
    distances = [usual.distance(row) for row in drawn(np.random.default_rng(6), 20, moved=1.0)]
    assert min(distances) > usual.far > 1


def test_the_tail_of_an_exponential_is_continued_as_it_is() -> None:
    distances = np.random.default_rng(0).exponential(2.0, 200_000)
    rare, rarest = limits(distances)
    assert rare == pytest.approx(2 * np.log(100), rel=0.03) and rarest == pytest.approx(2 * np.log(10_000), rel=0.03)


def test_grades_follow_the_distance_and_unknown_scans_have_none(usual: Usual) -> None:
    known = OutOfDistributionScore({"T1W": usual}, "abc")
    random = np.random.default_rng(7)
    grades = [known.score(drawn(random, 1, moved)[0], "T1W") for moved in (0.0, 5.0)]
    assert grades[0] is not None and grades[0][1] == USUAL and grades[1] is not None and grades[1][1] == FAR
    between = replace(usual, limit=usual.limit * 0.6, far=1e3)
    assert OutOfDistributionScore({"T1W": between}, "abc").score(drawn(random, 1)[0], "T1W")[1] == UNUSUAL  # type: ignore[index]
    assert known.score(None, "T1W") is None and known.score(np.ones(60), "DWI") is None
    assert known.score(np.ones(7), "T1W") is None


def test_few_scans_are_refused() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="too few"):
        fit_usual(drawn(random, 20), [drawn(random, 100)])
    with pytest.raises(ValueError, match="too few"):
        fit_usual(drawn(random, 200), [drawn(random, 100), drawn(random, 5)])


def test_what_is_usual_is_stored_and_read_for_the_same_weights_alone(usual: Usual, tmp_path: Path) -> None:
    known = OutOfDistributionScore({"T1W": usual, "T2W": usual}, "abc", {"fit": 300})
    save_score(tmp_path, known)
    back = read_score(tmp_path, "abc")
    assert back is not None and back.fitted == {"fit": 300} and set(back.usual) == {"T1W", "T2W"}
    row = drawn(np.random.default_rng(3), 1)[0]
    assert back.usual["T1W"].distance(row) == pytest.approx(usual.distance(row), rel=1e-3)
    assert read_score(tmp_path, "other") is None and read_score(tmp_path / "nowhere", "abc") is None


@pytest.mark.parametrize("damage", ["cut", "text", "limit", "far", "shape", "missing"])
def test_damaged_files_are_refused(usual: Usual, tmp_path: Path, damage: str) -> None:
    save_score(tmp_path, OutOfDistributionScore({"T1W": usual}, "abc"))
    path = tmp_path / "unusual.json"
    stored = json.loads(path.read_text())
    if damage == "cut":
        arrays = tmp_path / "unusual.safetensors"
        arrays.write_bytes(arrays.read_bytes()[:-100])
    elif damage == "text":
        stored["usual"]["T1W"] = "x"
    elif damage == "limit":
        stored["usual"]["T1W"]["limit"] = 0.0
    elif damage == "far":
        stored["usual"]["T1W"]["far"] = 0.5
    elif damage == "shape":
        save_score(tmp_path, OutOfDistributionScore({"T1W": replace(usual, mean=usual.mean[:-1])}, "abc"))
    else:
        stored["usual"]["T2W"] = stored["usual"]["T1W"]
    if damage not in ("cut", "shape"):
        path.write_text(json.dumps(stored))
    with pytest.raises(InputError):
        read_score(tmp_path, "abc")


# ------------------------------------------------------------------------------------------------ answers


def scan_with(**extra: object) -> Scan:
    return Scan("1", "T1W", Path("1.nii.gz"), extra=extra)


def test_a_table_s_words_are_taken_as_they_come() -> None:
    assert grade_of(scan_with(likeness="far")) == FAR and grade_of(scan_with(likeness="odd")) is None
    assert distance_of(scan_with(likeness_distance="3.2")) == 3.2
    assert distance_of(scan_with(likeness_distance="x")) is None and distance_of(scan_with()) is None
    assert [one.code for one in likeness_reasons([scan_with(likeness="far"), scan_with(likeness="usual")])] == [FAR]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Bag:
    return toy_cohort(tmp_path_factory.mktemp("toy"), {"train": 1}, settings=LARGE).bags()[0]


def graded(bag: Bag, grade: str) -> Bag:
    def marked(scan: Scan) -> Scan:
        return replace(scan, extra={"likeness": grade, "likeness_distance": 4.0})

    return Bag({name: replace(one, scan=marked(one.scan)) for name, one in bag.scans.items()})


@pytest.mark.parametrize(
    ("grade", "status", "hidden"), [(USUAL, "answered", False), (UNUSUAL, "doubtful", False), (FAR, "doubtful", True)]
)
def test_the_grade_of_a_scan_makes_the_answer(bag: Bag, grade: str, status: str, hidden: bool) -> None:
    said = predict_patient(untrained(), graded(bag, grade))
    assert (said.status, said.hidden, said.in_distribution) == (status, hidden, grade == USUAL)
    table = cirrnb.predict(untrained(), [graded(bag, grade)])
    assert table.loc[0, "hidden"] == hidden and table.loc[0, "predicted"] == said.predicted


def stage_shown(html: str, said: Prediction) -> bool:
    """Whether HTML tells the stage outside of what has to be asked for."""
    outside = html.partition("<details")[0] + html.rpartition("</details>")[2]
    return said.predicted in outside or "%" in outside.partition("Attention")[0]


def test_a_hidden_stage_stands_only_where_the_reader_asks(bag: Bag) -> None:
    for grade in (USUAL, FAR):
        said = predict_patient(untrained(), graded(bag, grade))
        html = sentences.prediction_html(said, recorded=None, coverage=None, simulated=False)
        assert stage_shown(html, said) == (grade == USUAL) and said.predicted in html
        assert (said.predicted in sentences.brief_html(said)) == (grade == USUAL)
        assert ("far from" in html) == (grade == FAR)


@pytest.mark.browser
def test_an_index_hides_the_stage_until_asked(tmp_path: Path) -> None:
    from cirrnb.reports.folder import ReportFolder
    from cirrnb.reports.formats import write_index
    from cirrnb.reports.tables import FAILURES, SUMMARY

    rows = [
        {"subject": f"a/{hidden}", "page": "patients/a.html", "predicted": "severe", "mild": 0.1, "moderate": 0.2}
        | {"severe": 0.7, "set": "severe", "uncertainty": "one stage", "status": "doubtful", "reasons": "far: T1W"}
        | {"hidden": hidden, "sequences": "T1W", "flags": "x"}
        for hidden in (True, False)
    ]
    made = pd.DataFrame(rows, columns=list(SUMMARY))
    failed = pd.DataFrame(columns=list(FAILURES))
    report = ReportFolder(tmp_path)
    write_index(report, "t", made, failed, banner="", colophon="c")
    with opened(report.index) as browser:
        lines = browser.page.locator("table.patients tbody tr")
        first, second = lines.nth(0), lines.nth(1)
        assert "severe" not in first.inner_text() and "severe" in second.inner_text()
        first.locator("summary").focus()
        browser.page.keyboard.press("Enter")
        assert "severe" in first.inner_text() and browser.complaints == []


def test_what_ships_was_fitted_for_the_segmenter_that_ships() -> None:
    from cirrnb.segmentation.segmenter import Segmenter
    from cirrnb.segmentation.weights import shipped_folder

    found = read_score(shipped_folder(), Segmenter.load().fingerprint)
    assert found is not None and set(found.usual) == {"T1W", "T2W"}
    assert all(usual.far > 1 for usual in found.usual.values())
    assert min(found.fitted["held"].values()) >= FEWEST and min(found.fitted["patients"].values()) >= FEWEST
