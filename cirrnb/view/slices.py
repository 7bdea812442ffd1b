"""Slices side by side, as a radiologist reads them: patient's right on the left, front up, R and L written on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from cirrnb.data.bag import Bag
from cirrnb.data.pictures import grey_picture, outline_picture, overlay_picture
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.view.palette import INK, LIVER_COLOUR, MUTED
from cirrnb.view.theme import finish

_FULL_WIDTH = 3
"""Columns from which a montage takes the whole width of a page."""

_SCALE_BAR = 50.0
"""mm, the length of the bar on the first picture of each row."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One axial slice with what it needs to be shown.

    Attributes
    ----------
    pixels : (rows, columns), rows from front to back, columns from the patient's right to the left; 0 black, 1 white.
    spacing : mm between rows and between columns.
    position : mm along the head axis (RAS+ z).
    label : title above it.
    mask : (rows, columns) bool liver mask, or None.
    overlay : (rows, columns) map to lie on the slice, -1 to 1, or None.
    caption : text in its upper left corner.
    window : intensities that become black and white.
    """

    pixels: NDArray[np.floating]
    spacing: tuple[float, float]
    position: float
    label: str = ""
    mask: NDArray[np.bool_] | None = None
    overlay: NDArray[np.floating] | None = None
    caption: str = ""
    window: tuple[float, float] = (0.0, 1.0)


def widest_slice(prepared: PreparedScan, label: str = "") -> Slice:
    """The slice of a prepared scan where the liver is widest, or the middle one where no liver mask is known."""
    mask, index = prepared.mask, prepared.widest
    return Slice(
        pixels=np.asarray(prepared.image[index], dtype=np.float32),
        spacing=prepared.grid.spacing[1:],
        position=float(prepared.positions[index]),
        label=label,
        mask=None if mask is None else np.asarray(mask[index]),
    )


def examples(bags: Sequence[Bag], per_stage: int = 1, stages: StageScale = CIRRHOSIS) -> dict[str, list[Slice | None]]:
    """Rows for a montage: patients of each stage, those with the most sequences first, where the liver is widest.

    Where nobody has a stage, `per_stage` patients are shown all the same.
    """
    shown: list[Bag] = []
    for stage in stages:
        of_stage = [bag for bag in bags if bag.stage == stage]
        shown += sorted(of_stage, key=lambda bag: len(bag.missing))[:per_stage]
    shown = shown or sorted(bags, key=lambda bag: len(bag.missing))[:per_stage]
    return {
        sequence: [
            widest_slice(bag.scans[sequence], f"{bag.stage or 'no stage'}, patient {bag.patient}")
            if sequence in bag.scans
            else None
            for bag in shown
        ]
        for sequence in dict.fromkeys(name for bag in shown for name in bag.sequences)
        if any(sequence in bag.scans for bag in shown)
    }


def montage(
    rows: Mapping[str, Sequence[Slice | None]], *, simulated: bool, outline: bool = False, title: str = "Slices"
) -> go.Figure:
    """A table of slices: one row a sequence, one column a patient, at one scale.

    Parameters
    ----------
    rows : name of the row ("T1W") -> its slices, the same number in each; None where a patient lacks the sequence.
    outline : draw the edge of the liver mask where there is one.

    Raises ValueError where there is nothing to show or the rows differ in length.
    """
    columns = {len(slices) for slices in rows.values()}
    if len(columns) != 1 or 0 in columns:
        raise ValueError("a montage needs rows of one and the same length")
    count = columns.pop()
    labels = [next((row[i].label for row in rows.values() if row[i] is not None), "") for i in range(count)]  # type: ignore[union-attr]
    figure = make_subplots(
        rows=len(rows), cols=count, horizontal_spacing=0.008, vertical_spacing=0.015, column_titles=labels
    )
    figure.update_annotations(font={"size": 13, "color": INK}, yshift=4)
    tallest = 0.0
    for row, (name, slices) in enumerate(rows.items(), start=1):
        for column, shown in enumerate(slices, start=1):
            _add_slice(figure, shown, row, column, outline=outline, scale_bar=column == 1)
        figure.update_yaxes(title={"text": name, "standoff": 4, "font": {"size": 14, "color": INK}}, row=row, col=1)
        tallest = max([tallest, *(_height_to_width(shown) for shown in slices if shown is not None)])
    # Pictures fill their cells at about 960 pixels of page; narrower pages only leave white above and below them.
    height = round(len(rows) * (tallest or 1) * 900 / max(count, _FULL_WIDTH)) + 100
    figure.update_layout(margin={"l": 34, "r": 4, "t": 80, "b": 12})
    if count < _FULL_WIDTH:  # Few pictures are not blown up to the width of the page.
        figure.update_layout(width=round(900 * count / _FULL_WIDTH) + 60)
    return finish(figure, title, simulated=simulated, height=height)


def _height_to_width(shown: Slice) -> float:
    return shown.pixels.shape[0] * shown.spacing[0] / (shown.pixels.shape[1] * shown.spacing[1])


def _add_slice(
    figure: go.Figure, shown: Slice | None, row: int, column: int, *, outline: bool, scale_bar: bool
) -> None:
    hidden = {"visible": True, "showgrid": False, "showticklabels": False, "ticks": "", "showline": False}
    place = {"row": row, "col": column}
    if shown is None:
        figure.update_xaxes(**hidden, range=[0, 1], **place)
        figure.update_yaxes(**hidden, range=[0, 1], **place)
        figure.add_annotation(text="no such scan", x=0.5, y=0.5, showarrow=False, font={"color": MUTED}, **place)
        return
    height, width = shown.pixels.shape[0] * shown.spacing[0], shown.pixels.shape[1] * shown.spacing[1]
    figure.update_xaxes(**hidden, range=[0, width], constrain="domain", **place)
    axis = next(figure.select_xaxes(**place)).plotly_name.replace("axis", "")
    # Falling, since rows run from front to back; anchored, so that a millimetre is as long upwards as sideways.
    figure.update_yaxes(**hidden, range=[height, 0], scaleanchor=axis, constrain="domain", **place)
    # In one layer, plotly takes two pictures of the same place for the same picture.
    layers = {"below": grey_picture(shown.pixels, shown.window)}
    if outline and shown.mask is not None:
        layers["above"] = outline_picture(shown.mask, LIVER_COLOUR)
    elif shown.overlay is not None:
        layers["above"] = overlay_picture(shown.overlay, 1.0)
    for layer, picture in layers.items():
        figure.add_layout_image(
            source=picture, x=0, y=0, sizex=width, sizey=height, sizing="stretch", layer=layer, **place
        )
    # An invisible point keeps the axes: plotly drops a panel that holds pictures only.
    figure.add_scatter(x=[width / 2], y=[height / 2], mode="none", showlegend=False, hoverinfo="skip", **place)
    _mark(figure, shown, width, height, place, scale_bar=scale_bar)


def _mark(
    figure: go.Figure, image: Slice, width: float, height: float, place: dict[str, int], *, scale_bar: bool
) -> None:
    letters = {"color": "white", "size": 12}
    shown = {"showarrow": False, "font": letters, **place}
    figure.add_annotation(text="<b>R</b>", x=0, y=height / 2, xanchor="left", xshift=2, **shown)
    figure.add_annotation(text="<b>L</b>", x=width, y=height / 2, xanchor="right", xshift=-2, **shown)
    figure.add_annotation(
        text=f"{image.position:+.0f} mm", x=width, y=height, xanchor="right", yanchor="bottom", **shown
    )
    if image.caption:
        figure.add_annotation(text=image.caption, x=0, y=0, xanchor="left", xshift=4, yanchor="top", yshift=-2, **shown)
    if scale_bar:
        figure.add_shape(
            type="line", x0=12, x1=12 + _SCALE_BAR, y0=height - 10, y1=height - 10, line={"color": "white"}, **place
        )
        figure.add_annotation(
            text=f"{_SCALE_BAR / 10:.0f} cm", x=12, y=height - 10, xanchor="left", yanchor="bottom", **shown
        )
