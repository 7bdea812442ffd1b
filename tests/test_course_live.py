"""The course as a student plays it, in Debian's chromium: by keyboard to the result, and again after a break."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from test_explorer_live import address, browser, free_port, page, serving

__all__ = ["browser", "page"]  # fixtures

pytestmark = pytest.mark.browser
CASES = 3
PATIENCE = 240_000  # ms; the course is a whole notebook, which runs before the page is there


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Generator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("course")
    port = free_port()
    command = [sys.executable, "-c", "from cirrnb.cli import main; main()", "learn", "--no-browser"]
    command += [f"--cases={CASES}", "--scale=tiny", f"--port={port}"]
    with serving(command, folder, f"http://127.0.0.1:{port}/voila/static/x"):
        yield address(folder), folder


def play(page: Any, url: str, folder: Path, pictures: Path | None = None) -> None:
    """From the first exercise to the result; `pictures` takes what a student sees on the way."""

    def look(name: str) -> None:
        if pictures is not None:
            page.wait_for_timeout(700)
            page.screenshot(path=pictures / f"{name}.png")

    page.goto(url, timeout=PATIENCE)
    page.locator(".cn-quiz .cn-pane canvas").first.wait_for(timeout=PATIENCE)
    assert page.title() == "cirrnb: the course"
    # A sign is taken away with the arrow keys alone.
    figure = page.locator("figure.cn-switch", has_text="Ascites")
    figure.locator("input[value=with]").focus()
    assert figure.locator("img.cn-with").first.is_visible()
    page.keyboard.press("ArrowRight")
    assert not figure.locator("img.cn-with").first.is_visible()
    assert figure.locator("img.cn-without").first.is_visible()
    figure.locator("input[value=outline]").check()
    look("sign")
    # An exercise says why an answer is wrong, and takes another.
    exercise = page.locator(".cn-form", has_text="Exercise 4")
    exercise.get_by_label("The patient is mild").check()
    page.keyboard.press("Enter")
    exercise.get_by_text("Three in four moderate patients have none either").wait_for(timeout=PATIENCE)
    exercise.get_by_label("It speaks against severe").check()
    page.keyboard.press("Enter")
    exercise.get_by_text("Right.").wait_for(timeout=PATIENCE)
    look("exercise")
    quiz = page.locator(".cn-quiz")
    for number in range(CASES):
        quiz.get_by_text(f"Case {number + 1} of {CASES}").wait_for(timeout=PATIENCE)
        pane = quiz.locator(".cn-pane[tabindex]").first
        if number == 0:
            pane.focus()  # from there on it stays at the pictures, case after case
        # The image before the answer: neither signs nor model are in the page yet.
        assert quiz.locator("[data-part=evidence]").is_hidden() and "The model" not in quiz.inner_text()
        page.keyboard.press("ArrowUp")
        if number == 0:
            pane.scroll_into_view_if_needed()
            look("case")
        page.keyboard.press("123"[number % 3])
        page.keyboard.press("Enter")
        quiz.locator(".cn-onward").wait_for(timeout=PATIENCE)
        page.wait_for_function("() => document.querySelector('.cn-quiz .cn-viewer').viewer.state.evidence")
        kept = json.loads((folder / "data" / "cirrnb" / "course.json").read_text())
        [attempts] = kept["quizzes"].values()
        assert len(attempts[-1]) == number + 1
        look(f"feedback-{number + 1}")
        page.keyboard.press("n")
    quiz.get_by_text("cases right").wait_for(timeout=PATIENCE)
    look("result")


@pytest.mark.slow
def test_a_student_plays_the_quiz_to_its_end_and_finds_it_kept(page, course):
    url, folder = course
    play(page, url, folder)
    quiz = page.locator(".cn-quiz")
    told = quiz.inner_text()
    for words in ("accuracy", "quadratic weighted kappa", "The model: true stage", "Case 3:"):
        assert words in told, words
    quiz.get_by_role("button", name="Case 2:").click()
    quiz.get_by_text(f"Case 2 of {CASES}").wait_for(timeout=PATIENCE)
    quiz.get_by_text("What this patient shows").or_(quiz.get_by_text("None of the seven")).first.wait_for(
        timeout=PATIENCE
    )
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, context={"include": [[".cn-quiz"], [".cn-form"], ["figure.cn-switch"]]})
    serious = [one for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
    assert serious == [], json.dumps(serious, indent=1)[:3000]
    outside = [one for one in page.context.asked if not one.startswith((url.split("?")[0], "data:", "blob:"))]
    assert outside == []
    # Another day: the result is there, and the exercise is solved.
    page.goto(url, timeout=PATIENCE)
    page.locator(".cn-quiz").get_by_text("cases right").wait_for(timeout=PATIENCE)
    page.locator(".cn-form", has_text="Exercise 4").get_by_text("Right.").wait_for(timeout=PATIENCE)
