"""The course without a browser: progress that is never lost in silence, answers judged, the quiz and its result."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from ipywidgets import HTML
from PIL import Image

import cirrnb
from cirrnb.course import feedback, lesson
from cirrnb.course.drawing import draw
from cirrnb.course.feedback import BRIGHT, SIGN_OF, result_html
from cirrnb.course.figures import AXIS, recorded, scanner_figure, two_scanners, vessels_on_t2w
from cirrnb.course.form import Exercise
from cirrnb.course.lesson import described
from cirrnb.course.patients import QuizPatients, QuizPlace
from cirrnb.course.progress import Progress
from cirrnb.course.questions import QUESTIONS, Choice
from cirrnb.course.quiz import StagingQuiz, heights_of_signs
from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.evaluation.metrics import confusion_matrix
from cirrnb.explanation.simulated_truth import SimulatedTruth, stages_told_by_signs, strengths
from cirrnb.model.trained_model import load_model
from cirrnb.run import serving
from cirrnb.simulation.cohort import SIMULATOR_VERSION
from cirrnb.simulation.populations import BENCHMARK
from cirrnb.simulation.signal import draw_protocol
from cirrnb.simulation.signs import READER_NOISE, SIGNS
from cirrnb.view.palette import LABELS, SIGN_COLOURS
from cirrnb.viewer.widget import SliceCanvas

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
