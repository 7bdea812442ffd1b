"""The reader's word on an outline: reject it, draw a box for the view instead, or take it back.

Nothing of the cohort is overwritten: a rejection holds until the explorer is closed.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets
import numpy as np

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.given_masks import Box, is_rejected, reject_mask
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.scan import Cohort
from cirrnb.data.stage_scale import StageScale
from cirrnb.viewer.widget import SliceCanvas

Act = Callable[[str, Box | None], None]


class OutlineTools(widgets.VBox):
    """Buttons to reject the outline of a scan, and sliders of a box; dragging with Shift on the picture draws it too.

    Parameters
    ----------
    canvas : where the box is shown.
    reject : called with the sequence and the box that was drawn, or None.
    restore : called with the sequence whose rejection is taken back.
    """

    def __init__(self, canvas: SliceCanvas, reject: Act, restore: Callable[[str], None]):
        self._canvas, self._reject, self._restore_scan = canvas, reject, restore
        self._bag: Bag | None = None
        self._rejected: frozenset[str] = frozenset()
        self._silent = False
        self.sequence = widgets.Dropdown(description="Outline of", layout={"width": "200px"})
        self.reject = widgets.Button(description="Reject this outline", icon="times")
        self.restore = widgets.Button(description="Take back", icon="undo")
        self.draw = widgets.ToggleButton(value=False, description="Draw a box", icon="square-o")
        self.use = widgets.Button(description="Use this box", icon="check")
        wide = {"width": "420px"}
        self.sides = tuple(
            widgets.FloatRangeSlider(description=words, min=0, max=1, step=1, readout_format=".0f", layout=wide)
            for words in ("Right-left", "Front-back", "Height")
        )
        for slider in self.sides:
            slider.style.description_width = "80px"
        hint = widgets.HTML("<p class='cn-small'>mm; or drag on the picture with Shift held down.</p>")
        self.box = widgets.VBox([*self.sides, widgets.HBox([self.use, hint])])
        row = widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="4px 12px")
        super().__init__([widgets.HBox([self.sequence, self.reject, self.draw, self.restore], layout=row), self.box])
        self.sequence.observe(lambda change: self._chosen(), "value")
        self.draw.observe(lambda change: self._drawing(), "value")
        for slider in self.sides:
            slider.observe(lambda change: self._show_box(), "value")
        self.reject.on_click(lambda button: self._reject(self.sequence.value, None))
        self.restore.on_click(lambda button: self._restore_scan(self.sequence.value))
        self.use.on_click(lambda button: self._reject(self.sequence.value, self.box_in_mm()))
        canvas.on_box = self._drawn
        self.show(None, frozenset())

    def show(self, bag: Bag | None, rejected: frozenset[str]) -> None:
        """Another patient, whose outlines of the sequences in `rejected` were rejected; None for nobody."""
        self._bag, self._rejected = bag, rejected
        self.draw.value = False
        names = list(bag.scans) if bag is not None else []
        chosen = self.sequence.value
        self.sequence.options = names
        if names:
            self.sequence.value = chosen if chosen in names else names[0]
        self.layout.display = "" if names else "none"
        self._chosen()

    def box_in_mm(self) -> Box:
        """The box of the sliders, in mm (RAS+) along x, y and z."""
        x, y, z = ((float(slider.value[0]), float(slider.value[1])) for slider in self.sides)
        return x, y, z

    @property
    def _scan(self) -> PreparedScan | None:
        return self._bag.scans.get(self.sequence.value) if self._bag is not None and self.sequence.value else None

    def _chosen(self) -> None:
        """What can be done with the outline of the chosen scan."""
        scan = self._scan
        self.reject.disabled = scan is None or scan.mask is None
        self.draw.disabled = scan is None or scan.settings.view != "liver"  # elsewhere the view is the body's
        self.restore.layout.display = "" if self.sequence.value in self._rejected else "none"
        self._drawing()

    def _drawing(self) -> None:
        scan = self._scan
        shown = self.draw.value and scan is not None
        self.box.layout.display = "" if shown else "none"
        if scan is None:
            return
        if not shown:
            self._canvas.show_box(self.sequence.value, None)
            return
        low, high = _corners(scan)
        self._silent = True
        for slider, first, last in zip(self.sides, low, high, strict=True):
            slider.min, slider.max = min(slider.min, float(first)), max(slider.max, float(last))
            slider.min, slider.max = float(np.floor(first)), float(np.ceil(last))
            inner = (0.1 if slider is not self.sides[2] else 0.0) * (last - first)
            slider.value = (float(first + inner), float(last - inner))
        self._silent = False
        self._show_box()

    def _show_box(self) -> None:
        scan = self._scan
        if scan is None or self._silent or not self.draw.value:
            return
        low, high = (np.array([pair[end] for pair in self.box_in_mm()]) for end in (0, 1))
        voxels = np.sort(np.stack([_voxels(scan, low), _voxels(scan, high)]), axis=0)
        slices, rows, columns = voxels.T.tolist()
        self._canvas.show_box(self.sequence.value, {"slices": slices, "rows": rows, "columns": columns})

    def _drawn(self, name: str, rows: tuple[float, float], columns: tuple[float, float]) -> None:
        """A box that was drawn on the picture of a scan becomes that of the sliders."""
        if self._bag is None or name not in self._bag.scans or self._bag.scans[name].settings.view != "liver":
            return
        self.sequence.value = name
        self.draw.value = True
        scan = self._bag.scans[name]
        corners = np.array([(0, rows[end] - 0.5, columns[end] - 0.5) for end in (0, 1)])
        x, y = np.sort(scan.grid.to_patient(corners), axis=0).T[:2]
        self._silent = True
        self.sides[0].value, self.sides[1].value = (float(x[0]), float(x[1])), (float(y[0]), float(y[1]))
        self._silent = False
        self._show_box()


def _corners(scan: PreparedScan) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest mm (RAS+) of a prepared scan's voxels, edges included."""
    ends = np.array([[-0.5] * 3, np.array(scan.grid.shape) - 0.5])
    places = scan.grid.to_patient(ends)
    return places.min(axis=0), places.max(axis=0)


def _voxels(scan: PreparedScan, place: np.ndarray) -> np.ndarray:
    """Slice, row and column of a place in mm, counted from the edge of the first voxel."""
    return np.asarray((np.linalg.inv(scan.grid.affine) @ [*place, 1.0])[:3] + 0.5)


def without_outline(bag: Bag, name: str, box: Box | None, stages: StageScale) -> Bag:
    """The patient prepared anew without the outline of one scan; its view is the box, or the middle of the body.

    `stages` are the cohort's. Raises InputError where the scan cannot be prepared, and what `cirrnb.prepare` raises.
    """
    scans = {sequence: prepared.scan for sequence, prepared in bag.scans.items()}
    scans[name] = reject_mask(scans[name], box)
    first = next(iter(bag.scans.values()))
    ready = cirrnb.prepare(
        Cohort(tuple(scans.values()), sequences=bag.sequences, stages=stages),
        first.folder.parent,
        first.settings,
        masks="given",
        workers=1,
        progress=False,
    )
    if len(ready.failures):
        reason = str(ready.failures.iloc[0]["reason"])
        raise InputError(f"the {name} scan", reason, "a scan that can be prepared", "Take the rejection back.")
    return ready.bags()[0]


def rejections(bag: Bag) -> frozenset[str]:
    """Sequences of a bag whose outline a reader rejected."""
    return frozenset(name for name, prepared in bag.scans.items() if is_rejected(prepared.scan))
