"""`cirrnb export`: one patient's masks and maps as files for other programs, NIfTI and DICOM segmentation objects."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cirrnb
from cirrnb.data.atomic_files import file_stem
from cirrnb.data.bag import Bag
from cirrnb.data.dicom import conversion as seg
from cirrnb.data.dicom.importing import DicomFolder, hash_of, list_series
from cirrnb.data.dicom.series import Series
from cirrnb.data.errors import InputError
from cirrnb.data.locks import locked
from cirrnb.data.nifti.reading import read_mask
from cirrnb.data.nifti.saving import save_volume
from cirrnb.data.prepared import PreparedScan
from cirrnb.explanation.explanation import Explanation
from cirrnb.explanation.methods import stage_method_named
from cirrnb.model.trained_model import load_model
from cirrnb.preparation.geometry import Frame
from cirrnb.view.attribution import drawn


def export(
    cohort: Path | str,
    out: Path | str,
    patient: str | None = None,
    *,
    dicom: Path | str | None = None,
    model: Path | str = "shipped",
    method: str = "integrated_gradients",
    prepared: Path | str | None = None,
    tell: Callable[[str], None] = print,
) -> list[Path]:
    """Write for each sequence of a patient the liver mask, where one is known, and the map of an explanation.

    Files are called <patient>_<sequence>_liver and <patient>_<sequence>_<method>, so that several patients may share a
    folder. A file that belongs to another scan is never replaced.

    Parameters
    ----------
    patient : subject, as for the explorer; may be left out where the cohort has one patient.
    dicom : folder with the DICOM series from which the scans were imported; segmentation objects are written as well.

    Returns the files written, on the grid of each scan's own file.

    Raises
    ------
    InputError
        For a method that does not explain the stage, a patient who is not there, a DICOM folder without the series, a
        file of another scan in the way, or a folder that cannot be written.
    """
    stage_method_named(method)
    trained = load_model(model)
    people = cirrnb.read_cohort(cohort, **trained.vocabulary())
    ready = cirrnb.prepare(people, prepared or Path("prepared") / people.name, trained.preparation, progress=False)
    bag = _bag({prepared_bag.subject: prepared_bag for prepared_bag in ready.bags()}, patient)
    looked = None if dicom is None else list_series(dicom)
    series = {} if looked is None else {name: _series_of(scan, looked) for name, scan in bag.scans.items()}
    out = Path(out)
    with locked(out):
        pass  # whether it can be written is known before the wait, in which others may write there
    tell(f"Explaining {bag.subject}; this takes up to a minute.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # its notes are printed below, without lines of code
        explanation = cirrnb.explain(trained, bag, method)
    for note in explanation.notes:
        tell(f"Note: {note}")
    with locked(out):
        written = explanation.to_nifti(out)
        for name, scan in bag.scans.items():
            if scan.scan.mask is not None:
                written.append(_mask_nifti(scan, out / f"{file_stem(bag.subject, name, 'liver')}.nii.gz"))
            if name in series:
                written += _objects(series[name], scan, explanation, out)
    return written


def _bag(bags: dict[str, Bag], patient: str | None) -> Bag:
    if patient is None and len(bags) == 1:
        return next(iter(bags.values()))
    if patient is None or patient not in bags:
        problem = "nobody named" if patient is None else repr(patient)
        expected = f"one of {len(bags)}, for example {list(bags)[:3]}"
        raise InputError("patient", problem, expected, "Give --patient.")
    return bags[patient]


def _series_of(prepared: PreparedScan, looked: DicomFolder) -> Series:
    """The volume from which a scan was imported: by the hash that the import left."""
    known = prepared.scan.extra.get("series")
    for volume in looked.judged:
        if known and hash_of(volume.series) == known:
            return volume.series
    raise InputError(
        looked.path,
        f"no series of the {prepared.scan.sequence} scan of {prepared.scan.subject}",
        "the DICOM folder from which cirrnb import-dicom made it",
        "Give that folder, or leave --dicom out: NIfTI files need none.",
    )


def _mask_nifti(prepared: PreparedScan, path: Path) -> Path:
    """The liver mask on its scan's grid, as it was given."""
    description = f"liver mask{_by(prepared, ' by ')}"
    return save_volume(path, _mask(prepared), prepared.source_grid, scan=prepared.scan.image, description=description)


def _mask(prepared: PreparedScan) -> np.ndarray:
    assert prepared.scan.mask is not None
    return read_mask(prepared.scan.mask, prepared.source_grid)


def _by(prepared: PreparedScan, before: str = "") -> str:
    by = str(prepared.scan.extra.get("mask_by") or "")
    return f"{before}{by}" if by else ""


def _objects(series: Series, prepared: PreparedScan, explanation: Explanation, out: Path) -> list[Path]:
    """The mask (binary) and the map (fractional: what speaks for and against) as segmentation objects."""
    name, grid, version = prepared.scan.sequence, prepared.source_grid, cirrnb.__version__
    written = []
    if prepared.scan.mask is not None:
        liver = seg.Segment(seg.LIVER, _mask(prepared), _by(prepared) or None)
        path = out / f"{file_stem(prepared.scan.subject, name, 'liver')}.dcm"
        written.append(seg.write_segmentation(path, series, grid, [liver], description="liver", version=version))
    shown = Frame.between(grid, prepared.grid).to_source(drawn(explanation).maps[name])
    parts = [(seg.SPEAKS_FOR, shown.clip(0, 1)), (seg.SPEAKS_AGAINST, (-shown).clip(0, 1))]
    segments = [seg.Segment(meaning, values, explanation.model) for meaning, values in parts if values.max() > 0]
    if segments:
        description = f"{explanation.label}, {explanation.target}"
        path = out / f"{file_stem(prepared.scan.subject, name, explanation.method)}.dcm"
        written.append(seg.write_segmentation(path, series, grid, segments, description=description, version=version))
    return written
