"""The chart below the pictures: what each slice adds to the score, and its attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from cirrnb.data.bag import Bag
from cirrnb.explanation.explanation import Explanation
from cirrnb.view.page import asset
from cirrnb.view.theme import sequence_colours


class SliceChart(anywidget.AnyWidget):
    """Bars over the height, a column for each sequence that the patient has.

    The browser draws it at whatever width there is. `on_go` is called with the height in mm, in the first sequence's
    frame, of the slice that was clicked.

    Attributes
    ----------
    shown : title and columns; a column has name, colour, width in mm, and for each slice its position in mm, its share
        and the share's error in log-odds, and its attention in per cent of the patient's slices.
    position : height in mm that is marked, or None.
    """

    _esm = asset("cirrnb.explorer", "slice_chart.js")
    _css = asset("cirrnb.explorer", "slice_chart.css")
    shown = traitlets.Dict({}).tag(sync=True)
    position = traitlets.Float(None, allow_none=True).tag(sync=True)

    def __init__(self, on_go: Callable[[float], None]):
        super().__init__()
        self._on_go = on_go
        self.on_msg(self._hear)

    def show(self, bag: Bag, explanation: Explanation, score: str) -> None:
        """Draw Shapley values and attention of another explanation; `score` says in words what the score speaks for."""
        shares = explanation.shapley
        colours = sequence_colours(bag.sequences)
        # What a missing sequence's token takes of the attention belongs to no slice.
        whole = sum(float(np.sum(weights)) for weights in shares.weights.values()) or 1.0
        columns = []
        for name in shares.slices:
            scan = bag.scans[name]
            columns.append(
                {
                    "name": name,
                    "colour": colours[name],
                    "width": float(scan.grid.spacing[0]),
                    "positions": (scan.positions - bag.shifts[name]).tolist(),
                    "shares": _plain(shares.slices[name]),
                    "errors": _plain(shares.errors[name]),
                    "weights": _plain(100 * shares.weights[name] / whole),
                }
            )
        title = f"What each slice adds to the score for {score}, and its attention. Choose a slice to go there."
        self.shown = {"title": title, "columns": columns}

    def clear(self) -> None:
        """Show nothing, which takes no space."""
        self.shown = {}

    def mark(self, position: float) -> None:
        """Draw a line at the height on show."""
        self.position = float(position)

    def _hear(self, _: Any, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        if content.get("kind") == "go":
            self._on_go(float(content["position"]))


def _plain(values: NDArray[np.floating]) -> list[float]:
    """Numbers for a browser, whose JSON knows no NaN."""
    numbers: list[float] = np.nan_to_num(np.asarray(values, float)).tolist()
    return numbers
