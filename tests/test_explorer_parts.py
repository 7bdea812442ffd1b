"""The explorer's parts without a browser: what is packed, what is sent, what runs beside, what a page holds."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from test_explanation import untrained
from toy_patients import LARGE, toy_cohort, write_scan

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Scan
from cirrnb.data.stage_scale import StageScale
from cirrnb.data.status import DOUBTFUL, Reason
from cirrnb.explanation.score import Cancelled
from cirrnb.measure.biomarkers import PROGRAM_NOTES, REFERENCES
from cirrnb.measure.measurement import Measurement
from cirrnb.model.prediction import Prediction
from cirrnb.model.trained_model import load_model
from cirrnb.view import sentences
from cirrnb.view.measurements import main_measurements_html, measurements_html
from cirrnb.viewer.background import Worker, in_plain_words
from cirrnb.viewer.panes import overlay_values, overlay_words, panes, regions_of_signs
from cirrnb.viewer.slice_browser import slice_browser
from cirrnb.viewer.widget import SliceCanvas


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("toy"), {"train": 3}, settings=LARGE)


@pytest.fixture(scope="module")
def model():
    return untrained()


def heard(canvas: SliceCanvas, monkeypatch) -> list:
    sent: list = []
    monkeypatch.setattr(canvas, "send", lambda content, buffers=None: sent.append((content, buffers or [])))
    return sent


# ---------------------------------------------------------------------------------------------------- pictures


def test_a_sign_of_many_specks_is_one_region_and_no_speck_has_an_outline():
    """A line around each of a hundred specks would hide what it shows."""
    labels = np.zeros((2, 40, 50), np.uint8)
    labels[0, 10:30:2, 10:30:3] = 2  # 100 specks
    labels[0, 20, 20] = 3  # a speck of another sign within
    labels[0, 14:20, 17:21] = 4  # a region of another sign within
    labels[1, 5, 5] = 1  # a speck of 4 mm2
    labels[1, 20:30, 20:30] = 6
    regions = regions_of_signs(labels, (5.0, 2.0, 2.0))
    assert ndimage.label(regions[0] == 2)[1] == 1 and (regions[0, 12:28, 12:26] > 0).mean() > 0.95
    assert (regions[1] == 1).sum() == 0 and ((regions == 6) == (labels == 6)).all()
    assert (regions[0, 14:20, 17:21] == 4).all() and regions[0, 20, 20] == 2


def test_a_pane_keeps_values_to_a_level_of_grey_and_says_where_it_lies(cohort):
    bag = cohort.bags()[0]
    first = panes(bag)[0]
    assert first.image.dtype == np.uint8 and first.image.shape == bag.scans["T1W"].grid.shape
    low, high = first.details["range"]
    back = low + (high - low) * first.image / 255.0
    inside = np.clip(np.asarray(bag.scans["T1W"].image, dtype=np.float32), low, high)
    assert np.abs(back - inside).max() <= (high - low) / 510 + 1e-3
    assert first.details["positions"] == bag.scans["T1W"].positions.tolist()
    assert json.loads(json.dumps(dict(first.details))) == json.loads(json.dumps(dict(first.details)))


def test_a_missing_sequence_has_a_pane_that_says_so(cohort):
    one = cohort.bags()[0].only(["T2W"])
    first, second = panes(one)
    assert first.image is None and "no such scan" in first.details["reason"]
    assert second.image is not None


def test_values_that_are_no_numbers_are_black_or_white(tmp_path):
    image = np.full((3, *LARGE.size), 0.5, np.float16)
    image[0, 0, :3] = np.nan, np.inf, -np.inf
    pane = panes(Bag({"T1W": write_scan(tmp_path / "a", Scan("1", "T1W", Path("1.nii.gz")), image, LARGE)}))[0]
    assert pane.image[0, 0, 0] == pane.image[0, 0, 2] == 0 and pane.image[0, 0, 1] == 255


def test_an_overlay_has_nothing_at_128(cohort, model):
    told = cirrnb.explain(model, cohort.bags()[0], "grad_cam", permutations=4)
    values = overlay_values(told)
    assert {name: one.shape for name, one in values.items()} == {name: one.shape for name, one in told.maps.items()}
    together = np.concatenate([one.ravel() for one in values.values()])
    assert together.min() >= 1 and together.max() <= 255 and 128 in together
    unsigned = overlay_values(cirrnb.explain(model, cohort.bags()[0], "attention", permutations=4))
    assert min(one.min() for one in unsigned.values()) >= 128


# ---------------------------------------------------------------------------------------------------- the canvas


def test_a_browser_that_opens_later_gets_what_is_shown(cohort, model, monkeypatch):
    canvas = SliceCanvas()
    sent = heard(canvas, monkeypatch)
    bag = cohort.bags()[0]
    canvas.show(panes(bag), title="x", simulated=True)
    canvas.lay_over(cirrnb.explain(model, bag, "grad_cam", permutations=4))
    before = list(sent)
    sent.clear()
    canvas._hear(canvas, {"kind": "ready"}, [])
    assert [one[0]["kind"] for one in sent] == ["case", "overlay", "pong"]
    assert sent[0] == before[0] and sent[1] == before[1]
    for content, buffers in sent[:1]:
        sizes = [pane["slices"] * pane["rows"] * pane["columns"] for pane in content["panes"]]
        assert [len(one) for one in buffers] == sizes


def test_pictures_are_not_part_of_the_state_that_notebooks_save(cohort):
    canvas = SliceCanvas()
    canvas.show(panes(cohort.bags()[0]), title="x", simulated=True)
    state = {name: value for name, value in canvas.get_state().items() if name not in ("_esm", "_css")}
    assert len(json.dumps(state, default=repr)) < 2000


def test_the_canvas_tells_what_the_reader_did(monkeypatch):
    canvas = SliceCanvas()
    sent = heard(canvas, monkeypatch)
    places: list = []
    canvas.on_place = places.append
    canvas._hear(canvas, {"kind": "place", "position": 12.5, "window": "a"}, [])
    assert places == [12.5]
    assert [one[0]["kind"] for one in sent] == ["go", "pong"]


def test_windows_on_one_kernel_stand_at_one_height_and_a_file_goes_to_the_one_in_use(cohort, monkeypatch):
    canvas = SliceCanvas()
    canvas.show(panes(cohort.bags()[0]), title="x", simulated=True)
    sent = heard(canvas, monkeypatch)
    canvas._hear(canvas, {"kind": "place", "position": -60.0, "window": "a"}, [])
    assert sent[0][0] == {"kind": "go", "position": -60.0, "by": "a"}  # the other follows, and is not told of itself
    sent.clear()
    canvas._hear(canvas, {"kind": "ready"}, [])
    assert [one[0]["kind"] for one in sent] == ["case", "go", "pong"] and sent[1][0]["position"] == -60.0
    canvas._hear(canvas, {"kind": "used", "window": "b"}, [])
    canvas.hand_over("map.nii.gz", b"x")
    assert sent[-1][0]["window"] == "b"
    canvas.show(panes(cohort.bags()[1]), title="y", simulated=True)
    sent.clear()
    canvas._hear(canvas, {"kind": "ready"}, [])
    assert [one[0]["kind"] for one in sent] == ["case", "pong"]  # another patient opens where it begins


# ---------------------------------------------------------------------------------------------------- work beside


def test_what_is_asked_last_wins():
    told: list = []
    shares: list = []
    worker = Worker(shares.append, told.append)
    begun = threading.Event()

    def slow(task):
        begun.set()
        while True:
            time.sleep(0.01)
            task.progress(1, 10)

    done: list = []
    worker.start(slow, done.append)
    assert begun.wait(5)
    worker.start(lambda task: "second", done.append)
    assert worker.wait(5)
    assert done == ["second"] and told == [] and shares[-1] is None


def test_cancelling_ends_the_work_and_brings_nothing():
    stopped = threading.Event()

    def slow(task):
        try:
            while True:
                time.sleep(0.01)
                task.progress(0, 1)
        except Cancelled:
            stopped.set()
            raise

    done: list = []
    told: list = []
    worker = Worker(lambda share: None, told.append)
    worker.start(slow, done.append)
    worker.cancel()
    assert stopped.wait(5) and worker.wait(5)
    assert not done and not told and not worker.busy


def test_one_piece_of_work_can_ask_for_the_next_and_is_waited_for():
    done: list = []
    worker = Worker(lambda share: None, done.append)
    worker.start(lambda task: 1, lambda one: worker.start(lambda task: one + time.sleep(0.1) if 0 else 2, done.append))
    assert worker.wait(5)
    assert done == [2]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("a.nii.gz", "x", "y", "Do z."), "a.nii.gz: found x; expected y. Do z."),
        (FileNotFoundError(2, "No such file or directory"), "No such file"),
        (MemoryError(), "memory"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError"),
    ],
)
def test_errors_are_told_without_tracebacks(error, said):
    told: list = []
    worker = Worker(lambda share: None, told.append)

    def fails(task):
        raise error

    worker.start(fails, lambda result: None)
    assert worker.wait(5)
    assert len(told) == 1 and said in told[0] and "Traceback" not in told[0] and told[0] == in_plain_words(error)


@pytest.mark.parametrize("defect", [AttributeError("no such name"), NameError("x"), TypeError("y"), KeyError("z")])
def test_a_defect_is_told_and_reaches_the_log(defect, monkeypatch):
    told: list = []
    logged: list = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: logged.append(hook.exc_value))
    worker = Worker(lambda share: None, told.append)

    def fails(task):
        raise defect

    worker.start(fails, lambda result: told.append("done"))
    assert worker.wait(5)
    assert told == [in_plain_words(defect)] and logged == [defect] and not worker.busy


# ---------------------------------------------------------------------------------------------------- without a kernel


def packed(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)[1])


def unpacked(one: dict, pane: dict) -> np.ndarray:
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["picture"].split(",")[1]))).convert("L"))
    across, (rows, columns) = one["across"], (pane["rows"], pane["columns"])
    tiles = sheet.reshape(-1, rows, across, columns).swapaxes(1, 2).reshape(-1, rows, columns)
    return tiles[: pane["slices"]]


def test_pictures_in_a_page_come_back_as_they_were(cohort, model):
    bag = cohort.bags()[0]
    labels = {name: np.zeros(scan.grid.shape, np.uint8) for name, scan in bag.scans.items()}
    labels["T1W"][3, 5:9, 6:12] = 4
    told = cirrnb.explain(model, bag, "grad_cam", permutations=4)
    content = packed(slice_browser(bag, told, simulated=True, evidence=labels).html)
    for pane, own in zip(content["case"]["panes"], panes(bag), strict=True):
        lossy = unpacked(pane["packed"]["image"], pane).astype(int)
        assert np.abs(lossy - own.image).mean() < 6  # pure noise is the hardest there is
        np.testing.assert_array_equal(unpacked(pane["packed"]["evidence"], pane), labels[pane["name"]])
        drawn = unpacked(content["overlay"]["packed"][pane["name"]], pane).astype(int)
        assert np.abs(drawn - overlay_values(told)[pane["name"]]).max() <= 12


# ---------------------------------------------------------------------------------------------------- words


def test_of_a_patient_unlike_the_training_ones_nothing_is_promised_and_notes_are_told_once() -> None:
    model, bag = load_model("shipped"), SimpleNamespace(stage=None, scans={})
    chances = {"mild": 0.7, "moderate": 0.2, "severe": 0.1}
    notes = ("T1W missing", "T2W looks unlike the training scans: another organ?")
    said = Prediction("a/1", chances, "mild", ("mild",), {}, {"T2W": 1.0}, notes, "m", True, in_distribution=False)
    assert "this patient is not like them" in sentences.answer_html(said, bag, model, simulated=False)
    assert "not like them" not in sentences.answer_html(
        replace(said, in_distribution=True), bag, model, simulated=False
    )
    shares = SimpleNamespace(sequences={"T2W": 1.0}, nothing=0.0)
    found = SimpleNamespace(shapley=shares, target="severity", score=1.0, label="A map", method="attention")
    found.relative_delta, found.notes = None, (*notes, "the map is coarse", "is it?")
    alone = sentences.reasons_html(found)
    assert "Note: T1W missing." in alone and "another organ?<" in alone
    beside = sentences.reasons_html(found, said)
    assert "T1W missing" not in beside and "Note: the map is coarse." in beside and "Note: is it?<" in beside


def test_a_real_patient_gets_reasons_first_and_the_limits_of_the_answer_beside_it() -> None:
    chances, unlike = {"mild": 0.2, "moderate": 0.7, "severe": 0.1}, "T2W looks unlike the training scans"
    reasons = (Reason("unusual", unlike),)
    said = Prediction("a/1", chances, "moderate", ("moderate",), {}, {"T2W": 1.0}, (unlike,), "m", True)
    said = replace(said, status=DOUBTFUL, reasons=reasons, adds={"network": 1.0, "spleen volume": -0.2})
    page = sentences.prediction_html(said, recorded=None, coverage=0.9, simulated=False, organs_by_program=True)
    assert page.count(unlike) == 1 and page.index(unlike) < page.index("cn-bar")
    assert sentences.NO_HEALTHY_ANSWER in page and "misses most of the spleen" in page
    drawn = sentences.prediction_html(said, recorded=None, coverage=0.9, simulated=True)
    assert sentences.NO_HEALTHY_ANSWER not in drawn and "misses most of the spleen" not in drawn
    by_person = sentences.prediction_html(said, recorded=None, coverage=0.9, simulated=False)
    assert "spleen volume" in by_person and "misses most of the spleen" not in by_person
    graded = replace(said, stages=StageScale(("F0", "F1", "F2")), predicted="F0", prediction_set=None)
    graded = replace(graded, probabilities=dict(zip(graded.stages, chances.values(), strict=True)))
    page = sentences.prediction_html(graded, recorded=None, coverage=0.9, simulated=False)
    assert sentences.NO_HEALTHY_ANSWER not in page


def test_the_network_s_score_and_its_share_of_the_stage_are_told_apart() -> None:
    chances = {"mild": 0.2, "moderate": 0.7, "severe": 0.1}
    one = Prediction("a/1", chances, "moderate", None, {}, {"T2W": 1.0}, (), "m", True)
    both = replace(one, adds={"network": 0.4, "liver volume": -0.2})
    assert "average patient" in sentences.reasons_html(told(), both)
    assert "average patient" not in sentences.reasons_html(told(), one)
    assert "average patient" not in sentences.reasons_html(told("ascites"), both), "a sign's score is no stage's"


def test_values_outside_the_reference_range_and_values_that_are_not_trusted_say_so() -> None:
    references, caveat = REFERENCES, PROGRAM_NOTES["spleen volume"]
    large = Measurement("liver volume", 2100.0, "mL", "", "", references["liver volume"])
    small = replace(large, value=700.0)
    spleen = Measurement("spleen volume", 20.0, "mL", caveat, "", references["spleen volume"])
    for html in (main_measurements_html({"T1W": [large, spleen]}), measurements_html({"T1W": [large, spleen]})):
        assert "above 1895" in html and "below 107" not in html, "a value that is not trusted is not compared"
        assert "cn-doubted" in html and "<b>20" not in html
    assert "below 825" in measurements_html({"T1W": [small]})
    part = replace(small, note="the mask is cut off at the lowest slice")
    assert "below" not in measurements_html({"T1W": [part]}), "a part of a liver is not compared with whole ones"
    assert "above" not in measurements_html({"T1W": [replace(large, value=1895.0)]})
    drawn = measurements_html({"T1W": [spleen]}, simulated=True)
    assert "cn-doubted" not in drawn and "below 107" in drawn


def told(target: str = "severity", method: str = "integrated_gradients") -> SimpleNamespace:
    shares = SimpleNamespace(sequences={"T2W": 1.0}, nothing=0.0)
    return SimpleNamespace(
        shapley=shares, target=target, score=1.0, label="A map", method=method, relative_delta=None, notes=()
    )


def test_attention_is_told_of_several_sequences_alone() -> None:
    """Of one sequence the rest is what stands in for the missing one, which says nothing."""
    chances = {"mild": 0.2, "moderate": 0.7, "severe": 0.1}
    one = Prediction("a/1", chances, "moderate", None, {}, {"T2W": 0.74}, (), "m", True)
    assert "ttention" not in sentences.prediction_html(one, recorded="mild", coverage=None, simulated=True)
    both = replace(one, sequence_weights={"T1W": 0.3, "T2W": 0.7})
    assert "T2W 70%" in sentences.prediction_html(both, recorded="mild", coverage=None, simulated=True)


def test_a_failed_test_of_a_map_is_told_before_what_holds_of_its_method() -> None:
    praise = sentences.METHODS["integrated_gradients"]
    failed = sentences.reasons_html(told(), verdict="neither")
    assert failed.index("fails both tests") < failed.index(praise) and "not of this map" in failed
    assert sentences.reasons_html(told(), verdict="both") == sentences.reasons_html(told())
    assert sentences.reasons_html(told(), verdict="deletion").index("one of two tests") < failed.index(praise)


def test_a_map_says_whether_it_is_of_the_stage_or_of_a_sign(cohort, model) -> None:
    assert sentences.map_title("severity") == "map of the stage"
    assert sentences.map_title("ascites") == "map of a sign: ascites"
    assert sentences.map_title("above mild").startswith("map of the stage: moderate")
    found = cirrnb.explain(model, cohort.bags()[0], "grad_cam", permutations=2)
    assert overlay_words(found)["title"] == "Map of the stage"
    assert overlay_words(replace(found, target="spleen"))["title"] == "Map of a sign: large spleen"
    assert "strength on another scale" in sentences.reasons_html(told("spleen"))
    assert "no strength of a sign" in sentences.reasons_html(told())


def test_a_wrong_answer_is_called_wrong_and_each_number_says_whose_it_is() -> None:
    chances = {"mild": 0.39, "moderate": 0.33, "severe": 0.28}
    said = Prediction("a/1", chances, "mild", ("mild", "moderate"), {}, {"T2W": 1.0}, (), "m", True)
    wrong = sentences.prediction_html(said, recorded="moderate", coverage=0.9, simulated=True)
    assert "Wrong" in wrong.split("</h3>")[1][:80] and "moderate" in wrong.split("</h3>")[1][:120]
    assert "wrong" in sentences.brief_html(said, "moderate") and "wrong" not in sentences.brief_html(said, "mild")
    right = sentences.prediction_html(said, recorded="mild", coverage=0.9, simulated=True)
    assert "Right" in right and "Wrong" not in right
    assert "39% is the probability" in wrong.replace("39 %", "39%") and "9 in 10" in wrong and "many patients" in wrong
    assert "Wrong" not in sentences.prediction_html(said, recorded=None, coverage=0.9, simulated=True)


def test_pages_of_the_documentation_are_links_in_the_explorer_s_lines() -> None:
    from cirrnb.explorer.panel import _line

    line = _line("<b>What is known: docs/real_people.md", wrong=False)
    assert '<a href="../docs/real_people.md"' in line and "&lt;b&gt;" in line, "a link, and no other HTML"
