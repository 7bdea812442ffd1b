"""The explorer without a browser: what happens on each choice, and what is said."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_explanation import untrained
from toy_patients import LARGE, toy_cohort, write_scan

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Scan
from cirrnb.data.status import REASONS_COLUMN, REFUSED, STATUS_COLUMN
from cirrnb.explorer import panel
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.prediction import predict_patient
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager
from cirrnb.view import sentences
from cirrnb.viewer.slice_browser import slice_browser
from cirrnb.viewer.widget import SliceCanvas


@pytest.fixture(autouse=True)
def own_preferences(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("toy"), {"train": 3}, settings=LARGE)


@pytest.fixture(scope="module")
def model():
    return untrained()


def explorer(cohort, model, tmp_path, **given):
    made = cirrnb.SliceExplorer(cohort, model, store=tmp_path / "kept", **{"method": "grad_cam", **given})
    assert made.wait(60)
    return made


def heard(canvas: SliceCanvas, monkeypatch) -> list:
    sent: list = []
    monkeypatch.setattr(canvas, "send", lambda content, buffers=None: sent.append((content, buffers or [])))
    return sent


def test_the_images_come_first_and_the_answer_on_request(cohort, model, tmp_path):
    made = explorer(cohort, model, tmp_path)
    assert all(one.layout.display == "none" for one in made.behind.values())
    assert made.prediction is None and made.explanation is None and made.answer.value == ""
    made.reveal.value = True
    assert made.wait(60)
    assert all(one.layout.display == "" for one in made.behind.values())
    assert made.prediction.subject == made.explanation.subject == made.case.value
    assert "Most likely" in made.answer.value and "recorded stage" in made.answer.value
    assert "simulated" in made.answer.value
    made.reveal.value = False
    assert all(one.layout.display == "none" for one in made.behind.values())


@pytest.mark.parametrize("simulated", [True, False])
def test_gaps_in_the_numbers_of_simulated_patients_are_explained_beside_the_list(cohort, model, tmp_path, simulated):
    made = explorer(cohort, model, tmp_path, simulated=simulated)
    assert "gaps" in made.gaps.value and (made.gaps.layout.display == "") is simulated


@pytest.mark.parametrize("always", [False, True])
def test_each_new_patient_is_seen_without_an_answer_unless_always_wanted(cohort, model, tmp_path, always):
    made = explorer(cohort, model, tmp_path)
    made.always.value = always
    made.reveal.value = True
    assert made.wait(60) and made.prediction is not None
    for subject in reversed(made.case.options):
        made.case.value = subject
        assert made.wait(60) and made.reveal.value is always
        assert {one.layout.display for one in made.behind.values()} == {"" if always else "none"}
        if always:
            assert made.prediction.subject == subject
        else:
            assert made.prediction is None and made.answer.value == made.brief.value == ""
            made.reveal.value = True
            assert made.wait(60) and made.prediction.subject == subject


def test_the_reader_s_choice_is_remembered(cohort, model, tmp_path):
    made = explorer(cohort, model, tmp_path)
    assert not panel.answer_first()
    made.always.value = True
    assert panel.answer_first()
    again = explorer(cohort, model, tmp_path)
    assert again.reveal.value and again.prediction is not None
    panel.preferences_file().write_text("{broken")
    assert not panel.answer_first()


def test_each_choice_brings_another_map(cohort, model, tmp_path):
    made = explorer(cohort, model, tmp_path, answer_first=True)
    first = made.explanation
    assert not made.scale.disabled
    made.scale.value = 1
    assert made.wait(60) and made.explanation.settings["scale"] == 1
    made.method.value = "attention"
    assert made.wait(60) and made.explanation.method == "attention"
    made.target.value = "above moderate"
    assert made.wait(60) and made.explanation.target == "above moderate"
    assert "severe rather than mild or moderate" in made.why.value
    made.case.value = list(made._bags)[1]
    assert made.wait(60) and made.explanation.subject == made.case.value != first.subject


@pytest.fixture(scope="module")
def with_maps():
    torch.manual_seed(0)
    settings = StagerSettings(width=16, pretrained=False, signs=("spleen", "ascites"), maps=True)
    return TrainedStager(Stager(settings, fetch=False).eval(), LARGE, True, "with maps", {})


def test_only_a_model_with_maps_of_signs_offers_them_and_the_score_follows(cohort, model, with_maps, tmp_path):
    assert panel.OWN_MAP not in dict(explorer(cohort, model, tmp_path).method.options).values()
    made = explorer(cohort, with_maps, tmp_path, answer_first=True)
    strongest = max(made.prediction.signs, key=lambda sign: sign.strength).name
    made.method.value = panel.OWN_MAP
    assert made.wait(60) and made.target.value == strongest
    assert made.explanation.method == panel.OWN_MAP and made.explanation.target == strongest
    made.target.value = "severity"
    assert made.wait(60) and made.method.value == panel.FIRST and made.explanation.target == "severity"


def test_a_reader_changes_a_sign_and_sees_the_stage_change(cohort, model, with_maps, tmp_path):
    assert not explorer(cohort, model, tmp_path, answer_first=True).what_if.children, "no signs, nothing to change"
    made = explorer(cohort, with_maps, tmp_path, answer_first=True)
    before = dict(made.prediction.probabilities)
    field = made.what_if._fields["ascites"]
    assert field.value == pytest.approx(made.prediction.signs[1].strength, abs=0.01)
    field.value = 1.0
    assert made.wait(60)
    wanted = predict_patient(with_maps, cohort.bags()[0], {"ascites": 1.0})
    assert wanted.probabilities != before
    for stage, share in wanted.probabilities.items():
        assert f"{share:.0%}" in made.what_if._outcome.value, stage
    assert made.prediction.probabilities == before, "nothing is stored"
    made.what_if._reset.click()
    assert not made.what_if.changed() and not made.what_if._outcome.value


def refused_cohort(root: Path, model: TrainedStager) -> list[Bag]:
    bag = toy_cohort(root, {"train": 1}, settings=LARGE).bags()[0]
    found = "presence: no liver was found (Look at the scan.) | side: organs are upside down (Check the affine.)"
    marks = {STATUS_COLUMN: REFUSED, REASONS_COLUMN: found}
    scans = {
        name: replace(one, scan=replace(one.scan, extra={**one.scan.extra, **marks})) for name, one in bag.scans.items()
    }
    return [replace(bag, scans=scans)]


def test_a_refusal_is_told_on_opening_in_plain_words_and_offers_no_map(model, tmp_path):
    bags = refused_cohort(tmp_path / "refused", model)
    made = explorer(bags, model, tmp_path, simulated=False, answer_first=True)
    told = made.standing.value
    assert "no liver was found. Look at the scan." in told and 'role="alert"' in told
    assert not any(word in told for word in ("presence", "upside down", "force", "expected")), told
    assert made.reveal.disabled and not made.reveal.value and made.message.value == ""
    assert made.behind["tools"].layout.display == "none" and made.prediction is None


def test_the_next_patient_after_a_refused_one_gets_an_answer(cohort, model, tmp_path):
    bags = [*refused_cohort(tmp_path / "refused", model), cohort.bags()[1]]
    made = explorer(bags, model, tmp_path, simulated=False, answer_first=True)
    made.case.value = bags[1].subject
    assert made.wait(60) and made.prediction is not None
    assert made.standing.value == "" and made.behind["tools"].layout.display == ""


def test_who_drew_the_liver_stays_in_sight_with_the_answer_and_its_edge_is_drawn(cohort, model, tmp_path, monkeypatch):
    bag = cohort.bags()[0]
    by = {"mask_by": "a program", "mask_doubts": "it is small"}
    scans = {}
    for name, one in bag.scans.items():
        scan = replace(one.scan, mask=Path("mask.nii.gz"), extra={**one.scan.extra, **by})
        scans[name] = replace(one, scan=scan)
    made = explorer([replace(bag, scans=scans)], model, tmp_path, simulated=False)
    sent = heard(made.canvas, monkeypatch)
    assert "drawn by a program" in made.standing.value and "it is small" in made.standing.value
    made.reveal.value = True
    assert made.wait(60) and made.explanation is not None
    assert "drawn by a program" in made.standing.value
    assert "outline" in [content["kind"] for content, _ in sent]


def test_explanations_are_kept_and_a_store_that_is_gone_does_no_harm(cohort, model, tmp_path, monkeypatch):
    made = explorer(cohort, model, tmp_path, answer_first=True)
    assert len(list((tmp_path / "kept").glob("*.safetensors"))) == 1
    shutil.rmtree(tmp_path / "kept")
    made.method.value = "attention"
    assert made.wait(60) and made.message.value == "" and made.explanation.method == "attention"


def test_the_map_can_be_tested_and_taken_along(cohort, model, tmp_path, monkeypatch):
    made = explorer(cohort, model, tmp_path, answer_first=True)
    states = []
    made.bar.observe(lambda change: states.append((made.testing.layout.display, made.waiting.layout.display)), "value")
    made.test.click()
    assert made.wait(120)
    assert states and set(states) <= {("", "none"), ("none", "none")}, "the progress stands beside its button"
    assert "Deletion" in made.faithfulness.value and "Infidelity" in made.faithfulness.value
    files: list = []
    monkeypatch.setattr(made.canvas, "hand_over", lambda name, content: files.append((name, content)))
    made.export.click()
    assert [name.endswith("_grad_cam.nii.gz") for name, _ in files] == [True, True]
    assert all(content[:2] == b"\x1f\x8b" for _, content in files)
    assert all(re.fullmatch(r"[\w.-]+", name) for name, _ in files)


def test_cancel_says_so_and_nothing_is_shown(cohort, model, tmp_path):
    made = explorer(cohort, model, tmp_path, method="integrated_gradients")
    made.reveal.value = True
    made.cancel.click()
    assert made.wait(60)
    assert "Cancelled" in made.message.value and made.explanation is None
    assert made.test.disabled and made.export.disabled
    made.method.value = "grad_cam"
    assert made.wait(60) and made.explanation is not None and made.message.value == ""
    assert not made.test.disabled and made.why.value
    made.method.value = "integrated_gradients"
    made.cancel.click()
    assert made.wait(60)
    # Nothing of the map before stays under the name of this one.
    assert made.explanation is None and made.why.value == "" and made.export.disabled
    assert "overlay" not in made.canvas._overlay[0]


def test_what_cannot_be_opened_is_told_and_nobody_else_s_pictures_stay(cohort, model, tmp_path, monkeypatch):
    made = explorer(cohort, model, tmp_path)
    sent = heard(made.canvas, monkeypatch)
    second = list(made._bags)[1]
    gone = {name: replace(scan, folder=tmp_path / "gone") for name, scan in made._bags[second].scans.items()}
    made._bags[second] = Bag(gone)
    made.case.value = second
    assert made.wait(60)
    assert 'role="alert"' in made.message.value and str(tmp_path) not in made.message.value
    assert all(pane.get("reason") == "could not be opened" for pane in sent[-1][0]["panes"])
    made.case.value = next(iter(made._bags))
    assert made.wait(60) and made.message.value == ""


def test_one_sequence_and_one_slice(tmp_path, model):
    image = np.random.default_rng(0).normal(0.4, 0.1, (1, *LARGE.size)).astype(np.float16)
    bag = Bag({"T2W": write_scan(tmp_path / "a", Scan("7", "T2W", Path("7.nii.gz")), image, LARGE)})
    made = explorer([bag], model, tmp_path, answer_first=True, simulated=False)
    assert made.message.value == ""
    assert (
        "T1W missing" in made.answer.value
        and "one slice" in made.answer.value
        and "No stage is recorded" in made.answer.value
    )
    assert [column["name"] for column in made.chart.shown["columns"]] == ["T2W"]
    assert sum(made.chart.shown["columns"][0]["weights"]) == pytest.approx(100)


def test_a_patient_without_a_sequence_is_asked_for_no_sign_that_only_it_shows(tmp_path):
    torch.manual_seed(0)
    names = ("nodularity", "nodules_t1w", "nodules_t2w", "ascites")
    signed = TrainedStager(
        Stager(StagerSettings(width=16, pretrained=False, signs=names), fetch=False).eval(), LARGE, True, "toy", {}
    )
    whole, other = toy_cohort(tmp_path / "toy", {"train": 2}, settings=LARGE).bags()
    made = explorer([whole, other.only(["T2W"])], signed, tmp_path, target="nodules_t1w", answer_first=True)
    assert "nodules_t1w" in [value for _, value in made.target.options]
    made.case.value = other.subject
    assert made.wait(60) and made.message.value == ""
    assert "nodules_t1w" not in [value for _, value in made.target.options] and made.target.value == "severity"
    assert made.method.value == "grad_cam" and "no T1W" in made.answer.value and "Attention" not in made.answer.value
    made.case.value = whole.subject
    assert made.wait(60) and "nodules_t1w" in [value for _, value in made.target.options]


def test_a_click_on_a_bar_goes_there_and_the_chart_marks_the_height(cohort, model, tmp_path, monkeypatch):
    made = explorer(cohort, model, tmp_path, answer_first=True)
    sent = heard(made.canvas, monkeypatch)
    made.chart._hear(made.chart, {"kind": "go", "position": -85.0}, [])
    assert sent[-1][0] == {"kind": "go", "position": -85.0}
    assert made.chart.position == -85.0
    made.canvas.on_place(-70.0)
    assert made.chart.position == -70.0


@pytest.mark.parametrize("wrong", [{"patient": "cirrhotic/99"}, {"method": "tea_leaves"}, {"target": "doom"}])
def test_what_does_not_exist_is_refused(cohort, model, wrong):
    with pytest.raises(InputError):
        cirrnb.SliceExplorer(cohort, model, **wrong)


def test_nobody_to_show_is_refused(model):
    with pytest.raises(InputError, match="nobody"):
        cirrnb.SliceExplorer([], model)


def test_hostile_ids_are_text(tmp_path, model):
    name = "<script>alert(1)</script>"
    image = np.random.default_rng(0).normal(0.4, 0.1, (3, *LARGE.size)).astype(np.float16)
    scan = replace(Scan("7", "T1W", Path("7.nii.gz")), patient=name)
    bag = Bag({"T1W": write_scan(tmp_path / "a", scan, image, LARGE)})
    made = explorer([bag], model, tmp_path, answer_first=True)
    made._failed(f"no {name}")
    assert "<script>" not in made.answer.value + made.why.value + made.message.value
    page = slice_browser(bag, simulated=True).html
    assert page.count("<script>alert") == 0 and "&lt;script&gt;" in page


def test_every_method_has_words(cohort, model):
    from cirrnb.explanation.methods import methods

    for name in methods():
        assert len(sentences.method_words(name)) > 20
    assert sentences.target_words("severe - mild") == "severe rather than mild"


def packed(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)[1])


def test_the_explorer_leaves_a_browser_in_a_page(cohort, model, tmp_path, monkeypatch):
    from nbformat.v4 import new_code_cell, new_output

    from cirrnb.run.publishing import render_outputs

    made = explorer(cohort, model, tmp_path, answer_first=True)
    bundles: list = []
    monkeypatch.setattr("cirrnb.explorer.explorer.display", lambda shown, raw=False: bundles.append(shown))
    made._ipython_display_()
    widget, stand_in = bundles
    assert "application/vnd.jupyter.widget-view+json" in widget
    data = [widget, {"text/html": stand_in.data}]
    page = render_outputs(new_code_cell("explorer", outputs=[new_output("display_data", one) for one in data]))
    assert page == stand_in.data and packed(page)["overlay"] is not None
