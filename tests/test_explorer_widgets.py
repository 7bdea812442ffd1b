"""The explorer's widgets in Debian's chromium with a made-up kernel: slow starts, keys, the chart, narrow pages."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest
from offline_browser import Opened, opened

from cirrnb.explorer.slice_chart import SliceChart
from cirrnb.measure.measurement import Measurement
from cirrnb.view.measurements import folded_measurements_html
from cirrnb.view.page import asset
from cirrnb.viewer.widget import SliceCanvas

pytestmark = pytest.mark.browser

KERNEL = """
window.makeModel = () => {
  const state = {}, heard = {}, sent = [];
  return {
    sent, get: (name) => state[name], send: (content) => sent.push(content), off: () => {},
    on: (kind, act) => { (heard[kind] = heard[kind] || []).push(act); },
    put: (name, value) => { state[name] = value; for (const act of heard[`change:${name}`] || []) act(); },
    tell: (content, buffers) => { for (const act of heard["msg:custom"] || []) act(content, buffers || []); },
  };
};
window.start = (widget, place) => {
  const model = makeModel(), el = document.getElementById(place);
  if (window.ended) window.ended();
  el.replaceChildren();
  model.put("shown", {});
  model.put("position", null);
  window.ended = widget.render({ model, el });
  return model;
};
window.openCase = (model, names, missing = [], drawnByProgram = null) => {
  const [slices, rows, columns] = [9, 20, 24];
  const there = { slices, rows, columns, spacing: [5, 4, 4], range: [0, 1], window: [0, 1], shift: 0,
    positions: [...Array(slices).keys()].map((i) => 5 * i),
    affine: [[0, 0, 4, 0], [0, 4, 0, 0], [5, 0, 0, 0], [0, 0, 0, 1]] };
  const panes = [...missing.map((name) => ({ name, reason: "no such scan" })),
    ...names.map((name) => ({ ...there, name, drawn_by_program: drawnByProgram,
      parts: drawnByProgram === null ? { image: 0 } : { image: 0, mask: 0 } }))];
  const content = { kind: "case", key: 1, title: "Patient x", simulated: true, signs: [], panes, start: 20 };
  model.tell(content, [new DataView(new Uint8Array(slices * rows * columns).fill(90).buffer)]);
};
"""


# As ipywidgets nests and styles its boxes.
_FIELD = '<div class="widget-inline-hbox widget-text" style="flex: 0 0 auto; height: 32px">a sign <input></div>'
WHAT_IF = (
    "<style>.widget-box { display: flex; overflow: auto; } .widget-vbox { flex-direction: column; }</style>"
    '<div class="widget-box widget-vbox cn-at-answer cn-words"><div class="widget-html">The answer</div>'
    '<div class="widget-box widget-vbox"><div class="widget-box widget-vbox cn-what-if"><h4>What if?</h4>'
    f'<div class="widget-box widget-vbox">{12 * _FIELD}</div>'
    '<button class="widget-button">As the model saw them</button>'
    '<div class="widget-html"><div style="height: 200px">The stages</div></div></div></div></div>'
)


def script(name: str, source: str) -> str:
    return f"(() => {{ {source.replace('export default', f'window.{name} =')} }})();"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Generator[Opened]:
    file = tmp_path_factory.mktemp("widgets") / "page.html"
    sheets = (str(SliceCanvas._css), str(SliceChart._css), asset("cirrnb.explorer", "explorer.css"))
    measured = [Measurement("liver volume", 1400.0, "mL", "", "", "825 to 1895 mL (1248 adults; a journal)")]
    measured += [Measurement(f"organ {number} volume", 84.3, "mL", "look at its outline") for number in range(10)]
    caveat = (
        "<span>Research and education only. Not a medical device, no diagnosis.</span> <span>Simulated cohort: nothing "
        "here means anything for a patient.</span>"
    )
    file.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"{''.join(f'<style>{css}</style>' for css in sheets)}"
        '<body style="margin: 8px"><div class="cn-explorer">'
        f'<div class="widget-html cn-caveat"><div class="widget-html-content">{caveat}</div></div>'
        '<button>A button</button><input type="text">'
        '<div class="widget-html cn-words"><div class="widget-html-content">'
        f'{folded_measurements_html({"T1W": measured})}</div></div><div id="canvas"></div><div id="chart"></div>'
        f'<div style="height: 3000px"></div>{WHAT_IF}</div>'
        f"<script>{KERNEL}{script('canvas', str(SliceCanvas._esm))}{script('chart', str(SliceChart._esm))}</script>",
        encoding="utf-8",
    )
    with opened(file, 1280) as found:
        yield found


@pytest.fixture
def page(browser: Opened) -> Generator[Any]:
    browser.page.set_viewport_size({"width": 1280, "height": 800})
    browser.page.evaluate("() => { scrollTo(0, 0); document.activeElement.blur(); }")
    yield browser.page
    assert browser.complaints == []


def position(page: Any) -> float:
    return page.evaluate("() => document.querySelector('.cn-viewer').viewer.state.position")


def test_a_slow_start_is_no_absence_and_an_absence_is_called_so(browser: Opened) -> None:
    page = browser.page.context.new_page()
    page.clock.install()
    page.goto(browser.page.url)
    page.evaluate("() => { window.model = start(window.canvas, 'canvas'); }")
    notice = page.locator(".cn-notice")
    page.clock.run_for(1000)
    assert notice.is_hidden()
    page.clock.run_for(29_000)
    assert "Starting" in notice.inner_text() and "(30 s)" in notice.inner_text()
    page.clock.run_for(170_000)
    assert "does not answer" in notice.inner_text()
    page.evaluate("() => model.tell({ kind: 'pong' })")
    assert notice.is_hidden()
    page.keyboard.press("Shift")  # which is told to the kernel
    page.clock.run_for(5_000)
    assert notice.is_hidden()
    page.clock.run_for(15_000)
    assert "busy" in notice.inner_text() and "does not answer" not in notice.inner_text()
    page.clock.run_for(40_000)
    assert "does not answer" in notice.inner_text()
    page.close()


def test_keys_work_before_the_first_click_where_the_pictures_are_in_sight(page: Any) -> None:
    page.evaluate("() => { window.model = start(window.canvas, 'canvas'); openCase(model, ['T1W']); }")
    page.wait_for_function("() => document.querySelector('.cn-pane canvas').width > 300")
    before = position(page)
    page.keyboard.press("ArrowUp")
    assert position(page) == before + 5
    page.get_by_role("button", name="A button").focus()
    page.keyboard.press("ArrowUp")
    assert position(page) == before + 10
    page.locator("input[type=text]").first.focus()
    page.keyboard.press("ArrowUp")
    assert position(page) == before + 10, "who types does not scroll"
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 2600); }")
    page.keyboard.press("ArrowUp")
    assert position(page) == before + 10, "out of sight"
    page.evaluate("() => scrollTo(0, 0)")
    page.keyboard.press("PageDown")
    assert position(page) == before + 10, "the page still scrolls"


def test_a_missing_sequence_leaves_nothing_empty(page: Any) -> None:
    page.evaluate("() => { window.model = start(window.canvas, 'canvas'); openCase(model, ['T2W'], ['T1W']); }")
    page.wait_for_function("() => document.querySelector('.cn-pane canvas').width > 300")
    assert page.locator(".cn-pane").count() == 1
    assert page.locator(".cn-missing").inner_text() == "T1W: no such scan"
    pictures, tools = (page.locator(one).bounding_box() for one in (".cn-panes", ".cn-tools"))
    assert tools["x"] > pictures["x"] + pictures["width"] and tools["y"] + tools["height"] < 800
    assert page.locator(".cn-pane canvas").bounding_box()["width"] > 0.85 * pictures["width"]
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.querySelector('.cn-pane canvas').getBoundingClientRect().width < 390")
    page.wait_for_timeout(500)  # the picture takes its new height in a later frame
    pictures, tools = (page.locator(one).bounding_box() for one in (".cn-panes", ".cn-tools"))
    assert tools["y"] >= pictures["y"] + pictures["height"] and pictures["width"] > 350


COLUMN = {"colour": "#33658a", "width": 5.0, "positions": [0.0, 5.0, 10.0], "shares": [-0.5, 0.2, 1.0]}
COLUMN |= {"errors": [0.1, 0.1, 0.0], "weights": [20.0, 30.0, 50.0]}


def show_chart(page: Any, names: list[str]) -> None:
    columns = [{**COLUMN, "name": name} for name in names]
    page.evaluate(f"() => model.put('shown', {json.dumps({'title': 'The title', 'columns': columns})})")


def test_the_chart_is_drawn_however_late_its_data_come_and_at_any_width(page: Any) -> None:
    hidden = "(how) => { document.getElementById('chart').style.display = how; }"
    page.evaluate("() => { window.model = start(window.chart, 'chart'); }")
    page.evaluate(hidden, "none")
    place = page.locator("#chart")
    show_chart(page, ["T1W", "T2W"])
    page.evaluate(hidden, "")
    place.locator(".cn-slice").first.wait_for()
    assert place.locator("svg").count() == 2 and place.locator(".cn-slice").count() == 12
    assert len({round(one.bounding_box()["y"]) for one in place.locator("svg").all()}) == 1
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.querySelector('#chart svg').getBoundingClientRect().right < 390")
    for one in [*place.locator("svg").all(), *place.locator("text").all()]:
        box = one.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, "nothing is cut off"
    show_chart(page, ["T2W"])
    assert place.locator("svg").count() == 1, "a sequence that is missing has no panel"
    page.evaluate("() => model.put('shown', {})")
    assert place.bounding_box()["height"] == 0, "nothing to show takes no space"


def test_the_chart_marks_the_height_and_a_click_goes_to_the_slice(page: Any) -> None:
    page.evaluate("() => { window.model = start(window.chart, 'chart'); }")
    show_chart(page, ["T1W"])
    line, bars = page.locator(".cn-here"), page.locator(".cn-slice")
    assert line.evaluate("one => one.style.display") == "none"
    page.evaluate("() => model.put('position', 5)")
    middle = bars.nth(1).bounding_box()
    there = middle["x"] + middle["width"] / 2 - page.locator("#chart svg").bounding_box()["x"]
    assert float(line.get_attribute("x1")) == pytest.approx(there, abs=1)
    bars.nth(2).click()
    assert page.evaluate("() => model.sent") == [{"kind": "go", "position": 10}]


def test_on_a_phone_one_line_of_the_warning_stays_and_measurements_are_a_line(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    both = page.locator(".cn-caveat").bounding_box()
    assert both["y"] >= 0 and both["height"] < 42
    assert page.locator(".cn-glance").bounding_box()["height"] < 90 and page.locator(".cn-measured").is_hidden()
    page.locator(".cn-all > summary").click()
    rows = page.locator(".cn-measured tbody tr")
    assert rows.count() == 11 and max(one.bounding_box()["height"] for one in rows.all()) < 60
    assert page.locator(".cn-notes li").count() == 2, "a note of ten rows stands once"
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.locator(".cn-all > summary").click()
    page.evaluate("() => scrollTo(0, 600)")
    stuck = page.locator(".cn-caveat").bounding_box()
    assert 0 < stuck["y"] + stuck["height"] <= 24
    assert page.locator(".cn-caveat span").first.bounding_box()["y"] >= -1, "what this is not stays"


@pytest.mark.parametrize("width", [1280, 390])
def test_all_fields_of_what_if_and_its_button_are_in_sight(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    block = page.locator(".cn-what-if")
    inside = block.evaluate(
        "(el) => [el, ...el.querySelectorAll('.widget-box')].map((one) => one.scrollHeight - one.clientHeight)"
    )
    assert max(inside) <= 1, "nothing is scrolled within"
    assert block.evaluate("(el) => el.parentElement.scrollHeight - el.parentElement.clientHeight") <= 1
    button = block.get_by_role("button").bounding_box()
    assert button["height"] > 15 and button["width"] < 250, "a button, and no bar across the column"
    fields = [one.bounding_box() for one in block.locator("input").all()]
    assert (
        len(fields) == 12 and fields[-1]["y"] + fields[-1]["height"] <= block.get_by_role("button").bounding_box()["y"]
    )


def test_the_caveat_wraps_where_a_line_is_too_short_for_it(page: Any) -> None:
    page.set_viewport_size({"width": 260, "height": 844})
    for one in page.locator(".cn-caveat span").all():
        assert one.evaluate("(el) => el.scrollWidth <= el.clientWidth + 1 && el.clientWidth <= 260")


@pytest.mark.parametrize("by_program", [True, False])
def test_with_the_answer_comes_the_edge_of_a_liver_that_a_program_drew(page: Any, by_program: bool) -> None:
    drawn = "true" if by_program else "false"
    page.evaluate(f"() => {{ window.model = start(window.canvas, 'canvas'); openCase(model, ['T1W'], [], {drawn}); }}")
    edge = page.locator('[data-set="liver"]')
    assert not edge.is_checked()
    page.evaluate("() => model.tell({ kind: 'outline', case: 1 })")
    assert edge.is_checked() is by_program


def test_links_in_words_look_like_links_despite_the_style_of_jupyterlab(page: Any) -> None:
    page.add_style_tag(content="a { text-decoration: unset; color: unset; }")
    script = """() => {
        const place = document.querySelector(".cn-words");
        place.insertAdjacentHTML("beforeend", "<p><a id='there' href='x'>documentation</a></p>");
        return getComputedStyle(document.getElementById("there")).textDecorationLine;
    }"""
    assert page.evaluate(script) == "underline"
