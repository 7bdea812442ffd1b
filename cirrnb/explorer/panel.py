"""The explorer's controls, pictures and charts, and the preference that a reader keeps."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import ipywidgets as widgets

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.json_file import read_object
from cirrnb.explanation.methods import method_named, methods
from cirrnb.explanation.score import targets
from cirrnb.explorer.slice_chart import SliceChart
from cirrnb.model.stager import Stager
from cirrnb.view import sentences
from cirrnb.view.documentation import linked
from cirrnb.view.glossary import glossary_details
from cirrnb.view.page import RESEARCH_ONLY, asset
from cirrnb.viewer.widget import SliceCanvas

ANSWER_FIRST = "answer_first"


def preferences_file() -> Path:
    """Where choices are kept: the user's own configuration folder (XDG_CONFIG_HOME, else ~/.config)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "cirrnb" / "explorer.json"


def answer_first() -> bool:
    """True if this reader wants the answer with the images; False, the default, asks to look first.

    Seeing a machine's answer first makes readers agree with it (automation bias: Dratsch et al., Radiology
    2023;307:e222176).
    """
    try:
        return read_object(preferences_file(), "preferences", "Delete it.")[ANSWER_FIRST] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remember_answer_first(wanted: bool) -> None:
    """Keep the choice; where it cannot be kept it holds until the explorer is closed."""
    path = preferences_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps({ANSWER_FIRST: bool(wanted)}))
    except OSError:
        pass


FIRST = "integrated_gradients"
OFFERED = (FIRST, "grad_cam", "attention", "gradient_shap", "smooth_saliency", "occlusion", "deep_lift")
"""Maps in the order of the menu; others that the registry knows come after them."""
OWN_MAP = "sign_map"
"""The map that only models with maps of signs have, and only of a sign."""
HINT = "Look first. <b>Show the answer</b> brings the stage, a map of what drove it, and what each slice adds."

OWN = "cn-own-scans"
"""Id in the page of the place where own scans are dropped."""
GAPS = "Simulated patients: their numbers have gaps, as in the published cohort. Nobody is missing."


class Panel(widgets.VBox):
    """The explorer's controls and pictures, without anything that happens when they are used."""

    def __init__(
        self,
        subjects: Sequence[str],
        stager: Stager,
        *,
        subject: str,
        method: str,
        target: str,
        go: Callable[[float], None],
    ):
        """`subject`, `method` and `target` are chosen at first; `go` is called with the height
        of a bar of the chart that was clicked."""
        self.case = widgets.Dropdown(options=list(subjects), value=subject, description="Patient")
        self.gaps = widgets.HTML(f"<p class='cn-small cn-gaps'>{GAPS}</p>")
        self.show_gaps(False)
        self.reveal = widgets.ToggleButton(value=False, description="Show the answer", icon="eye")
        self.measure = widgets.ToggleButton(value=False, description="Measurements", icon="list")
        self.whole_field = widgets.ToggleButton(value=False, description="Full field", icon="expand")
        self.whole_field.tooltip = "The whole field of view at the acquired resolution, not what the model sees"
        self.measured = widgets.HTML("")
        self.measured.add_class("cn-words")
        self.always = widgets.Checkbox(value=False, description="always show it at once", indent=False)
        self.message = widgets.HTML("")
        self.message.add_class("cn-message")
        self.standing = widgets.HTML("")
        self.standing.add_class("cn-message")
        self.canvas = SliceCanvas()
        self.answer, self.why, self.faithfulness = widgets.HTML(""), widgets.HTML(""), widgets.HTML("")
        self._build_choices(stager, method, target)
        self.cancel = widgets.Button(description="Cancel", icon="stop")
        self.bar = widgets.FloatProgress(value=0.0, min=0.0, max=1.0, layout={"width": "120px"})
        self.caveat = widgets.HTML("")
        self.caveat.add_class("cn-caveat")
        self.doing, self._task, self._began = widgets.Label(""), "", 0.0
        progress = [self.doing, self.bar, self.cancel]
        # Two places for one progress: it stands beside the button that began the work.
        self.waiting, self.testing = widgets.HBox(progress, layout=_row()), widgets.HBox(progress, layout=_row())
        self._beside = self.waiting
        self.brief, self.hint = widgets.HTML(""), widgets.HTML(f"<p>{HINT}</p>")
        self.brief.add_class("cn-brief")
        self.chart = SliceChart(go)
        self.behind = self._behind()
        self.own, self.outline_tools = widgets.VBox(), widgets.VBox()
        self._answered, self._explained = False, False  # whether the answer is asked for, and whether it is there
        self.show_progress(None)
        self.show_answer(False)
        self.show_measured("")
        # Brief answer and progress stand in the row of the button: what lies below does not jump when they come.
        link = widgets.HTML(f"<a class='cn-to-own' href='#{OWN}'>Open my own scan</a>")
        top = widgets.HBox(
            [self.case, self.reveal, self.always, self.measure, self.whole_field, link, self.brief, self.waiting],
            layout=_row(),
        )
        top.add_class("cn-top")
        style = widgets.HTML(f"<style>{asset('cirrnb.explorer', 'explorer.css')}</style>")
        places = {
            "pictures": self.canvas,
            "hint": self.hint,
            **self.behind,
            "outline": self.outline_tools,
            "own": self.own,
        }
        for name, widget in places.items():
            widget.add_class(f"cn-at-{name}")
        within = widgets.GridBox(list(places.values()))
        within.add_class("cn-within")
        words = widgets.HTML(glossary_details())
        words.add_class("cn-words")
        super().__init__(
            [style, self.caveat, top, self.gaps, self.standing, self.message, self.measured, within, words]
        )
        self.add_class("cn-explorer")

    def _build_choices(self, stager: Stager, method: str, target: str) -> None:
        known = {method_named(name).label: name for name in OFFERED if name in methods()}
        known |= {how.label: name for name, how in methods().items() if name not in known.values()}
        if not stager.settings.maps:
            known = {label: name for label, name in known.items() if name != OWN_MAP}
        self.method = widgets.Dropdown(options=list(known.items()), value=method, description="Map")
        self._stages = stager.stages
        wide = {"width": "400px"}
        scores = self._scores(targets(stager))
        self.target = widgets.Dropdown(options=scores, value=target, description="Speaks for", layout=wide)
        numbers = [(f"{scale}{' (finest)' * (scale == 1)}", scale) for scale in range(1, stager.scales + 1)]
        self.scale = widgets.Dropdown(options=[("all", "all"), *numbers], value="all", description="Scale")
        asks = "Is it better than control maps, which do not use the model?"
        self.test = widgets.Button(description="Test this map", icon="check", tooltip=asks)
        self.export = widgets.Button(description="Map as NIfTI", icon="download")

    def _behind(self) -> dict[str, widgets.Box]:
        """What is hidden until the answer is asked for, by its place in the style sheet."""
        choices = [self.method, self.target, self.scale, self.test, self.testing, self.export]
        tools = widgets.VBox([widgets.HBox(choices, layout=_row()), self.faithfulness])
        self.faithfulness.add_class("cn-words")
        self.changes = widgets.VBox()
        answer = widgets.VBox([self.answer, self.changes])
        for words in (answer, self.why):
            words.add_class("cn-words")
        self.show_map(False)
        return {"tools": tools, "answer": answer, "reasons": widgets.VBox([self.why, self.chart])}

    def _scores(self, known: Sequence[str]) -> list[tuple[str, str]]:
        return [(sentences.target_words(target, self._stages), target) for target in known]

    def offer_scores(self, known: Sequence[str]) -> None:
        """The scores that the patient on show has; where the chosen one is none of them, the first is chosen."""
        options = self._scores(known)
        if list(self.target.options) != options:
            chosen = self.target.value
            self.target.options = options  # which chooses the first
            self.target.value = chosen if chosen in known else known[0]

    def show_caveat(self, about: str) -> None:
        """What this is not, and what the patient or the model is; on a phone the first alone stays in sight."""
        self.caveat.value = f"<span>{RESEARCH_ONLY}</span> <span>{linked(escape(about))}</span>"

    def show_gaps(self, simulated: bool) -> None:
        """Say why numbers of simulated patients have gaps, where they are listed."""
        self.gaps.layout.display = "" if simulated else "none"

    def show_answer(self, shown: bool) -> None:
        """Show what stands behind the button, or hide it."""
        self._answered = shown
        for name, widget in self.behind.items():
            widget.layout.display = "" if shown and (self._explained or name != "tools") else "none"
        self.hint.layout.display = "none" if shown else ""
        self.brief.layout.display = "" if shown else "none"
        self.reveal.description = "Hide the answer" if shown else "Show the answer"
        self.reveal.icon = "eye-slash" if shown else "eye"

    def show_tools(self, there: bool) -> None:
        """Offer maps with the answer, or not while there is no answer."""
        self._explained = there
        self.show_answer(self._answered)

    def show_measured(self, html: str) -> None:
        """Measurements above the pictures, where they are seen at once; nothing takes them away."""
        self.measured.value = html
        self.measured.layout.display = "" if html else "none"

    def show_map(self, there: bool) -> None:
        """Let the map be tested and taken along; or not, and without the chart that belongs to it."""
        self.test.disabled = self.export.disabled = not there
        if not there:
            self.chart.clear()

    def show_task(self, what: str, *, testing: bool = False) -> None:
        """What the work is that comes next, beside its progress; a test of the map has it beside its own button."""
        self._task, self._began = what, time.monotonic()
        self._beside = self.testing if testing else self.waiting
        self.doing.value = what

    def show_progress(self, share: float | None) -> None:
        """How far the work is, 0 to 1; None where nothing is under way."""
        for place in (self.waiting, self.testing):
            place.layout.display = "none" if share is None or place is not self._beside else ""
        self.bar.value = share or 0.0
        if left := time_left(time.monotonic() - self._began, share or 0.0):
            self.doing.value = f"{self._task}, {left}"

    def show_scales(self, wanted: bool) -> None:
        """Whether the map on show has scales to choose from."""
        self.scale.disabled = not wanted

    def say(self, message: str, wrong: bool = False) -> None:
        """A line of text above the pictures, whose mentions of the documentation are links; an empty one removes it."""
        self.message.value = _line(message, wrong)

    def show_standing(self, words: str, wrong: bool = False) -> None:
        """What holds of the patient on show whatever is asked: who drew the liver, or why there is no answer."""
        self.standing.value = _line(words, wrong)
        self.standing.layout.display = "" if words else "none"


def _line(message: str, wrong: bool) -> str:
    role, kind = ("alert", "cn-wrong") if wrong else ("status", "cn-info")
    return f'<div role="{role}" class="{kind}">{linked(escape(message))}</div>' if message else ""


def time_left(elapsed: float, share: float) -> str:
    """How long work goes on that has done a share (0 to 1) of it in so many seconds; "" while that is not known."""
    if elapsed < 2 or not 0.02 <= share < 1:
        return ""
    left = elapsed * (1 - share) / share
    return f"about {max(5, 5 * round(left / 5)):.0f} s left" if left < 90 else f"about {round(left / 60)} min left"


# A layout is a widget of its own: two boxes with one layout are hidden together.
def _row() -> widgets.Layout:
    return widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="4px 12px")
