"""The viewer as a Jupyter widget: pictures go to the browser once, by message, and everything else happens there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anywidget

from cirrnb.explanation.explanation import Explanation
from cirrnb.view.page import asset
from cirrnb.viewer.panes import Pane, overlay_values, overlay_words


def viewer_script() -> str:
    """`createViewer` and all that it needs, in one scope: the widget and the pages of reports share it."""
    return "\n".join(
        asset("cirrnb.viewer", f"{name}.js") for name in ("geometry", "painting", "input", "controls", "viewer")
    )


class SliceCanvas(anywidget.AnyWidget):
    """The image panes of the explorer.

    What is shown is not part of the widget's state, which notebooks save: a browser that opens (or a second one) asks
    for it and gets it. `on_place` is called with the height in mm to which the reader scrolled, `on_box` with the
    sequence, rows and columns of a box that was drawn. `on_pick`, where there is one, is called with the sequence and
    the place (mm, RAS+) that was clicked, and returns what lies there in words, or None. Several windows on one kernel
    stand at the same height, since they share the chart that marks it; a file goes to the one used last.
    """

    _esm = "\n".join((viewer_script(), asset("cirrnb.viewer", "absence.js"), asset("cirrnb.viewer", "widget.js")))
    _css = asset("cirrnb.viewer", "viewer.css")

    def __init__(self) -> None:
        super().__init__()
        self.on_box: Callable[[str, tuple[float, float], tuple[float, float]], None] = lambda name, rows, columns: None
        self.on_place: Callable[[float], None] = lambda position: None
        self.on_pick: Callable[[str, tuple[float, float, float]], str | None] | None = None
        self._numbers = itertools.count(1)
        self._case: tuple[dict[str, Any], list[Any]] | None = None
        self._overlay: tuple[dict[str, Any], list[Any]] | None = None
        self._position: float | None = None
        self._outlined: dict[str, Any] | None = None
        self._window: str | None = None
        self.on_msg(self._hear)

    def show(
        self,
        panes: Sequence[Pane],
        *,
        title: str,
        simulated: bool,
        signs: Sequence[str] = (),
        start: float | None = None,
    ) -> None:
        """Show another patient.

        Parameters
        ----------
        signs : names of the evidence's labels from 1.
        start : height in mm to open at, in the frame of the first sequence.
        """
        sent: list[dict[str, Any]] = []
        buffers: list[Any] = []
        for pane in panes:
            parts = {}
            for name, values in pane.layers.items():
                parts[name] = len(buffers)
                buffers.append(memoryview(values.tobytes()))
            sent.append({**pane.details, "parts": parts})
        content = {
            "kind": "case",
            "key": next(self._numbers),
            "title": title,
            "simulated": simulated,
            "signs": list(signs),
            "panes": sent,
            **({} if start is None else {"start": start}),
        }
        self._case, self._overlay, self._position, self._outlined = (content, buffers), None, None, None
        self.send(content, buffers)

    def lay_over(self, explanation: Explanation | None) -> None:
        """Lay a map over the patient shown, or take it away (None)."""
        if self._case is None:
            return
        content: dict[str, Any] = {"kind": "overlay", "case": self._case[0]["key"]}
        buffers: list[Any] = []
        if explanation is not None:
            parts = {}
            for name, values in overlay_values(explanation).items():
                parts[name] = len(buffers)
                buffers.append(memoryview(values.tobytes()))
            content["overlay"] = {**overlay_words(explanation), "parts": parts}
        self._overlay = (content, buffers)
        self.send(content, buffers)

    def show_program_outline(self) -> None:
        """Draw the liver's edge where a program drew the liver; the reader may take it away."""
        if self._case is not None:
            self._outlined = {"kind": "outline", "case": self._case[0]["key"]}
            self.send(self._outlined)

    def show_box(self, name: str, box: Mapping[str, Sequence[float]] | None) -> None:
        """Draw a box on the pane of a sequence: "rows", "columns" and "slices", from and to; None takes it away."""
        if self._case is not None:
            self.send({"kind": "box", "case": self._case[0]["key"], "name": name, "box": box and dict(box)})

    @property
    def position(self) -> float | None:
        """Height in mm where the reader stands; None where nobody has scrolled yet."""
        return self._position

    def go_to(self, position: float) -> None:
        """Scroll to a height in mm, in the frame of the first sequence."""
        self._position = float(position)
        self.send({"kind": "go", "position": self._position})

    def hand_over(self, name: str, content: bytes) -> None:
        """Have the browser save a file, in the window that was used last."""
        self.send({"kind": "file", "name": name, "window": self._window}, [content])

    def _hear(self, _: Any, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        kind = content.get("kind")
        if kind == "ready":
            for message in (self._case, self._overlay):
                if message is not None:
                    self.send(*message)
            if self._outlined is not None:
                self.send(self._outlined)
            if self._position is not None:
                self.send({"kind": "go", "position": self._position})
        elif kind == "place":
            self._position = float(content["position"])
            self.send({"kind": "go", "position": self._position, "by": content.get("window")})
            self.on_place(self._position)
        elif kind == "box":
            rows, columns = ((float(pair[0]), float(pair[1])) for pair in (content["rows"], content["columns"]))
            self.on_box(str(content["name"]), rows, columns)
        elif kind == "pick":
            self._name(content)
        elif kind == "used":
            self._window = str(content.get("window"))
            self.send({"kind": "used", "window": self._window})
        self.send({"kind": "pong"})

    def _name(self, content: Mapping[str, Any]) -> None:
        if self.on_pick is None or self._case is None:
            return
        x, y, z = (float(value) for value in content["mm"])
        if words := self.on_pick(str(content["name"]), (x, y, z)):
            event = {"case": self._case[0]["key"], "number": content.get("number"), "window": content.get("window")}
            self.send({"kind": "named", **event, "words": words})
