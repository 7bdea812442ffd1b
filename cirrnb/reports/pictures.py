"""Slices as pictures for a page that is printed: key slices, and those that mattered with the map on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cirrnb.data.bag import Bag
from cirrnb.data.prepared import PreparedScan
from cirrnb.explanation.explanation import Explanation
from cirrnb.reports.patient_report import SlicePicture, SliceRows
from cirrnb.view.attribution import slices_that_count
from cirrnb.view.images import grey_picture, overlay_picture
from cirrnb.view.slices import Slice
from cirrnb.viewer.panes import white


def key_slices(bag: Bag, count: int = 3) -> SliceRows:
    """Slices at even heights through the liver (through the scan where it is not outlined), as acquired, from the head
    down, a row a sequence."""
    windows = _windows(bag)
    rows: dict[str, list[Slice | None]] = {}
    for name, prepared in bag.scans.items():
        rows[name] = [_slice_at(prepared, index, windows[name]) for index in _heights(prepared, count)]
    return _pictures(rows)


def slices_that_mattered(bag: Bag, explanation: Explanation, count: int = 3) -> SliceRows:
    """Those with the largest Shapley values, without and with the map."""
    return _pictures(slices_that_count(bag, explanation, count=count, windows=_windows(bag)))


def _windows(bag: Bag) -> dict[str, tuple[float, float]]:
    """The explorer's first window: the liver is what is read."""
    windows = {}
    for name, prepared in bag.scans.items():
        mask = None if prepared.mask is None else np.asarray(prepared.mask, dtype=np.uint8)
        windows[name] = (0.0, white(np.nan_to_num(np.asarray(prepared.image, dtype=np.float32)), mask))
    return windows


def _heights(prepared: PreparedScan, count: int) -> list[int]:
    held = np.arange(prepared.grid.shape[0])
    if prepared.mask is not None:
        held = np.flatnonzero(np.asarray(prepared.mask).any(axis=(1, 2)))
    fractions = (np.arange(count) + 1) / (count + 1)
    return sorted({int(held[round(fraction * (len(held) - 1))]) for fraction in fractions}, reverse=True)


def _slice_at(prepared: PreparedScan, index: int, window: tuple[float, float]) -> Slice:
    image = np.asarray(prepared.image[index], dtype=np.float32)
    return Slice(np.nan_to_num(image), prepared.grid.spacing[1:], float(prepared.positions[index]), window=window)


def _pictures(rows: Mapping[str, Sequence[Slice | None]]) -> SliceRows:
    return {name: tuple(None if one is None else _picture(one) for one in slices) for name, slices in rows.items()}


def _picture(shown: Slice) -> SlicePicture:
    height, width = (size * step for size, step in zip(shown.pixels.shape, shown.spacing, strict=True))
    return SlicePicture(
        image=grey_picture(shown.pixels, shown.window),
        overlay="" if shown.overlay is None else overlay_picture(shown.overlay, 1.0),
        position=shown.position,
        width=width,
        height=height,
        caption=shown.caption,
    )
