"""The lesson on why the first model was wrong about real scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cirrnb
from cirrnb.course.wrong_before import (
    CALLED,
    HEALTHY,
    SEVERE_WITH,
    SEVERE_WITHOUT,
    Box,
    box_of_the_body,
    box_of_the_liver,
    cropped_view,
    healthy_figure,
    pelvis_figure,
    staged_without_liver,
    without_liver,
)
from cirrnb.data.grid import Orientation
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.prepared import PreparationSettings
from cirrnb.model.trained_model import load_model


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    people = cirrnb.simulate_cohort(
        folder / "made", patients=4, seed=142, scale="tiny", healthy=0, workers=1, progress=False
    )
    as_read = PreparationSettings(view="abdomen", margin=15.0)
    return people, cirrnb.prepare(people, folder / "prepared", as_read, workers=1, progress=False)


def test_the_box_around_the_body_cuts_the_liver_and_the_one_around_the_liver_does_not(wrong):
    scans = [one for one in wrong[1].scans if one.scan.sequence == "T1W"]
    assert max(box_of_the_body(scan).share_outside(np.asarray(scan.mask)) for scan in scans) > 0
    assert all(box_of_the_liver(scan).share_outside(np.asarray(scan.mask)) == 0 for scan in scans)
    mask = np.zeros((2, 7, 8), bool)
    mask[0, 2:6, 3:5] = True
    assert Box((0, 4), (3, 8)).share_outside(mask) == 0.5 and Box((2, 6), (4, 5)).share_outside(mask) == 0.5
    html = cropped_view(wrong[1].bags())._repr_html_()
    assert html.count("of the liver outside") == 2 and ", 0% of the liver outside" in html


def test_slices_without_a_liver_are_staged_and_shown_so(wrong):
    model, people = load_model("shipped"), wrong[0]
    prediction, pixels = staged_without_liver(people, model)
    assert sum(prediction.probabilities.values()) == pytest.approx(1) and pixels.ndim == 2 and pixels.std() > 0
    scan, count = without_liver(people)
    mask, grid = read_volume(scan.mask)
    assert not Orientation.of(grid).apply(mask)[:count].any() and Orientation.of(grid).apply(mask)[count].any()
    assert (
        f"{prediction.predicted} {prediction.probabilities[prediction.predicted]:.0%}"
        in pelvis_figure(people, model).html
    )


def test_the_counts_of_healthy_people_stand_in_the_documentation():
    text = (Path(__file__).parents[1] / "docs" / "real_people.md").read_text()
    numbers = {5: "five", 7: "seven", 20: "twenty"}
    assert all(numbers[one] in text for one in (HEALTHY, SEVERE_WITH, SEVERE_WITHOUT))
    html = healthy_figure().html
    assert html.count("<circle") == 2 * HEALTHY and html.count(CALLED) == SEVERE_WITH + SEVERE_WITHOUT
