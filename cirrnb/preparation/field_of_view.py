"""Where the field of view is chosen: large enough for a patient's liver on each scan, and one for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError
from cirrnb.data.given_masks import box_of
from cirrnb.data.json_file import read_object
from cirrnb.data.prepared import MAX_FIELD_OF_VIEW, PreparationSettings
from cirrnb.data.scan import Cohort, Scan
from cirrnb.preparation.fingerprints import Fingerprints, fingerprint
from cirrnb.preparation.standardisation import View, liver_extent

MARGIN = 3.0
"""mm in plane around a liver that a person drew."""
PROGRAM_MARGIN = 12.0
"""mm around a liver that a program drew, in plane and above and below: it may have missed the rim."""
BLOCK = 16
"""Fields of view grow by so many pixels."""


class Extents:
    """Extents of livers in mm, (rows, columns), kept in a file by the content of their masks."""

    def __init__(self, path: Path, fingerprints: Fingerprints) -> None:
        self._path, self._fingerprints = path, fingerprints
        self._new: dict[str, list[float]] = {}

    @cached_property
    def _known(self) -> dict[str, list[float]]:
        try:
            stored = read_object(self._path, "a whole file", "Delete it.", 2**26)
            return {name: [float(value) for value in pair] for name, pair in stored.items() if len(pair) == 2}
        except (OSError, ValueError, TypeError):
            return {}

    def of(self, scan: Scan) -> tuple[float, float] | None:
        """Extent of a scan's liver; None without a mask, or if a file cannot be read, which preparation reports."""
        if scan.mask is None:
            return None
        content = self._fingerprints.recall(scan.mask)
        if content is None:
            try:
                entry = fingerprint(scan.mask)
            except InputError:
                return None
            self._fingerprints.learn(scan.mask, entry)
            content = str(entry[-1])
        extent = self._known.get(content) or self._new.get(content)
        if extent is None:
            try:
                extent = list(liver_extent(scan.image, scan.mask))
            except (InputError, OSError, ValueError, ArithmeticError, MemoryError):
                return None
            self._new[content] = extent
        return extent[0], extent[1]

    def save(self) -> None:
        """Keep what was measured. It is a convenience: where it cannot be written, masks are measured again."""
        if self._new:
            with suppress(OSError):
                atomic_write(self._path, json.dumps({**self._known, **self._new}))


def views_of(cohort: Cohort, settings: PreparationSettings, extents: Extents) -> Mapping[str, View]:
    """Subject -> view, for the patients whose livers want more than the settings' own field of view or margin.

    All scans of a patient get one size. Only where the view is on the liver.
    """
    if settings.view != "liver":
        return {}
    assert settings.field_of_view is not None
    wanted: dict[str, View] = {}
    for scan in cohort.scans:
        box = box_of(scan) if scan.mask is None else None
        extent = extents.of(scan) if box is None else (abs(box[1][1] - box[1][0]), abs(box[0][1] - box[0][0]))
        if extent is None:
            continue
        by_program = bool(scan.extra.get("mask_by"))
        around = PROGRAM_MARGIN if by_program else MARGIN
        before = wanted.get(scan.subject, View(settings.field_of_view, settings.margin))
        rows, columns = (
            _grown(field, size + 2 * around, BLOCK * settings.spacing)
            for field, size in zip(before.field, extent, strict=True)
        )
        wanted[scan.subject] = View((rows, columns), max(before.margin, around if by_program else 0.0))
    extents.save()
    usual = View(settings.field_of_view, settings.margin)
    return {subject: view for subject, view in wanted.items() if view != usual}


def view_of(scan: Scan, settings: PreparationSettings, views: Mapping[str, View]) -> View | None:
    """The view of one scan: its patient's, and the box that a reader drew on it."""
    view = views.get(scan.subject)
    box = box_of(scan) if scan.mask is None and settings.view == "liver" else None
    if box is None:
        return view
    assert settings.field_of_view is not None
    return replace(view or View(settings.field_of_view, settings.margin), box=box)


def _grown(field: float, wanted: float, step: float) -> float:
    """A field of view in mm that holds what is wanted, grown in whole steps, and never beyond the largest."""
    grown = field + step * max(0, int(np.ceil((wanted - field) / step)))
    return min(grown, max(field, MAX_FIELD_OF_VIEW))
