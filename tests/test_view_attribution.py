"""Figures of explanations: what is drawn, on which side, and that the word "simulated" stands on it."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_explanation import untrained
from toy_patients import LARGE, toy_cohort

import cirrnb
from cirrnb.data.pictures import AGAINST, FOR, overlay_picture
from cirrnb.view import attribution as figures
from cirrnb.view.palette import SIMULATED


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    bag = toy_cohort(tmp_path_factory.mktemp("toy"), {"train": 1}, settings=LARGE).bags()[0]
    model = untrained()
    return bag, [cirrnb.explain(model, bag, name, permutations=4) for name in ("grad_cam", "attention")]


def pixels(picture: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))))


def test_what_speaks_for_is_orange_what_against_violet_and_little_of_either_is_nothing():
    values = np.array([[1.0, -1.0, 0.05], [0.5, 0.0, np.nan]])
    drawn = pixels(overlay_picture(values, 1.0, magnify=1))
    colours = [tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5)) for colour in (FOR, AGAINST)]
    assert tuple(drawn[0, 0, :3]) == colours[0] and tuple(drawn[0, 1, :3]) == colours[1]
    assert drawn[0, 2, 3] == drawn[1, 1, 3] == drawn[1, 2, 3] == 0
    assert drawn[0, 0, 3] == drawn[0, 1, 3] > drawn[1, 0, 3] > 0
    with pytest.raises(ValueError, match="above zero"):
        overlay_picture(values, 0.0)


def test_maps_are_shown_at_one_scale_over_all_slices(told):
    _, (cam, attention) = told
    for explanation, least in ((cam, -1), (attention, 0)):
        values = np.concatenate([one.ravel() for one in figures.drawn(explanation).maps.values()])
        assert values.min() >= least and np.abs(values).max() == 1


def test_slices_stand_as_they_are_and_with_the_map(told):
    bag, (cam, _) = told
    figure = figures.attribution_montage(bag, cam, count=2)
    assert SIMULATED in {one.text for one in figure.layout.annotations}
    # Two sequences, as they are and with the map, two slices each; the map is a picture of its own.
    assert len(figure.layout.images) == 2 * (2 + 2 * 2)
    letters = [one.text for one in figure.layout.annotations]
    assert letters.count("<b>R</b>") == letters.count("<b>L</b>") == 8
    assert sum("±" in text for text in letters) == 4


def test_the_profile_names_each_sequences_part(told):
    bag, (cam, _) = told
    figure = figures.share_profile(bag, cam)
    for name, share in cam.shapley.sequences.items():
        assert any(f"{name}: {share:+.2f}" in (trace.name or "") for trace in figure.data)
    assert "log-odds" in figure.layout.xaxis.title.text and "mm" in figure.layout.yaxis.title.text


def test_an_asterisk_is_for_what_beats_every_control_map():
    table = pd.DataFrame(
        {
            "measure": ["deletion", "insertion", "slice deletion"],
            "better": ["lower", "higher", "lower"],
            "value": [0.1, 0.5, np.nan],
            "random": [0.5, 0.4, 0.5],
            "shifted": [0.2, 0.6, np.nan],
            "edges": [0.3, 0.1, np.nan],
            "attention": [np.nan, np.nan, 0.2],
        }
    )
    told = figures.faithfulness_table({"one": table})
    assert list(told["one"]) == ["0.10*", "0.50", "undefined"]
    read = figures.plain_table(told)
    assert list(read.index) == ["deletion", "insertion", "slice deletion"] and "measure" not in read


def test_signs_that_are_used_are_marked():
    found = {"cam": pd.DataFrame({"sign": ["spleen", "any"], "auroc": [0.71234, 0.6]})}
    told = figures.localisation_table(found, ["spleen"])
    assert list(told["used"]) == ["yes", ""] and told["cam"].iloc[0] == 0.71
    effects = pd.DataFrame({"sign": ["spleen"], "effect": [1.0], "total": [3.0], "used": [True]})
    given = pd.DataFrame({"sign": ["spleen", "lobes"], "attributed": [0.5, 0.1]})
    figure = figures.sign_figure(effects, given, method="Grad-CAM", simulated=True)
    assert [trace.x[0] for trace in figure.data] == [1.0, 0.5] and len(figure.data[0].x) == 1
