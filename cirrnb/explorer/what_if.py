"""What if a sign were weaker or stronger: fields that start where the model saw each sign, and the stage that follows.

Nothing that is changed here is stored or shown anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from cirrnb.model.prediction import Prediction
from cirrnb.view.sign_sentences import what_if_html


class WhatIf(widgets.VBox):
    """A field for each of the signs of the patient on show; hidden for a model without sign outputs."""

    def __init__(self, ask: Callable[[dict[str, float]], None]):
        """`ask` is called with the strengths that were changed, and later hands the answer to `show`."""
        self._ask = ask
        self._seen: Prediction | None = None
        self._fields: dict[str, widgets.BoundedFloatText] = {}
        self._outcome = widgets.HTML("")
        self._reset = widgets.Button(description="As the model saw them", icon="undo", disabled=True)
        self._reset.on_click(lambda button: self.begin(self._seen))
        self._rows = widgets.VBox()
        super().__init__()
        self.add_class("cn-what-if")
        self.begin(None)

    def begin(self, seen: Prediction | None) -> None:
        """The fields of another answer, or none."""
        self._seen = seen
        self._outcome.value, self._reset.disabled = "", True
        signs = sorted(seen.signs, key=lambda sign: -sign.strength) if seen is not None and not seen.hidden else []
        self._fields = {}
        rows = []
        for sign in signs:
            field = widgets.BoundedFloatText(
                value=round(sign.strength, 2),
                min=0.0,
                max=1.0,
                step=0.05,
                description=sign.words + (" (hardly read)" if sign.hardly_read else ""),
                style={"description_width": "62%"},
            )
            field.observe(lambda change: self._moved(), "value")
            self._fields[sign.name] = field
            rows.append(field)
        self._rows.children = rows
        title = widgets.HTML("<h4>What if a sign were different?</h4>")
        self.children = (title, self._rows, self._reset, self._outcome) if rows else ()

    def show(self, changed: Prediction) -> None:
        """The answer to what was asked last."""
        if self._seen is not None:
            self._outcome.value = what_if_html(self._seen, changed)

    def changed(self) -> dict[str, float]:
        """Sign -> strength, of those that are not where the model saw them."""
        seen: dict[str, float] = {} if self._seen is None else {sign.name: sign.strength for sign in self._seen.signs}
        step = 0.0051  # fields round
        return {name: field.value for name, field in self._fields.items() if abs(field.value - seen[name]) > step}

    def _moved(self) -> None:
        changed = self.changed()
        self._reset.disabled = not changed
        if changed:
            self._ask(changed)
        else:
            self._outcome.value = ""
