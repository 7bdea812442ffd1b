"""What stands where in the explorer: the case, the pictures, and behind a button the answer with its map and chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets as widgets

from cirrnb.explanation.methods import method_named, methods
from cirrnb.explanation.score import targets
from cirrnb.explorer.charts import SliceChart
from cirrnb.model.stager import Stager
from cirrnb.view import sentences
from cirrnb.view.page import asset
from cirrnb.viewer.widget import SliceCanvas

FIRST = "integrated_gradients"
OFFERED = (FIRST, "grad_cam", "attention", "gradient_shap", "smooth_saliency", "occlusion", "deep_lift")
"""Maps in the order of the menu; others that the registry knows come after them."""
HINT = "Look first. <b>Show the answer</b> brings the stage, a map of what drove it, and what each slice adds."


class Panel(widgets.VBox):
    """The explorer's controls and pictures, without anything that happens when they are used."""

    def __init__(
        self,
        subjects: Sequence[str],
        stager: Stager,
        sequences: Sequence[str],
        *,
        subject: str,
        method: str,
        target: str,
        go: Callable[[float], None],
    ):
        """`sequences` are shown; `subject`, `method` and `target` are chosen at first; `go` is called with the height
        of a bar of the chart that was clicked."""
        self.case = widgets.Dropdown(options=list(subjects), value=subject, description="Patient")
        self.reveal = widgets.ToggleButton(value=False, description="Show the answer", icon="eye")
        self.always = widgets.Checkbox(value=False, description="always show it at once", indent=False)
        self.message = widgets.HTML("")
        self.message.add_class("cn-message")
        self.canvas = SliceCanvas()
        self.told, self.why, self.faithfulness = widgets.HTML(""), widgets.HTML(""), widgets.HTML("")
        self._build_choices(stager, method, target)
        self.cancel = widgets.Button(description="Cancel", icon="stop")
        self.bar = widgets.FloatProgress(value=0.0, min=0.0, max=1.0, layout={"width": "120px"})
        self.doing = widgets.Label("")
        self.waiting = widgets.HBox([self.doing, self.bar, self.cancel], layout=_row())
        self.brief, self.hint = widgets.HTML(""), widgets.HTML(f"<p>{HINT}</p>")
        self.brief.add_class("cn-brief")
        self.chart = SliceChart(go, sequences)
        self.behind = self._behind()
        self.own = widgets.VBox()
        self.tell_progress(None)
        self.tell_answer(False)
        # Brief answer and progress stand in the row of the button: what lies below does not jump when they come.
        top = widgets.HBox([self.case, self.reveal, self.always, self.brief, self.waiting], layout=_row())
        top.add_class("cn-top")
        style = widgets.HTML(f"<style>{asset('cirrnb.explorer', 'explorer.css')}</style>")
        places = {"pictures": self.canvas, "hint": self.hint, **self.behind, "own": self.own}
        for name, one in places.items():
            one.add_class(f"cn-at-{name}")
        within = widgets.GridBox(list(places.values()))
        within.add_class("cn-within")
        super().__init__([style, top, self.message, within])
        self.add_class("cn-explorer")

    def _build_choices(self, stager: Stager, method: str, target: str) -> None:
        known = {method_named(name).label: name for name in OFFERED if name in methods()}
        known |= {how.label: name for name, how in methods().items() if name not in known.values()}
        self.method = widgets.Dropdown(options=list(known.items()), value=method, description="Map")
        scores = [(sentences.target_words(one, stager.stages), one) for one in targets(stager.head, stager.stages)]
        wide = {"width": "400px"}
        self.target = widgets.Dropdown(options=scores, value=target, description="Speaks for", layout=wide)
        numbers = [(f"{one}{' (finest)' * (one == 1)}", one) for one in range(1, stager.scales + 1)]
        self.scale = widgets.Dropdown(options=[("all", "all"), *numbers], value="all", description="Scale")
        asks = "Is it better than a map that knows nothing of the model?"
        self.test = widgets.Button(description="Test this map", icon="check", tooltip=asks)
        self.export = widgets.Button(description="Map as NIfTI", icon="download")

    def _behind(self) -> dict[str, widgets.Box]:
        """What is hidden until the answer is asked for, by its place in the style sheet."""
        tools = widgets.HBox([self.method, self.target, self.scale, self.test, self.export], layout=_row())
        answer = widgets.HBox([self.told, widgets.VBox([self.why, self.faithfulness])], layout=_columns())
        answer.add_class("cn-words")
        self.below = widgets.VBox([self.chart.widget])
        self.tell_map(False)
        return {"tools": tools, "answer": answer, "chart": self.below}

    def tell_answer(self, shown: bool) -> None:
        """Show what stands behind the button, or hide it."""
        for one in self.behind.values():
            one.layout.display = "" if shown else "none"
        self.hint.layout.display = "none" if shown else ""
        self.brief.layout.display = "" if shown else "none"
        self.reveal.description = "Hide the answer" if shown else "Show the answer"
        self.reveal.icon = "eye-slash" if shown else "eye"

    def tell_map(self, there: bool) -> None:
        """Show the chart that belongs to the map, and let the map be tested and taken along; or none of it."""
        self.test.disabled = self.export.disabled = not there
        self.below.layout.visibility = "visible" if there else "hidden"  # keeps its place: nothing jumps

    def tell_doing(self, what: str) -> None:
        """What the work is that comes next, beside its progress."""
        self.doing.value = what

    def tell_progress(self, share: float | None) -> None:
        """How far the work is, 0 to 1; None where nothing is under way."""
        self.waiting.layout.display = "none" if share is None else ""
        self.bar.value = share or 0.0

    def tell_scales(self, wanted: bool) -> None:
        """Whether the map on show has scales to choose from."""
        self.scale.layout.display = "" if wanted else "none"

    def say(self, message: str, wrong: bool = False) -> None:
        """A line above the pictures, as plain text; an empty one takes it away."""
        role, kind = ("alert", "cn-wrong") if wrong else ("status", "cn-told")
        self.message.value = f'<div role="{role}" class="{kind}">{escape(message)}</div>' if message else ""


# A layout is a widget of its own: two boxes with one layout are hidden together.
def _row() -> widgets.Layout:
    return widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="4px 12px")


def _columns() -> widgets.Layout:
    return widgets.Layout(flex_flow="row wrap", grid_gap="8px 32px")
