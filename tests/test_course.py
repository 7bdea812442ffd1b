"""The course without a browser: progress that is never lost in silence, answers judged, the quiz and its result."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import cirrnb
from cirrnb.course.feedback import result_html
from cirrnb.course.figures import recorded
from cirrnb.course.form import Exercise
from cirrnb.course.progress import Progress
from cirrnb.course.questions import QUESTIONS, Choice
from cirrnb.course.quiz import StagingQuiz
from cirrnb.course.wrong_before import (
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
from cirrnb.simulation.populations import BENCHMARK
from cirrnb.simulation.signs import READER_NOISE, SIGNS
from cirrnb.view.theme import LABELS, SIGN_COLOURS
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
    assert "Case 2: mild for moderate" in told
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
    table = recorded()
    step = (table["B"] - table["A"]).groupby(table["model"]).mean()
    assert step["trained where the scanner tells the stage"] > 1 > abs(step["without the shortcut"])


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
    figure = healthy_figure()
    assert [len(trace.x) for trace in figure.data] == [12, 28]
