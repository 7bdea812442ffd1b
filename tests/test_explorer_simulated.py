"""The explorer on a simulated patient's files: the whole field of view, names and signals at a click, paths."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_explanation import untrained
from viewer_pages import explained, person

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Orientation
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.prepared import PreparationSettings
from cirrnb.explanation.shapley import ShapleyValues
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.explorer.explorer import SliceExplorer
from cirrnb.explorer.first_slice import strongest_height
from cirrnb.explorer.naming import named_at
from cirrnb.explorer.panel import time_left
from cirrnb.view.glossary import GLOSSARY, glossary_html, glossary_markdown
from cirrnb.viewer.acquired import as_acquired, explanation_as_acquired
from cirrnb.viewer.panes import panes

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The folder of a simulated cohort of one patient, and the patient prepared as for reading the liver."""
    folder = tmp_path_factory.mktemp("one")
    people = cirrnb.simulate_cohort(
        folder / "c", patients=1, seed=5, scale="tiny", healthy=0, workers=1, progress=False
    )
    settings = PreparationSettings(view="liver", spacing=4.0)
    return folder / "c", cirrnb.prepare(people, folder / "p", settings, workers=1, progress=False).bags()[0]


def test_the_whole_field_of_view_is_the_file_s_own(one):
    _, bag = one
    shown = as_acquired(bag)
    for name, scan in shown.scans.items():
        volume, grid = read_volume(scan.scan.image)
        turned = Orientation.of(grid)
        assert scan.image.shape == turned.grid(grid).shape == scan.grid.shape
        low, high = scan.measured["low"], scan.measured["high"]
        wanted = np.clip((turned.apply(volume) - low) / (high - low), -0.5, 2)
        np.testing.assert_allclose(np.asarray(scan.image, np.float32), wanted, atol=2e-3)
        assert np.array_equal(scan.mask, turned.apply(read_mask(scan.scan.mask, grid)))
        place = tuple(int(side[0]) for side in np.nonzero(scan.mask))
        mm = scan.grid.to_patient([place])[0]
        index = tuple(np.round(bag.scans[name].grid.to_index([mm])[0]).astype(int))
        assert bag.scans[name].mask[max(0, index[0] - 1) : index[0] + 2].any()
    assert shown.shifts == bag.shifts
    pane = panes(shown)[1]  # this patient has no T1W
    assert pane.image.shape == shown.scans["T2W"].grid.shape and json.dumps(dict(pane.details))
    assert pane.details["signal"] == [low_of(bag), pytest.approx(bag.scans["T2W"].measured["high"] - low_of(bag))]


def low_of(bag) -> float:
    return bag.scans["T2W"].measured["low"]


def test_a_map_lies_on_the_whole_field_where_it_lay_on_the_prepared_one(one):
    _, bag = one
    told = explained_of(bag)
    there = explanation_as_acquired(told, as_acquired(bag))
    for name, values in there.maps.items():
        assert values.shape == there.grids[name].shape and np.isfinite(values).all()
        before = np.argwhere(told.maps[name] > 0).mean(axis=0), np.argwhere(values > 0.1 * values.max()).mean(axis=0)
        mm = told.grids[name].to_patient([before[0]])[0], there.grids[name].to_patient([before[1]])[0]
        np.testing.assert_allclose(*mm, atol=8)


def explained_of(bag):
    maps = {}
    for name, scan in bag.scans.items():
        maps[name] = np.zeros(scan.grid.shape, np.float32)
        maps[name][2:5, 10:16, 8:20] = 1
    told = explained_like()
    grids = {name: scan.grid for name, scan in bag.scans.items()}
    sources = {name: scan.source_grid for name, scan in bag.scans.items()}
    return replace(told, maps=maps, grids=grids, source_grids=sources)


def explained_like():
    none = ShapleyValues({}, {}, {}, {}, 0.0)
    from cirrnb.explanation.explanation import Explanation

    return Explanation("x", "m", "toy", "A map", True, "severity", 1.0, 0.0, "blurred", {}, {}, {}, none, None, True)


def test_a_click_names_the_tissue_of_a_simulated_patient_and_the_file_s_signal(one):
    root, bag = one
    truth, scan = SimulatedTruth(root), bag.scans["T2W"]
    volume, grid = read_volume(scan.scan.image)
    mask = read_mask(scan.scan.mask, grid)
    from scipy.ndimage import distance_transform_edt

    deep = np.unravel_index(distance_transform_edt(mask).argmax(), mask.shape)
    told = named_at(bag, "T2W", tuple(grid.to_patient([deep])[0]), truth)
    assert told.split(" (")[0] in ("liver", "vein", "portal vein", "septa") and f"signal {volume[deep]:g}" in told
    corner = tuple(grid.to_patient([(0, 0, 0)])[0])
    assert named_at(bag, "T2W", corner, truth).startswith("air")
    assert named_at(bag, "T2W", tuple(np.add(corner, 5000)), truth) is None
    plain = named_at(bag, "T2W", tuple(grid.to_patient([deep])[0]))
    assert plain.startswith("liver (") and "outside" in named_at(bag, "T2W", corner)
    counts = {"liver": 0, "other": 0}
    for voxel in np.argwhere(mask)[:: max(1, int(mask.sum() // 12))]:
        tissue = truth.tissue_at(bag, "T2W", tuple(grid.to_patient([voxel])[0]))
        counts["liver" if tissue in ("liver", "septa", "vein", "portal vein", "artery") else "other"] += 1
    assert counts["liver"] >= 3 * counts["other"]


def test_a_path_and_a_number_do(one, tmp_path, monkeypatch):
    root, bag = one
    asked = []
    monkeypatch.setattr("cirrnb.explorer.explorer.prepared_for", lambda model, given: asked.append(given) or (bag,))
    explorer = SliceExplorer(str(root), untrained(), patient=bag.patient, store=None)
    assert asked == [str(root)] and explorer.case.value == bag.subject
    assert explorer.wait(120)
    assert explorer.caveat.value and "cn-caveat" in explorer.caveat._dom_classes
    explorer.whole_field.value = True
    assert explorer.wait(120)
    shape = as_acquired(bag).scans["T2W"].grid.shape
    sent = explorer.canvas._case[0]["panes"][1]
    assert (sent["slices"], sent["rows"], sent["columns"]) == shape
    assert "warning" in dir(explorer.upload) and "patient" in explorer.upload.warning.value
    with pytest.raises(InputError):
        SliceExplorer((bag,), untrained(), patient="77", store=None)


def test_the_pictures_go_to_the_slice_that_counts_most(tmp_path):
    bag = person(tmp_path, {"T1W": 12, "T2W": 6}, shift=10.0)
    slices = {"T1W": np.zeros(12), "T2W": np.array([0, 0.1, 0, -0.9, 0, 0])}
    shares = replace(explained(bag).shapley, slices=slices)
    told = replace(explained(bag), shapley=shares)
    assert strongest_height(bag, told) == pytest.approx(bag.scans["T2W"].positions[3] - 10.0)


def test_a_slice_without_liver_is_no_place_to_begin(tmp_path):
    bag = person(tmp_path, {"T1W": 12})
    scan = bag.scans["T1W"]
    liver = np.array(scan.mask)
    liver[0] = False
    np.save(scan.folder / "mask.npy", liver)
    values = np.zeros(12)
    values[[0, 7]] = 0.9, 0.1
    told = replace(explained(bag), shapley=replace(explained(bag).shapley, slices={"T1W": values}))
    assert strongest_height(bag, told) == pytest.approx(scan.positions[7])


def test_a_test_of_a_map_says_how_long_it_takes():
    assert time_left(0.5, 0.5) == "" and time_left(60, 0.0) == ""
    assert "30 s" in time_left(30, 0.5) and "4 min" in time_left(60, 0.2)


def test_the_glossary_is_one_and_says_what_the_stages_are_not():
    assert (DOCS / "glossary.md").read_text(encoding="utf-8") == glossary_markdown()
    html = glossary_html()
    assert all(word in html for word in ("Child-Pugh", "F0 to F4", "Log-odds", "Calibration", "Prediction set"))
    assert {"Attribution", "Planted sign", "Stager"} <= set(GLOSSARY)
