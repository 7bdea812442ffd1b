"""Slices and maps at 8 bits a pixel, as the viewer in the browser takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, label

from cirrnb.data.bag import Bag
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.sequences import T1W_T2W
from cirrnb.explanation.explanation import Explanation
from cirrnb.explanation.localisation import FLESH
from cirrnb.view.attribution import drawn
from cirrnb.view.sentences import map_title
from cirrnb.viewer.contours import COLOURS, organs_on

BRIGHTEST = 99.95
"""Percentile of a scan that is still details apart from white: fluid on T2W lies far above the rest of the body."""


@dataclass(frozen=True, eq=False)
class Pane:
    """One sequence as the viewer shows it.

    Attributes
    ----------
    name : of the sequence.
    image : (slices, rows, columns) uint8, evenly between the ends of `range`, which are prepared intensities.
    mask : liver mask, uint8 0 and 1, or None. evidence : label of the planted sign, uint8, or None.
    organs : labels of other organs, uint8, or None; their names and colours stand in `details`.
    details : what else the viewer wants to know, ready for JSON.
    """

    name: str
    image: NDArray[np.uint8] | None
    mask: NDArray[np.uint8] | None
    evidence: NDArray[np.uint8] | None
    details: Mapping[str, Any]
    organs: NDArray[np.uint8] | None = None

    @property
    def layers(self) -> dict[str, NDArray[np.uint8]]:
        """Volumes that there are, by name."""
        named = {"image": self.image, "mask": self.mask, "evidence": self.evidence, "organs": self.organs}
        return {name: values for name, values in named.items() if values is not None}


def panes(bag: Bag, evidence: Mapping[str, NDArray[np.uint8]] | None = None) -> list[Pane]:
    """All sequences of a patient in the cohort's order; a missing one has no pictures and says so."""
    return [
        _pane(bag.scans.get(name), name, (evidence or {}).get(name), bag.shifts.get(name, 0.0))
        for name in bag.sequences
    ]


def first_height(bag: Bag) -> float:
    """Height in mm to open at, in the frame of the first sequence: where the liver is widest, or the middle."""
    name, scan = next(iter(bag.scans.items()))
    return float(scan.positions[scan.widest] - bag.shifts[name])


def unopened(sequences: Sequence[str] = T1W_T2W) -> list[Pane]:
    """Panes that say that there is nothing to show."""
    return [Pane(name, None, None, None, {"name": name, "reason": "could not be opened"}) for name in sequences]


def _pane(prepared: PreparedScan | None, name: str, evidence: NDArray[np.uint8] | None, shift: float) -> Pane:
    if prepared is None:
        return Pane(name, None, None, None, {"name": name, "reason": "this patient has no such scan"})
    image = np.asarray(prepared.image, dtype=np.float32)
    if not np.isfinite(image).all():
        image = np.nan_to_num(image, nan=0.0, posinf=2.0, neginf=0.0)
    high = float(np.clip(np.percentile(image, BRIGHTEST), 1.0, 2.0))
    slices, rows, columns = prepared.grid.shape
    mask = None if prepared.mask is None else np.asarray(prepared.mask, dtype=np.uint8)
    organs = organs_on(prepared)
    details: dict[str, Any] = {
        "name": name,
        "slices": slices,
        "rows": rows,
        "columns": columns,
        "spacing": prepared.grid.spacing,
        "positions": prepared.positions.tolist(),
        "shift": shift,
        "affine": prepared.grid.affine.tolist(),
        "range": [0.0, high],
        "window": [0.0, white(image, mask)],
        "presets": presets(image, mask, high),
        "drawn_by_program": mask is not None and bool(prepared.scan.extra.get("mask_by")),
    }
    dark, bright = prepared.measured.get("low"), prepared.measured.get("high")
    if isinstance(dark, int | float) and isinstance(bright, int | float) and bright > dark:
        details["signal"] = [float(dark), float(bright - dark)]  # the file's own at 0, and from 0 to 1
    if organs is not None:
        details["organ_names"] = organs.names
        details["organ_colours"] = [COLOURS[organ] for organ in organs.names]
        details["organs_by_program"] = organs.by_program
    grey = np.round(255 * np.clip(image / high, 0, 1)).astype(np.uint8)
    signs = None if evidence is None else regions_of_signs(evidence, prepared.grid.spacing)
    return Pane(name, grey, mask, signs, details, None if organs is None else organs.labels)


CLOSED, FEWEST = 10.0, 30.0
"""mm over which gaps within a planted sign are closed, and mm2 of the smallest region that is outlined."""


def regions_of_signs(labels: NDArray[np.uint8], spacing: Sequence[float]) -> NDArray[np.uint8]:
    """Planted signs as regions that can be outlined: a sign of many specks would be a line around each of them, and its
    lines would hide what they show. Where regions of two signs meet, each pixel keeps its own sign."""
    down, across = (max(1, round(CLOSED / 2 / step)) for step in spacing[1:])
    rows, columns = np.ogrid[-down : down + 1, -across : across + 1]
    reach = ((rows / (down + 0.3)) ** 2 + (columns / (across + 0.3)) ** 2 <= 1)[None]
    alone = np.zeros((3, 3, 3), bool)
    alone[1] = True  # pixels of one slice
    large: dict[int, NDArray[np.bool_]] = {}
    for sign in np.unique(labels[labels > 0]):
        region = np.pad(labels == sign, ((0, 0), (down, down), (across, across)))
        region = binary_closing(region, reach)[:, down:-down, across:-across]
        numbered, _ = label(region, alone)
        wide = np.bincount(numbered.ravel()) * float(np.prod(spacing[1:])) >= FEWEST
        wide[0] = False
        large[int(sign)] = wide[numbered]
    regions = np.zeros_like(labels)
    for sign, region in large.items():
        regions[region & (labels == sign)] = sign
    for sign, region in large.items():
        regions[region & (regions == 0)] = sign
    return regions


def white(image: NDArray[np.float32], mask: NDArray[np.uint8] | None) -> float:
    """Prepared intensity that is white at first: the liver is what is read, and on T2W fluid or fat outshine it."""
    liver = image[mask > 0] if mask is not None else image[:0]
    if len(liver):
        return float(np.clip(2.2 * np.median(liver), 0.3, 1.0))
    flesh = image[image > FLESH]
    return float(np.clip(1.7 * np.percentile(flesh, 85), 0.3, 1.0)) if len(flesh) else 1.0


def presets(image: NDArray[np.float32], mask: NDArray[np.uint8] | None, high: float) -> dict[str, list[float]]:
    """Windows to choose from, as the prepared intensities that are black and white; the first is shown at first."""
    liver = image[mask > 0] if mask is not None else image[:0]
    windows = {"liver": [0.0, white(image, mask)]}
    if len(liver) and (middle := float(np.median(liver))) > 0.05:
        windows["liver, narrow"] = [0.5 * middle, 1.5 * middle]
    return {**windows, "whole body": [0.0, 1.0], "fluid and vessels": [0.0, high]}


def overlay_values(explanation: Explanation) -> dict[str, NDArray[np.uint8]]:
    """Sequence -> (slices, rows, columns) uint8: 128 is nothing, 1 as far against as 255 for the score."""
    shown = drawn(explanation).maps
    return {name: np.round(128 + 127 * values).astype(np.uint8) for name, values in shown.items()}


def overlay_words(explanation: Explanation) -> dict[str, Any]:
    """What the viewer writes about an overlay: its name, whether it is of the stage or of a sign, the ends
    of its colour bar and what they amount to."""
    limit = drawn(explanation).limit
    title = map_title(explanation.target)
    title = f"{title[0].upper()}{title[1:]}"
    if not explanation.signed:
        return {
            "title": title,
            "label": f"{explanation.label} ({explanation.target})",
            "signed": False,
            "ends": ["usual", "most"],
            "unit": "",
            "limit": 0.0,
        }
    spacing = next(iter(explanation.grids.values())).spacing
    per_area = limit * 100 / (spacing[1] * spacing[2])
    return {
        "title": title,
        "label": f"{explanation.label}: for {explanation.target} (orange) and against (violet)",
        "signed": True,
        "ends": [f"−{per_area:.2g}", f"+{per_area:.2g} log-odds/cm²"],
        "unit": "log-odds/cm²",
        "limit": per_area,
    }
