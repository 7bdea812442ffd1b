"""What a notebook shows of an object: a heading, facts, small tables and small pictures. No path of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.numbers import figure

if TYPE_CHECKING:
    import pandas as pd

    from cirrnb.data.prepared import PreparedScan
    from cirrnb.data.scan import Scan
    from cirrnb.data.stage_scale import StageScale

HEIGHT = 150
"""Pixels of a picture's height on the screen."""
LARGEST_FILE = 2**25
"""Bytes of a file above which no picture is made of it: a summary appears at once."""
SIMULATED = "SIMULATED: computed images, no patients"


@dataclass(frozen=True)
class Picture:
    """A picture with what stands under it; `pictures` lie on one another, the first at the bottom."""

    caption: str
    pictures: tuple[str, ...]
    aspect: float = 1.0

    @property
    def html(self) -> str:
        width = round(HEIGHT * self.aspect)
        layers = "".join(
            f'<img src="{source}" alt="{escape(self.caption)}" style="position:absolute;left:0;top:0;'
            f'width:{width}px;height:{HEIGHT}px;max-width:none;margin:0">'
            for source in self.pictures
        )
        box = f"position:relative;width:{width}px;height:{HEIGHT}px;background:black"
        caption = f'<figcaption style="font-size:0.85em">{escape(self.caption)}</figcaption>'
        return f'<figure style="margin:0.4em 0.8em 0 0"><div style="{box}">{layers}</div>{caption}</figure>'


def summary(
    heading: str,
    facts: Mapping[str, Any],
    *,
    simulated: bool = False,
    tables: Sequence[str] = (),
    pictures: Iterable[Picture] = (),
) -> str:
    """HTML of a summary. Facts that are None or empty are left out; `tables` are HTML, all other text is escaped."""
    rows = "".join(
        f'<tr><th style="text-align:left;vertical-align:top;padding-right:1em">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value not in (None, "", ())
    )
    mark = f' <span style="color:#994455">{SIMULATED}</span>' if simulated else ""
    shown = "".join(picture.html for picture in pictures)
    figures = f'<div style="display:flex;flex-wrap:wrap">{shown}</div>' if shown else ""
    return (
        f'<div class="cirrnb-summary"><strong>{escape(heading)}</strong>{mark}'
        f"<table>{rows}</table>{''.join(tables)}{figures}</div>"
    )


def table_html(table: pd.DataFrame) -> str:
    """A small table as HTML; numbers have three decimals at most."""
    return str(table.to_html(border=0, na_rep="", float_format=lambda value: figure(value, 3), notebook=True))


def bars(shares: Mapping[str, float], colours: Mapping[str, str]) -> str:
    """Shares from 0 to 1 as bars with their percentage, in order."""
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(name)}</td><td style="text-align:left">'
        f'<span style="display:inline-block;height:0.8em;width:{max(1, round(120 * share))}px;'
        f'background:{colours.get(name, "#33658A")}"></span> {100 * share:.0f} %</td></tr>'
        for name, share in shares.items()
    )
    return f"<table>{rows}</table>"


def counts(patients: pd.DataFrame, stages: StageScale) -> tuple[str, pd.DataFrame]:
    """Patients by stage in words, and as a table by stage and split.

    `patients` has a row a patient with the columns stage and split, as `Cohort.patients`.
    """
    import pandas as pd

    order = [*stages, "unstaged"]
    stage = pd.Categorical(patients["stage"].fillna("unstaged"), order)
    split = patients["split"].fillna("no split")
    table = pd.crosstab(pd.Series(stage, name="stage"), pd.Series(split.to_numpy(), name="split"), dropna=False)
    table = table.reindex(order, fill_value=0)
    totals = table.sum(axis=1)
    table.insert(0, "patients", totals)
    table = table.loc[totals > 0]
    table.columns.name = table.index.name = None
    return ", ".join(f"{count} {name}" for name, count in table["patients"].items()), table


def picture_of_prepared(prepared: PreparedScan) -> Picture | None:
    """The slice where the liver is widest, with its outline; None where the files are gone."""
    from cirrnb.data.pictures import grey_picture, outline_picture

    try:
        place, mask = prepared.widest, prepared.mask
        layers = [grey_picture(prepared.image[place])]
    except (OSError, ValueError):
        return None
    if mask is not None and mask[place].any():
        layers.append(outline_picture(mask[place], "#56B4E9"))
    _, down, right = prepared.grid.spacing
    return Picture(prepared.scan.name, tuple(layers), _aspect(prepared.grid.shape[1:], (down, right)))


def picture_of_scan(scan: Scan) -> Picture | None:
    """The middle slice of a scan's file; None where it is large or cannot be read."""
    from cirrnb.data.errors import InputError
    from cirrnb.data.grid import Orientation
    from cirrnb.data.nifti.reading import read_volume
    from cirrnb.data.pictures import grey_picture

    try:
        if scan.image.stat().st_size > LARGEST_FILE:
            return None
        values, grid = read_volume(scan.image)
    except (InputError, OSError):
        return None
    turned = Orientation.of(grid)
    volume: NDArray = turned.apply(values)
    pixels = np.asarray(volume[len(volume) // 2], dtype=np.float32)
    low, high = (float(value) for value in np.percentile(pixels, (1, 99)))
    _, down, right = turned.grid(grid).spacing
    picture = grey_picture(pixels, (low, high if high > low else low + 1))
    return Picture(scan.name, (picture,), _aspect(pixels.shape, (down, right)))


def _aspect(shape: Sequence[int], spacing: tuple[float, float]) -> float:
    """Width over height of a slice (rows, columns), within bounds that fit a page."""
    return float(np.clip(shape[1] * spacing[1] / (shape[0] * spacing[0]), 0.3, 3.0))
