"""Figures on why stages were wrong before: a liver outside the view, a belly without a liver, healthy people called
severe. Pictures are of simulated patients; counts of real people stand in docs/real_people.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import cirrnb
from cirrnb.course.figures import SIMULATED, SwitchFigure, drawing, drawn_figure, panel, switch_figure
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid, Orientation
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.nifti.saving import save_volume
from cirrnb.data.pictures import grey_picture
from cirrnb.data.prepared import FIELD_OF_VIEW, PreparedScan
from cirrnb.data.scan import Cohort, Scan
from cirrnb.view.palette import LIVER_COLOUR

if TYPE_CHECKING:
    from cirrnb.model.prediction import Prediction
    from cirrnb.model.trained_model import TrainedModel

MARGIN = 12.0
"""mm around the liver that the view has today."""
BOX_COLOUR = "#E66100"
CALLED = "#A6487B"
FEWEST = 5
"""Slices without liver that a scan must have at its lower end to be shown as a belly without one."""

HEALTHY, SEVERE_WITH, SEVERE_WITHOUT = 20, 5, 7
"""Real healthy people that were staged, and how many an earlier model called severe with masks and without
(docs/real_people.md)."""


@dataclass(frozen=True)
class Box:
    """Rows and columns, from and to, in pixels."""

    rows: tuple[float, float]
    columns: tuple[float, float]

    def share_outside(self, mask: np.ndarray) -> float:
        """Share of a mask (slices, rows, columns) that lies outside, 0 to 1."""
        _, rows, columns = np.nonzero(mask)
        inside = (rows >= self.rows[0]) & (rows < self.rows[1])
        inside &= (columns >= self.columns[0]) & (columns < self.columns[1])
        return float(1 - inside.mean())


def box_of_the_body(scan: PreparedScan) -> Box:
    """The box that a scan without a mask was cropped to: of one size, around the middle of the body."""
    height, width = (size / scan.settings.spacing for size in FIELD_OF_VIEW["liver"])
    rows, columns = scan.grid.shape[1:]
    return Box(((rows - height) / 2, (rows + height) / 2), ((columns - width) / 2, (columns + width) / 2))


def box_of_the_liver(scan: PreparedScan) -> Box:
    """The box around the outlined liver, with a margin."""
    assert scan.mask is not None
    spread = MARGIN / scan.settings.spacing
    _, rows, columns = np.nonzero(scan.mask)
    top, bottom, left, right = (float(edge) for edge in (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1))
    return Box((top - spread, bottom + spread), (left - spread, right + spread))


def cropped_view(bags: Sequence[Bag], sequence: str = "T1W") -> SwitchFigure:
    """The patient whose liver the box around the body cuts most, with that box and the one around the liver.

    `bags` are prepared with the view on the abdomen, and have masks.
    """
    scans = [bag.scans[sequence] for bag in bags if sequence in bag.scans and bag.scans[sequence].mask is not None]
    scan = max(scans, key=lambda candidate: box_of_the_body(candidate).share_outside(np.asarray(candidate.mask)))
    index = scan.widest
    picture = grey_picture(np.nan_to_num(np.asarray(scan.image[index], np.float32)))
    boxes = (
        (box_of_the_body(scan), BOX_COLOUR, "before: the middle of the body"),
        (box_of_the_liver(scan), LIVER_COLOUR, "now: the outlined liver"),
    )
    panels = ""
    for box, colour, words in boxes:
        outside = box.share_outside(np.asarray(scan.mask))
        seen = f'<img alt="{sequence} slice; {words}" src="{picture}">'
        panels += panel(f"{words}, {outside:.0%} of the liver outside", seen + _drawn(box, colour, scan))
    return switch_figure("the box that a scan was cropped to, before and now", "", panels, SIMULATED)


def _drawn(box: Box, colour: str, scan: PreparedScan) -> str:
    """A box over a picture of the scan, in shares of its size; what lies beyond the picture is cut off."""
    rows, columns = scan.grid.shape[1:]
    top, bottom = (100 * float(np.clip(edge / rows, 0, 1)) for edge in box.rows)
    left, right = (100 * float(np.clip(edge / columns, 0, 1)) for edge in box.columns)
    place = f"left:{left:.1f}%;top:{top:.1f}%;width:{right - left:.1f}%;height:{bottom - top:.1f}%"
    return f'<div style="position:absolute;box-sizing:border-box;border:2px solid {colour};{place}"></div>'


def without_liver(people: Cohort, sequence: str = "T1W") -> tuple[Scan, int]:
    """The scan with most slices below the liver, and their number. Raises InputError where none has `FEWEST`."""
    counted = [(scan, _below(scan)) for scan in people.scans if scan.sequence == sequence and scan.mask is not None]
    scan, count = max(counted, key=lambda pair: pair[1])
    if count < FEWEST:
        raise InputError(people.name, f"at most {count} slices below the liver", f"{FEWEST}", "Take another cohort.")
    return scan, count


def _below(scan: Scan) -> int:
    assert scan.mask is not None
    _, grid = read_volume(scan.image)
    liver = Orientation.of(grid).apply(read_mask(scan.mask, grid))
    return int(np.flatnonzero(liver.any(axis=(1, 2)))[0])


def staged_without_liver(people: Cohort, model: TrainedModel, sequence: str = "T1W") -> tuple[Prediction, np.ndarray]:
    """The stager's prediction for slices that hold no liver, and the middle one of them (rows, columns).

    The slices below the liver of one patient, staged as before there were checks. Raises InputError where no scan has
    enough of them.
    """
    from cirrnb.model.prediction import predict_patient  # loads torch, which the page does not wait for

    scan, count = without_liver(people, sequence)
    volume, grid = read_volume(scan.image)
    turned = Orientation.of(grid)
    below, lying = turned.apply(volume)[:count], turned.grid(grid)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "below.nii.gz"
        save_volume(path, below, Grid(below.shape, lying.affine))  # the slices are counted from the feet
        ready = cirrnb.prepare(
            Cohort((Scan("below", sequence, path),), sequences=people.sequences),
            Path(folder) / "prepared",
            model.preparation,
            masks="given",
            workers=1,
            progress=False,
        )
        bag = ready.bags()[0]
        pixels = np.array(bag.scans[sequence].image[count // 2], np.float32)
        return predict_patient(model, bag), pixels


def pelvis_figure(people: Cohort, model: TrainedModel, sequence: str = "T1W") -> SwitchFigure:
    """A belly without a liver, and the stage that it was given."""
    prediction, pixels = staged_without_liver(people, model, sequence)
    chances = ", ".join(f"{stage} {chance:.0%}" for stage, chance in prediction.probabilities.items())
    picture = f'<img alt="{sequence} slice below the liver" src="{grey_picture(pixels)}">'
    words = f"{SIMULATED} There is no liver in these slices. The stager, asked without a check: {escape(chances)}."
    return switch_figure("slices without a liver, staged", "", panel(sequence, picture), words, "cn-riddle")


def healthy_figure() -> SwitchFigure:
    """Twenty real healthy people, a dot each, and whom an earlier model called severe."""
    shapes = ""
    for row, (words, severe) in enumerate((("masks by radiologists", SEVERE_WITH), ("no masks", SEVERE_WITHOUT))):
        y = 34 + 56 * row
        shapes += f'<text x="4" y="{y - 14}">{words}: {severe} of {HEALTHY} called severe</text>'
        for number in range(HEALTHY):
            look = f'fill="{CALLED}"' if number < severe else 'fill="white" stroke="#5B6770" stroke-width="1.5"'
            shapes += f'<circle cx="{14 + 17 * number}" cy="{y}" r="6.5" {look}/>'
    sentence = (
        f"Of {HEALTHY} healthy people {SEVERE_WITH} (with masks) and {SEVERE_WITHOUT} (without) were called severe"
    )
    words = "Healthy people of CHAOS, a dot each, in no order. Filled: called severe by an earlier model."
    return drawn_figure(
        f"{HEALTHY} healthy people, as an earlier model staged them", drawing(sentence, 360, 110, shapes), words
    )
