"""The course's form in Debian's chromium with a made-up kernel: focus, keys, and what is said to an empty field."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest
from offline_browser import Opened, opened

from cirrnb.course.figures import named_organs
from cirrnb.course.form import AnswerForm

pytestmark = pytest.mark.browser

KERNEL = """
window.sent = [];
const state = {task: {}, reply: {}}, heard = {};
window.model = {
  get: (name) => state[name],
  on: (kind, act) => { (heard[kind] = heard[kind] || []).push(act); },
  off: () => {},
  send: (content) => window.sent.push(content),
};
window.put = (name, value) => { state[name] = value; for (const act of heard[`change:${name}`] || []) act(); };
"""
CASE = {"title": "Case", "prompt": "", "choices": [{"value": one, "words": one} for one in ("mild", "moderate")]}
NUMBER = {"title": "A number", "prompt": "", "choices": [], "unit": "(0 to 1)"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Generator[Opened]:
    file = tmp_path_factory.mktemp("form") / "form.html"
    script = str(AnswerForm._esm).replace("export default", "const form =")
    file.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><body><div class="cn-quiz">'
        f'<div class="cn-pane" tabindex="0">pictures</div><div id="form"></div></div><script>{KERNEL}{script}\n'
        "form.render({ model: window.model, el: document.getElementById('form') });</script>",
        encoding="utf-8",
    )
    with opened(file) as found:
        yield found


@pytest.fixture
def page(browser: Opened) -> Any:
    browser.page.evaluate("() => { window.put('reply', {}); window.sent.length = 0; document.activeElement.blur(); }")
    return browser.page


def put(page: Any, name: str, value: dict[str, Any]) -> None:
    page.evaluate(f"() => window.put({json.dumps(name)}, {json.dumps(value)})")


def test_the_next_case_is_read_and_answered_with_the_same_keys(page: Any) -> None:
    """The kernel empties the reply before it asks, and focus must outlive that."""
    put(page, "task", CASE)
    put(page, "reply", {"html": "<p>Right.</p>", "right": True, "onward": "Next case"})
    page.locator(".cn-onward").click()
    put(page, "reply", {})
    put(page, "task", {**CASE, "title": "Case 2"})
    page.wait_for_function("() => document.activeElement.className === 'cn-pane'")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    assert page.evaluate("() => window.sent") == [{"kind": "next"}, {"kind": "answer", "value": "moderate"}]


def test_the_next_case_is_in_sight_after_a_long_answer(page: Any) -> None:
    put(page, "task", CASE)
    put(page, "reply", {"html": '<p style="height: 4000px">Long.</p>', "right": True, "onward": "Next case"})
    page.evaluate("() => { document.body.style.paddingBottom = '4000px'; }")
    page.locator(".cn-onward").click()
    assert page.evaluate("() => scrollY") > 1000
    put(page, "reply", {})
    put(page, "task", {**CASE, "title": "Case 2"})
    page.wait_for_function("() => document.querySelector('.cn-pane').getBoundingClientRect().top >= 0", timeout=5000)
    page.evaluate("() => { document.body.style.paddingBottom = ''; }")


def test_an_empty_field_is_asked_for_a_number_and_no_verdict_stands_beside_that(page: Any) -> None:
    put(page, "task", NUMBER)
    put(page, "reply", {"html": "<p>Right.</p>", "right": True, "again": True})
    page.locator("input[type=text]").fill("")
    page.keyboard.press("Enter")
    assert "number" in page.locator(".cn-slip").inner_text()
    assert not page.get_by_text("Right.").is_visible() and page.evaluate("() => window.sent") == []


def test_keys_answer_before_the_first_click(page: Any) -> None:
    put(page, "task", CASE)
    assert page.evaluate("() => document.activeElement === document.body")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    assert page.evaluate("() => window.sent") == [{"kind": "answer", "value": "moderate"}]
    put(page, "reply", {"html": "<p>Right.</p>", "right": True, "onward": "Next case"})
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("n")
    assert page.evaluate("() => window.sent.at(-1)") == {"kind": "next"}
    page.evaluate("() => { document.body.style.paddingTop = '4000px'; scrollTo(0, 0); document.activeElement.blur(); }")
    put(page, "reply", {})
    put(page, "task", {**CASE, "title": "Another"})
    page.wait_for_timeout(500)  # a new question may move into sight by itself
    page.evaluate("() => { scrollTo(0, 0); document.activeElement.blur(); }")
    page.keyboard.press("1")
    assert not page.get_by_label("mild").is_checked(), "a question out of sight"
    page.evaluate("() => { document.body.style.paddingTop = ''; }")


def test_a_kernel_that_was_busy_is_no_longer_called_so(browser: Opened) -> None:
    page = browser.page.context.new_page()
    page.clock.install()
    page.goto(browser.page.url)
    page.clock.run_for(100)
    put(page, "task", CASE)
    page.get_by_label("mild").check()
    page.keyboard.press("Enter")
    page.clock.run_for(12_000)
    said = page.locator(".cn-absence")
    assert "busy" in said.inner_text() and "does not answer" not in said.inner_text()
    page.clock.run_for(50_000)
    assert "does not answer" in said.inner_text()
    page.evaluate("() => { for (const act of heard['msg:custom']) act({ kind: 'received' }); }")
    assert said.is_hidden()
    page.close()


def test_a_sign_s_button_asks_for_its_slice(page: Any) -> None:
    put(page, "task", CASE)
    put(page, "reply", {"html": '<button type="button" data-height="-12.50">−12 mm</button>', "right": False})
    page.get_by_role("button", name="−12 mm").click()
    assert page.evaluate("() => window.sent") == [{"kind": "height", "height": -12.5}]


COVERED = """() => [...document.querySelectorAll('.cn-panel')].flatMap((panel) => {
    const boxes = [...panel.querySelectorAll('.cn-organ')].map((one) => [one.textContent, one.getBoundingClientRect()]);
    return boxes.flatMap(([name, a], i) => boxes.slice(i + 1).filter(([, b]) => a.left < b.right - 1
        && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
        .map(([other]) => `${name} on ${other}`));
})"""


def test_no_organ_s_name_covers_another_on_a_phone(browser: Opened, tmp_path) -> None:
    file = tmp_path / "organs.html"
    file.write_text(f'<!doctype html><meta charset="utf-8"><body>{named_organs().html}', encoding="utf-8")
    page = browser.page.context.browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(file.as_uri())
    page.wait_for_function("() => [...document.images].every((one) => one.complete && one.naturalWidth)")
    assert page.evaluate(COVERED) == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.close()
