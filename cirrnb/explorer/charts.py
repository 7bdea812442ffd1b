"""Bars under the pictures: what each slice adds to the score, and how much attention it got."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cirrnb.data.bag import Bag
from cirrnb.data.sequences import T1W_T2W
from cirrnb.explanation.explanation import Explanation
from cirrnb.view.theme import INK, MUTED, finish, sequence_colours

HEIGHT = 320


class SliceChart:
    """A live figure; `on_click` is called with the height in mm, in the first sequence's frame, of the bar that was
    clicked."""

    def __init__(self, on_click: Callable[[float], None], sequences: Sequence[str] = T1W_T2W):
        self._on_click = on_click
        # Changes to a layout before it is first shown are lost, so the figure starts with all that stays.
        self.widget = go.FigureWidget(_frame(sequences))
        self.widget._config = {"responsive": True, "displayModeBar": False}

    def show(self, bag: Bag, explanation: Explanation) -> None:
        """Draw the Shapley values and attention of another explanation."""
        shares = explanation.shapley
        with self.widget.batch_update():
            for trace in self.widget.data:
                there = trace.name in shares.slices
                trace.visible = there
                if not there:
                    continue
                scan, moved = bag.scans[trace.name], bag.shifts[trace.name]
                trace.x, trace.width = scan.positions - moved, 0.8 * scan.grid.spacing[0]
                if trace.meta == "share":
                    trace.y, trace.error_y.array = shares.slices[trace.name], shares.errors[trace.name]
                else:
                    trace.y = 100 * shares.weights[trace.name]
        for trace in self.widget.data:
            trace.on_click(self._clicked, append=False)

    def mark(self, position: float) -> None:
        """Draw a line at the height on show."""
        with self.widget.batch_update():
            for line in self.widget.layout.shapes:
                line.x0 = line.x1 = position
                line.visible = True

    def _clicked(self, trace: go.Bar, points: object, _: object) -> None:
        if found := list(getattr(points, "xs", [])):
            self._on_click(float(found[0]))


def _frame(sequences: Sequence[str]) -> go.Figure:
    """A column for each sequence, as the pictures stand above it: shares, and attention below them."""
    figure = make_subplots(
        rows=2, cols=len(sequences), shared_xaxes=True, shared_yaxes=True, row_heights=[0.62, 0.38],
        vertical_spacing=0.09, horizontal_spacing=0.03, column_titles=list(sequences),
    )  # fmt: skip
    for column, (name, colour) in enumerate(sequence_colours(sequences).items(), start=1):
        shared = {"x": [], "y": [], "name": name, "marker": {"color": colour}, "showlegend": False}
        error = {"type": "data", "array": [], "thickness": 1, "width": 0, "color": INK}
        hover = "%{x:.0f} mm: %{y:+.2f} log-odds<extra></extra>"
        figure.add_bar(**shared, meta="share", error_y=error, hovertemplate=hover, row=1, col=column)
        hover = "%{x:.0f} mm: %{y:.1f} %<extra></extra>"
        figure.add_bar(**shared, meta="attention", hovertemplate=hover, row=2, col=column)
        figure.update_xaxes(title_text="height (mm)", row=2, col=column)
    line = {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "visible": False}
    for number in ("", "2", "3", "4"):
        style = {"color": MUTED, "width": 2, "dash": "dot"}
        figure.add_shape(**line, xref=f"x{number}", yref=f"y{number} domain", line=style)
    figure.update_yaxes(title_text="share (log-odds)", row=1, col=1)
    figure.update_yaxes(title_text="attention (%)", rangemode="tozero", row=2, col=1)
    figure.update_layout(barmode="overlay", autosize=True, margin={"l": 60, "r": 10, "t": 70, "b": 46})
    title = "What each slice adds to the score, and how much attention it got; click a bar to go there"
    return finish(figure, title, simulated=False, height=HEIGHT)
