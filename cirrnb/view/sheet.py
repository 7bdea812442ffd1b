"""Slices side by side as plain pictures, for a page that is printed: no script, and a row is never cut in two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from cirrnb.view.images import grey_picture, overlay_picture
from cirrnb.view.piece import Piece
from cirrnb.view.slices import Slice
from cirrnb.view.theme import SIMULATED

_BAR = 50.0
"""mm, the length of the bar on the first picture of each row."""


def sheet(rows: Mapping[str, Sequence[Slice | None]], *, simulated: bool, words: str = "") -> Piece:
    """A table of slices, a row a name ("T1W"), patient's right on the left, with R and L, height and a bar of 5 cm.

    `words` stands above it, and the word for simulated patients in every row.
    """
    told = f"<p>{escape(words)}</p>" if words else ""
    lines = []
    for name, slices in rows.items():
        label = f"{escape(name)}{f'<small>{SIMULATED}</small>' if simulated else ''}"
        cells = "".join(_cell(one, name, bar=place == 0) for place, one in enumerate(slices))
        lines.append(f'<div class="row"><div class="label">{label}</div>{cells}</div>')
    return Piece(told + "".join(lines), "sheet")


def _cell(one: Slice | None, name: str, *, bar: bool) -> str:
    if one is None:
        return '<div class="slice empty"></div>'
    height, width = (size * step for size, step in zip(one.pixels.shape, one.spacing, strict=True))
    shown = f"{name}, slice at {one.position:+.0f} mm" + (f", {one.caption}" if one.caption else "")
    pictures = f'<img alt="{escape(shown)}" src="{grey_picture(one.pixels, one.window)}">'
    if one.overlay is not None:
        pictures += f'<img alt="" src="{overlay_picture(one.overlay, 1.0)}">'
    marks = f'<i class="r">R</i><i class="l">L</i><i class="mm">{one.position:+.0f} mm</i>'
    if one.caption:
        marks += f'<i class="told">{escape(one.caption)}</i>'
    if bar:
        marks += f'<i class="bar" style="width:{100 * _BAR / width:.1f}%">{_BAR / 10:.0f} cm</i>'
    return f'<div class="slice" style="aspect-ratio:{width:.0f}/{height:.0f}">{pictures}{marks}</div>'
