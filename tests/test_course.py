"""The course without a browser: progress that is never lost in silence, answers judged, the quiz and its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from ipywidgets import HTML
from PIL import Image
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.course import feedback, lesson
from cirrnb.course.drawing import draw
from cirrnb.course.feedback import BRIGHT, SIGN_OF, result_html
from cirrnb.course.figures import AXIS, recorded, scanner_figure, two_scanners, vessels_on_t2w
from cirrnb.course.form import Exercise
from cirrnb.course.lesson import described
from cirrnb.course.patients import QuizPatients, QuizPlace
from cirrnb.course.progress import Progress, progress_file
from cirrnb.course.questions import QUESTIONS, Choice
from cirrnb.course.quiz import StagingQuiz, heights_of_signs
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
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Orientation
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.evaluation.metrics import confusion_matrix
from cirrnb.explanation.simulated_truth import SimulatedTruth, stages_told_by_signs, strengths
from cirrnb.model.trained_model import load_model
from cirrnb.run import serving
from cirrnb.run.execution import find_notebook
from cirrnb.run.parameters import read_schema
from cirrnb.simulation.cohort import SIMULATOR_VERSION
from cirrnb.simulation.populations import BENCHMARK
from cirrnb.simulation.signal import draw_protocol
from cirrnb.simulation.signs import READER_NOISE, SIGNS
from cirrnb.view.palette import LABELS, SIGN_COLOURS
from cirrnb.viewer.widget import SliceCanvas

# ---------------------------------------------------------------- progress


def test_progress_goes_on_where_it_stopped(tmp_path):
    file = tmp_path / "course" / "progress.json"
    first = Progress(file)
    first.answer("q", "a/1", "mild")
    first.tried("kappa", "0", False)
    first.tried("kappa", "1", True)
    again = Progress(file)
    assert again.answers("q") == {"a/1": "mild"} and again.tries("kappa") == ["0", "1"] and again.solved("kappa")
    again.answer("q", "a/1", "severe")
    assert Progress(file).answers("q") == {"a/1": "mild"}, "the first answer counts"
    again.start_again("q")
    assert Progress(file).attempts("q") == [{"a/1": "mild"}, {}]
    assert [path.name for path in file.parent.iterdir()] == ["progress.json"]


def test_the_line_of_the_progress_follows_every_answer(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("cirrnb.course.progress.display", lambda bundle, raw: shown.append(bundle))
    kept = Progress(tmp_path / "progress.json")
    kept._ipython_display_()
    assert "nothing answered yet" in kept.line.value and kept.line.value == shown[0]["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in shown[0]
    exercise = Exercise(QUESTIONS["sequence"], kept)
    right = next(str(n) for n in range(9) if exercise.question.judge(str(n)).right)
    exercise.on_answer(right)
    assert "1 exercise solved" in kept.line.value
    kept.answer("q", "a/1", "mild")
    assert "1 case" in kept.line.value
    kept.start_again("q")
    assert "0 cases" in kept.line.value


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 9}', '{"version": 1, "quizzes": {"q": [{"a": "fine"}]}}'])
def test_a_broken_file_is_told_and_set_aside(tmp_path, text):
    file = tmp_path / "progress.json"
    for number in (1, 2):
        file.write_text(text)
        progress = Progress(file)
        assert f"progress.json.broken-{number}" in progress.problem and progress.answers("q") == {}
        assert (tmp_path / f"progress.json.broken-{number}").read_text() == text
        progress.answer("q", "a/1", "mild")
        assert Progress(file).answers("q") == {"a/1": "mild"}


def test_two_windows_lose_nothing(tmp_path):
    one, other = Progress(tmp_path / "p.json"), Progress(tmp_path / "p.json")
    one.answer("q", "a/1", "mild")
    other.answer("q", "a/2", "severe")
    one.tried("side", "1", True)
    assert Progress(tmp_path / "p.json").answers("q") == {"a/1": "mild", "a/2": "severe"}
    assert Progress(tmp_path / "p.json").solved("side")


def test_windows_that_answer_at_the_same_time_lose_no_answer(tmp_path):
    """Each window read the file before any other wrote; a window must read again, and alone, before it writes."""
    file, windows, answers = tmp_path / "p.json", 4, 12
    start = threading.Barrier(windows)
    opened = [Progress(file) for _ in range(windows)]

    def answer(number: int) -> None:
        start.wait()
        for case in range(answers):
            opened[number].answer("q", f"{number}/{case}", "mild")

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(windows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"{number}/{case}" for number in range(windows) for case in range(answers)}
    assert set(Progress(file).answers("q")) == wanted


def test_a_window_that_opened_earlier_keeps_what_another_wrote(tmp_path):
    early = Progress(tmp_path / "p.json")
    Progress(tmp_path / "p.json").answer("q", "a/1", "mild")
    early.answer("q", "a/2", "severe")  # the only write of this window: without reading again a/1 were gone
    assert json.loads((tmp_path / "p.json").read_text())["quizzes"]["q"] == [{"a/1": "mild", "a/2": "severe"}]


def test_progress_is_one_whichever_way_the_course_is_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    cells = nbformat.read(find_notebook("00_learn_staging"), as_version=4).cells
    assert read_schema(find_notebook("00_learn_staging"))["progress"].default is None
    assert any("Progress(progress or progress_file())" in cell.source for cell in cells)
    for folder in ("one", "other"):  # a notebook's own folder, and wherever `cirrnb learn` was typed
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Progress(progress_file()).tried("side", folder, True)
    assert Progress(progress_file()).tries("side") == ["one", "other"]


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "course").write_text("a file where the folder should be")
    progress = Progress(tmp_path / "course" / "p.json")
    progress.answer("q", "a/1", "mild")
    assert progress.answers("q") == {"a/1": "mild"} and progress.problem and "course/" not in progress.problem


# ---------------------------------------------------------------- exercises


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_answer_is_told_why(name):
    question = QUESTIONS[name]
    if isinstance(question, Choice):
        assert sum(option.right for option in question.options) == 1
        assert all(len(question.judge(str(number)).why) > 40 for number in range(len(question.options)))
        with pytest.raises(ValueError):
            question.judge(str(len(question.options)))
    else:
        assert not question.judge("many").right and not question.judge("0.1").right
        for slip, why in question.slips.items():
            assert question.judge(str(slip)).why == why != question.why


def test_the_numbers_of_the_accuracy_exercise_are_right():
    matrix = np.array([[7, 1, 0], [2, 3, 1], [0, 1, 5]])
    question = QUESTIONS["accuracy"]
    for typed in ("0.75", "0,75", "75 %", "75%"):
        assert question.judge(typed).right, typed
    for typed in ("15/20", " 3 / 4 "):
        assert question.judge(typed).right, typed
    for typed in ("75", "7500", "-0.2"):
        assert not question.judge(typed).right and question.judge(typed).why != question.hint, typed
    assert question.judge("many").asked_again and question.judge("1/0").asked_again
    assert not question.judge("0.1").asked_again
    slips = dict(question.slips)
    assert matrix.trace() / matrix.sum() == question.value
    assert abs((matrix.diagonal() / matrix.sum(axis=1)).mean() - 0.736) < 0.001 and 0.736 in slips
    near = sum(matrix[i, j] for i in range(3) for j in range(3) if abs(i - j) <= 1) / matrix.sum()
    assert near == 1.0, "no mistake by two stages"


def test_the_shares_that_the_ascites_exercise_names_are_the_simulators():
    random = np.random.default_rng(0)
    severity = random.standard_normal(100_000)
    seen = severity + READER_NOISE * random.standard_normal(severity.size)
    stage = np.searchsorted(BENCHMARK.thresholds, seen)
    shown = BENCHMARK.draw_channels(random, severity)[:, 5] > 0.6
    without = [1 - shown[stage == one].mean() for one in range(3)]
    assert without[0] > 0.95 and abs(without[1] - 0.75) < 0.03 and abs(without[2] - 0.2) < 0.03


def test_an_exercise_says_what_is_wrong_and_is_kept(tmp_path):
    progress = Progress(tmp_path / "p.json")
    exercise = Exercise(QUESTIONS["kappa"], progress)
    exercise.on_answer("0")
    assert exercise.reply["right"] is False and exercise.reply["again"] and "how far off" in exercise.reply["html"]
    exercise.on_answer("1")
    assert exercise.reply["right"] is True
    exercise.on_answer("77")
    assert progress.tries("kappa") == ["0", "1"]
    assert Exercise(QUESTIONS["kappa"], Progress(tmp_path / "p.json")).reply["right"] is True
    assert "<details>" in exercise.still and "four times" in exercise.still


# ---------------------------------------------------------------- the quiz


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[Path, list]:
    folder = tmp_path_factory.mktemp("course")
    people = cirrnb.simulate_cohort(folder / "c", patients=3, seed=142, scale="tiny", healthy=0, progress=False)
    ready = cirrnb.prepare(people, folder / "p", load_model("shipped").preparation, progress=False, workers=1)
    return folder / "c", ready.bags()


def sent(quiz: StagingQuiz) -> dict:
    assert quiz.canvas._case is not None
    return quiz.canvas._case[0]


def test_the_image_comes_before_the_answer_and_the_quiz_ends(cohort, tmp_path):
    root, bags = cohort
    progress = Progress(tmp_path / "p.json")
    quiz = StagingQuiz(bags, truth=SimulatedTruth(root), progress=progress)
    for number, bag in enumerate(bags):
        case = sent(quiz)
        assert case["signs"] == [] and all("evidence" not in pane["parts"] for pane in case["panes"])
        assert quiz.form.reply == {} and bag.subject not in json.dumps(case | quiz.form.task)
        assert quiz.form.task["title"] == f"Case {number + 1} of 3"
        quiz.form.on_answer("moderate")
        seen = [pane for pane in sent(quiz)["panes"] if "image" in pane["parts"]]
        assert sent(quiz)["signs"] == list(LABELS.values()) and all("evidence" in pane["parts"] for pane in seen)
        assert quiz.form.reply["right"] is (bag.stage == "moderate") and "The model" in quiz.form.reply["html"]
        quiz.form.on_answer("severe")
        assert progress.answers(quiz.name)[bag.subject] == "moderate"
        if number == 0:
            back = StagingQuiz(bags, truth=SimulatedTruth(root), progress=Progress(tmp_path / "p.json"))
            assert back.form.task["title"] == "Case 2 of 3"
        quiz.form.on_next()
    assert "cases right" in quiz.form.reply["html"] and "The model: true stage" in quiz.form.reply["html"]
    quiz.form.on_go(1)
    assert quiz.form.task["title"] == "Case 2 of 3" and quiz.form.reply["answer"] == "moderate"
    quiz.form.on_next()
    quiz.form.on_next()
    assert quiz.form.task["title"] == "Case 1 of 3" and len(progress.attempts(quiz.name)) == 2


def test_feedback_sets_what_the_model_saw_beside_what_was_planted_and_goes_to_the_best_slices(cohort, tmp_path):
    root, bags = cohort
    quiz = StagingQuiz(bags, truth=SimulatedTruth(root))
    quiz._model.wait()
    truth = SimulatedTruth(root)
    number, bag = next((n, b) for n, b in enumerate(bags) if len(truth.bears(b)) > 2)
    while quiz._shown < number:
        quiz.form.on_answer("mild")
        quiz.form.on_next()
    quiz.form.on_answer("mild")
    html = quiz.form.reply["html"]
    assert "the model saw" in html and "planted" in html and "cn-legend" in html
    evidence = {name: truth.evidence(scan) for name, scan in bag.scans.items()}
    heights = heights_of_signs(bag, evidence)
    for sign, height in heights.items():
        label = list(LABELS).index(sign) + 1
        assert f'data-height="{height:.2f}"' in html
        areas = {}
        for name, scan in bag.scans.items():
            for place, slices in enumerate(evidence[name]):
                areas[round(float(scan.positions[place] - bag.shifts[name]), 3), name] = (slices == label).sum()
        assert (round(height, 3)) in {place for (place, _), count in areas.items() if count == max(areas.values())}
    answer = quiz._model.known(bag.subject)
    assert answer is not None and answer.prediction is not None and answer.prediction.signs
    seen = {SIGN_OF[one.name] for one in answer.prediction.signs if one.degree != "absent"}
    assert seen and set(answer.heights) <= seen and answer.heights
    quiz.form.on_height(next(iter(heights.values())))
    assert quiz.canvas.position == next(iter(heights.values()))
    flows = truth.protocol(bag, "T2W").inflow[1] >= 0.2
    assert ("other veins are bright" in html) is flows and ("other veins are black" in html) is not flows


def test_feedback_does_not_wait_for_the_model(cohort):
    root, bags = cohort
    held = threading.Event()

    def late() -> list:
        held.wait(60)
        return bags

    quiz = StagingQuiz(bags, truth=SimulatedTruth(root), model_cases=late)
    quiz.form.on_answer("mild")
    assert "still looking" in quiz.form.reply["html"]
    held.set()
    quiz._model.wait()
    assert "still looking" not in quiz.form.reply["html"] and "the model saw" in quiz.form.reply["html"]


def test_half_of_the_simulated_patients_have_bright_veins_on_t2w():
    """What the lesson says of them, and shows in a figure of its own."""
    random = np.random.default_rng(0)
    drawn = [draw_protocol(random, "T2W", "3 T") for _ in range(2000)]
    assert abs(np.mean([one.inflow[1] >= BRIGHT for one in drawn]) - 0.5) < 0.05
    assert abs(np.mean([one.fat_kept < BRIGHT for one in drawn]) - 0.3) < 0.05
    assert vessels_on_t2w().html.count("<img") == 3


# ---------------------------------------------------------------- what a page waits for


def test_the_lesson_needs_no_simulation_no_network_and_no_plotly():
    """So that the page is there at once; its pictures come with the package, of the simulator's present version."""
    assert described()["version"] == SIMULATOR_VERSION
    modules = ["figures", "form", "patients", "progress", "questions", "wrong_before"]
    script = f"""
import sys
from cirrnb.course import {", ".join(modules)}
figures.sign_switch("ascites"), figures.named_organs(), figures.riddle(), figures.vessels_on_t2w()
figures.scanner_figure(), wrong_before.healthy_figure()
print([one for one in ("torch", "plotly", "pandas", "cirrnb.simulation.body") if one in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_slice_to_be_judged_stands_nowhere_else_in_the_lesson():
    folder = Path(lesson.__file__).parent / "pictures"

    def small(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path).convert("L").resize((64, 48)), float)

    beside = [small(path) for path in folder.glob("vessels-*.webp")]
    assert len(beside) == 3 and min(np.abs(small(folder / "riddle.webp") - one).mean() for one in beside) > 10


@pytest.mark.slow
def test_the_pictures_of_the_lesson_are_what_the_simulator_draws(tmp_path):
    draw(tmp_path)
    for path in tmp_path.glob("*.webp"):
        kept = Path(lesson.__file__).parent / "pictures" / path.name
        ours, theirs = (np.asarray(Image.open(one).convert("L"), float) for one in (kept, path))
        assert np.abs(ours - theirs).mean() < 1, path.name


def test_the_page_does_not_wait_for_the_patients_of_the_quiz(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun, released = threading.Event(), threading.Event()

    def slow(*given, **asked):
        begun.set()
        released.wait(60)
        raise InputError("cohort", "nothing", "a cohort", "Try again.")

    monkeypatch.setattr(cirrnb, "simulate_cohort", slow)
    patients = QuizPatients(tmp_path / "c", cases=3, scale="tiny", wait=False)
    place = patients.quiz()
    assert isinstance(place, QuizPlace) and "role" in place.children[0].value and not patients.ready
    assert begun.wait(30)
    released.set()
    for _ in range(200):
        if patients.problem:
            break
        time.sleep(0.05)
    assert "nothing" in place.children[0].value


def test_a_reload_does_not_wait_for_the_quiz_either(cohort, tmp_path, monkeypatch):
    """The patients are there at once, but the quiz itself takes seconds to load."""
    root, _ = cohort
    released = threading.Event()
    monkeypatch.setattr(QuizPatients, "_quiz", lambda self, progress: released.wait(60) and HTML("the quiz"))
    patients = QuizPatients(root, cases=3, seed=142, scale="tiny", prepared=tmp_path / "p", wait=False)
    assert patients._ready.wait(60)
    place = patients.quiz()
    assert "role" in place.children[0].value
    released.set()
    for _ in range(200):
        if place.children[0].value == "the quiz":
            break
        time.sleep(0.05)
    assert place.children[0].value == "the quiz"


def test_a_drawn_figure_is_kept(cohort, tmp_path, monkeypatch):
    root, _ = cohort
    monkeypatch.chdir(tmp_path)
    drawn = []

    def figure(ready):
        drawn.append(ready)
        return two_scanners(ready.bags[0], ready.truth)

    for _ in range(2):
        patients = QuizPatients(root, cases=3, seed=142, scale="tiny", prepared=tmp_path / "p")
        html = patients.figure("two-scanners", figure).html
    assert len(drawn) == 1 and html.count("<img") == 2 * len(patients.bags[0].scans)
    assert "minmax(min(300px, 100%)" in html  # one below the other where the page is narrow


def test_the_server_serves_before_anybody_is_simulated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cirrnb, "simulate_cohort", lambda *given, **asked: pytest.fail("simulated"))
    asked = []
    monkeypatch.setattr(serving, "serve", lambda source, values, name, **how: asked.append(values) or 0)
    told: list[str] = []
    assert serving.learn({"cases": 3}, tell=told.append) == 0
    assert asked[0]["wait"] is False and asked[0]["cases"] == 3 and told


def test_starting_over_keeps_the_answers_so_far(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(serving, "learn", lambda parameters, **how: 0)
    shown = CliRunner().invoke(app, ["learn", "--help"]).output
    assert "course.json" in shown and "XDG_DATA_HOME" in shown
    assert "no answers yet" in CliRunner().invoke(app, ["learn", "--start-over"]).output
    for number in (1, 2):
        Progress(progress_file()).tried("side", "0", True)
        before = progress_file().read_bytes()
        told = CliRunner().invoke(app, ["learn", "--start-over"])
        kept = progress_file().with_name(f"course.json.before-{number}")
        assert told.exit_code == 0 and kept.name in told.output.replace("\n", "") and kept.read_bytes() == before
        assert not Progress(progress_file()).solved("side")


def test_the_course_says_where_answers_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert "$XDG_DATA_HOME/cirrnb/course.json" in Progress(progress_file())._repr_html_()
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert "~/.local/share/cirrnb/course.json" in Progress(progress_file())._repr_html_()
    assert str(tmp_path) not in Progress(tmp_path.parent / "mine.json")._repr_html_(), "no path of the machine"


@pytest.mark.parametrize(
    ("strength", "word"), [(0.06, "too faint to see"), (0.15, "slight"), (0.0, "absent"), (1, "strong")]
)
def test_a_sign_that_cannot_be_seen_is_not_called_slight(strength, word):
    assert feedback._called(strength) == word


def test_nobody_to_stage_is_refused(cohort):
    with pytest.raises(InputError, match="cases"):
        StagingQuiz([], truth=SimulatedTruth(cohort[0]))


def test_a_result_counts_both_on_the_same_cases():
    truth = {f"a/{i}": CIRRHOSIS[i % 3] for i in range(20)}
    student = {one: ("mild" if i in (1, 2) else stage) for i, (one, stage) in enumerate(truth.items())}
    model = {one: "mild" for one in truth if one != "a/0"}
    told = result_html(truth, student, model, resamples=200)
    assert "You staged 17 of 19 cases right" in told and "on these 19 cases" in told
    predicted = [CIRRHOSIS.index(student[one]) for one in model]
    matrix = confusion_matrix([CIRRHOSIS.index(truth[one]) for one in model], predicted)
    assert f">{matrix[1, 1]:.0f}</td>" in told
    assert "more than these cases would show by chance" in told
    assert "Case 2: you said mild, it is moderate" in told
    assert "Too few cases" in result_html(truth, {"a/1": "mild"}, model)


def test_signs_tell_the_stage_as_well_as_the_ceiling_says():
    random = np.random.default_rng(3)
    drawn = [BENCHMARK.draw_latent(random) for _ in range(400)]
    told = [stages_told_by_signs(one) for one in drawn]
    assert all(abs(sum(one.values()) - 1) < 1e-6 for one in told)
    right = np.mean([max(one, key=one.get) == latent.stage for one, latent in zip(told, drawn, strict=True)])
    assert abs(right - 0.864) < 3 * np.sqrt(0.864 * 0.136 / 400)
    assert tuple(strengths(drawn[0])) == SIGNS == tuple(LABELS)


def test_the_viewer_outlines_in_the_courses_colours():
    assert str(list(SIGN_COLOURS))[1:-1].replace("'", '"') in SliceCanvas._esm


def test_the_recorded_swap_shows_the_shortcut():
    steps: dict[str, list[float]] = {}
    for row in recorded():
        steps.setdefault(row["model"], []).append(float(row["B"]) - float(row["A"]))
    step = {model: np.mean(values) for model, values in steps.items()}
    assert scanner_figure().html.count("<svg") == len(step)
    assert step["trained where the scanner tells the stage"] > 1 > abs(step["without the shortcut"])


def test_the_axis_of_the_swap_has_a_name():
    html = scanner_figure().html
    assert html.count(f">{AXIS}</text>") == len({row["model"] for row in recorded()})


def test_the_same_scanner_gives_the_same_scan_and_another_does_not(cohort):
    root, bags = cohort
    truth = SimulatedTruth(root)
    own = truth.scanner(bags[0])
    same, other = truth.on_scanner(bags[0], own), truth.on_scanner(bags[0], "B" if own == "A" else "A")
    for name, scan in bags[0].scans.items():
        assert np.abs(same[name] - np.asarray(scan.image, dtype=np.float32)).max() < 0.02
        assert np.abs(other[name] - same[name]).mean() > 0.01
    with pytest.raises(InputError, match="scanner"):
        truth.on_scanner(bags[0], "C")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    progress = Progress(tmp_path / "p.json")
    progress.tried("side", "1", True)
    assert "cannot be written" in progress.problem and progress.solved("side")


# ---------------------------------------------------------------- why it was wrong before


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
