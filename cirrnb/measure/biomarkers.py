"""All biomarkers of one scan, each with its value or the reason why there is none."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid, Orientation
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.scan import Scan
from cirrnb.data.typed_paths import typed_path
from cirrnb.data.workers import Job, Outcome
from cirrnb.measure.masks import check_mask
from cirrnb.measure.measurement import Measurement, measure_all, read_result, result_path
from cirrnb.measure.organs import is_by_program, read_organs
from cirrnb.measure.shape_and_signal import (
    SHORTEST,
    heterogeneity,
    inner,
    length,
    nodularity,
    signal_ratio,
    sphericity,
    volume,
)

SMITH = "after Smith et al., Radiology 2016;280:771"
ITO = "Ito et al., a predictor of progression on MR"
HEO = "after Heo et al. 2022"

UNITS = {
    "liver volume": "mL",
    "surface nodularity": "mm",
    "sphericity": "",
    "signal heterogeneity": "%",
    "liver-to-spleen signal": "",
    "liver-to-muscle signal": "",
    "spleen volume": "mL",
    "spleen length": "mm",
    "ascites volume": "mL",
    "liver-to-spleen volume": "",
    "caudate-to-right-lobe volume": "",
}
"""Every biomarker and its unit, in the order of tables."""

SOURCES = {
    "surface nodularity": SMITH,
    "sphericity": "Wadell 1935",
    "spleen volume": ITO,
    "liver-to-spleen volume": HEO,
    "liver-to-spleen signal": HEO,
    "caudate-to-right-lobe volume": ITO,
}

_UNLIKE = "no published range: signals depend on sequence and contrast agent"

REFERENCES = {
    "liver volume": "825 to 1895 mL (mean ± 1.96 SD of 1248 adults with healthy livers, MRI; Eur J Radiol 2018;106:32)",
    "spleen volume": "107 to 315 mL (all of 140 adults, CT; Prassopoulos et al., Eur Radiol 1997;7:246)",
    "spleen length": "58 to 141 mm (mean ± 1.96 SD of 212 adults, CT; Caglar et al., Folia Morphol 2014;73:331)",
    "ascites volume": "none in healthy adults",
    "caudate-to-right-lobe volume": "published ranges are of widths (0.65; Harbin et al., Radiology 1980;135:273)",
    "surface nodularity": "no range: depends on who drew the contour",
    "liver-to-spleen signal": _UNLIKE,
    "liver-to-muscle signal": _UNLIKE,
}
"""Range in healthy adults with its source, by biomarker."""

NO_ORGANS = "no segmentation of other organs"
UNUSABLE = "the segmentation of other organs cannot be used"
ASCITES_NOTE = "little or spurious fluid cannot be told apart below about 50 mL"
NO_LIVER = (None, "no liver mask")
_SPLEEN_NOTE = "on real scans the program misses most of the spleen (docs/real_people.md): look at its outline"
PROGRAM_NOTES = {
    "spleen volume": _SPLEEN_NOTE,
    "spleen length": _SPLEEN_NOTE,
    "liver-to-spleen volume": _SPLEEN_NOTE,
    "liver-to-spleen signal": _SPLEEN_NOTE,
    "caudate-to-right-lobe volume": "on real scans the program finds hardly any caudate lobe: look at its outline",
}
"""Caveats of measurements on organs that the segmenter of the package outlined."""

Found = dict[str, tuple[float | None, str]]
"""Biomarker -> value and note."""


def is_doubted(measurement: Measurement) -> bool:
    """True if a value rests on an outline of the package's own that is known to fail on real scans."""
    caveat = PROGRAM_NOTES.get(measurement.name)
    return measurement.value is not None and caveat is not None and caveat in measurement.note


def biomarkers(scan: Scan) -> list[Measurement]:
    """Measure one scan as it was acquired, from its file and masks.

    Parameters
    ----------
    scan : with `mask`, the liver; in `extra["organs"]` the path of a segmentation of other organs, if there is one.

    Returns
    -------
    One `Measurement` for each of `UNITS`. A missing mask, a mask of a few voxels or of one slice, signals without
    variation, organs that nobody outlined: the value is None and the note says why.

    Raises
    ------
    InputError
        If a file cannot be read or a mask lies elsewhere than its scan.
    """
    image, source = read_volume(scan.image)
    orientation = Orientation.of(source)
    grid, image = orientation.grid(source), orientation.apply(image)
    liver = orientation.apply(read_mask(scan.mask, source)) if scan.mask else None
    organs, missing, by_program = _organs(scan, source, orientation)
    values = _of_liver(image, liver, grid) | _of_organs(image, liver, organs, missing, grid)
    for name, caveat in PROGRAM_NOTES.items() if by_program else ():
        value, note = values[name]
        if value is not None:
            values[name] = value, f"{note}; {caveat}" if note else caveat
    return [
        Measurement(name, values[name][0], unit, values[name][1], SOURCES.get(name, ""), REFERENCES.get(name, ""))
        for name, unit in UNITS.items()
    ]


def biomarkers_or_reasons(scan: Scan) -> list[Measurement]:
    """As `biomarkers`, but a file that cannot be used is a reason and no error: a segmentation of other organs takes
    away what needs it and nothing else, an image or a liver mask takes away all."""
    try:
        return biomarkers(scan)
    except InputError as error:
        reason = error.found
    if scan.extra.get("organs"):
        alone = biomarkers_or_reasons(replace(scan, extra={}))
        return [
            replace(measurement, note=f"{UNUSABLE}: {reason}") if measurement.note == NO_ORGANS else measurement
            for measurement in alone
        ]
    return [Measurement(name, None, unit, reason, SOURCES.get(name, "")) for name, unit in UNITS.items()]


def measurements_of(bag: Bag) -> dict[str, tuple[Measurement, ...]]:
    """Sequence -> measurements of that scan; those that need other organs only if these are segmented."""
    return {
        name: tuple(reason for reason in biomarkers_or_reasons(prepared.scan) if reason.note != NO_ORGANS)
        for name, prepared in bag.scans.items()
    }


def _of_liver(image: NDArray, liver: NDArray[np.bool_] | None, grid: Grid) -> Found:
    names = ("liver volume", "surface nodularity", "sphericity", "signal heterogeneity")
    if liver is None:
        return dict.fromkeys(names, NO_LIVER)
    checked = check_mask(liver)
    if checked.too_small:
        return dict.fromkeys(names, (None, checked.too_small))
    values: Found = {"liver volume": (volume(liver, grid), checked.remark)}
    uneven = nodularity(liver, grid)
    values["surface nodularity"] = (uneven, "" if uneven is not None else f"no outline longer than {SHORTEST:.0f} mm")
    round_ = None if checked.flat else sphericity(liver, grid)
    values["sphericity"] = (round_, checked.flat or checked.remark)
    varied = heterogeneity(image, liver, grid)
    values["signal heterogeneity"] = (varied, "" if varied is not None else "no signal inside the liver's rim")
    return values


def _of_organs(
    image: NDArray,
    liver: NDArray[np.bool_] | None,
    organs: dict[str, NDArray[np.bool_]],
    missing: str,
    grid: Grid,
) -> Found:
    spleen, muscle = organs.get("spleen"), organs.get("muscle")
    values: Found = dict.fromkeys(("spleen volume", "spleen length"), _absent("spleen", organs, missing))
    if spleen is not None:
        values["spleen volume"] = (volume(spleen, grid), check_mask(spleen).remark)
        values["spleen length"] = (length(spleen, grid), check_mask(spleen).remark)
    ascites = organs.get("ascites")
    values["ascites volume"] = (
        _absent("ascites", organs, missing) if ascites is None else (volume(ascites, grid), ASCITES_NOTE)
    )
    inside = None if liver is None else inner(liver, grid)
    for name, other in (("spleen", spleen), ("muscle", muscle)):
        if other is None or inside is None:
            values[f"liver-to-{name} signal"] = _absent(name, organs, missing) if inside is not None else NO_LIVER
        else:
            ratio = signal_ratio(image, inside, inner(other, grid))
            values[f"liver-to-{name} signal"] = (
                ratio,
                "" if ratio is not None else f"no signal inside liver or {name}",
            )
    if spleen is None or liver is None:
        values["liver-to-spleen volume"] = _absent("spleen", organs, missing) if liver is not None else NO_LIVER
    else:
        values["liver-to-spleen volume"] = (volume(liver, grid) / volume(spleen, grid), "")
    lobes = [organs.get(name) for name in ("caudate", "right lobe")]
    if lobes[0] is None or lobes[1] is None:
        absent = "caudate" if lobes[0] is None else "right lobe"
        values["caudate-to-right-lobe volume"] = _absent(absent, organs, missing)
    else:
        values["caudate-to-right-lobe volume"] = (volume(lobes[0], grid) / volume(lobes[1], grid), "")
    return values


def _absent(organ: str, organs: dict[str, NDArray[np.bool_]], missing: str) -> tuple[None, str]:
    return None, missing or f"the segmentation of other organs has no {organ}"


def _organs(scan: Scan, source: Grid, orientation: Orientation) -> tuple[dict[str, NDArray[np.bool_]], str, bool]:
    """Masks (slices, rows, columns) by organ; where there are none, why; whether the package's program drew them."""
    named = scan.extra.get("organs")
    if not named or not isinstance(named, str):
        return {}, NO_ORGANS, False
    path = Path(named)
    path = path if path.is_absolute() else scan.image.parent / path
    masks = {name: orientation.apply(mask) for name, mask in read_organs(path, source).items()}
    return masks, "", is_by_program(path)


VERSION = 4
"""Raise it when the same scan comes out otherwise than before."""


def cohort_biomarkers(
    prepared: PreparedCohort, out: Path | str, *, workers: int | None = None, progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Biomarkers of every prepared scan, measured on the file it was prepared from.

    Parameters
    ----------
    out : folder where each scan's biomarkers are kept; safe to delete. An interrupted call resumes.
    workers : number of processes; None takes one per processor, 1 works in this process.

    Returns
    -------
    values : one row per scan: subject, sequence, then one column for each of `UNITS`; NaN where missing.
    reasons : subject, sequence, part (the biomarker), reason; one row per missing value.
    """
    folder = typed_path(out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [_job(scan, folder) for scan in prepared.scans]
    measure_all(jobs, run_job, workers, progress, "Biomarkers")
    rows, gaps = [], []
    for scan, job in zip(prepared.scans, jobs, strict=True):
        named = {"subject": scan.scan.subject, "sequence": scan.scan.sequence}
        measurements = (read_result(job) or {}).get("found") or _none("could not be measured")
        rows.append({**named, **{each["name"]: each["value"] for each in measurements}})
        gaps += [
            {**named, "part": each["name"], "reason": each["note"]} for each in measurements if each["value"] is None
        ]
    values = pd.DataFrame(rows, columns=["subject", "sequence", *UNITS])
    return values.astype(dict.fromkeys(UNITS, float)), pd.DataFrame(
        gaps, columns=["subject", "sequence", "part", "reason"]
    )


def run_job(job: Job) -> Outcome:
    """The biomarkers of one scan into its file: what a worker does."""
    mask = Path(job["mask"]) if job["mask"] else None
    scan = Scan(patient="one", sequence="T1W", image=Path(job["image"]), mask=mask, extra={"organs": job["organs"]})
    try:
        rows: list[dict[str, Any]] = [asdict(reason) for reason in biomarkers_or_reasons(scan)]
    except MemoryError:
        rows = _none("too little memory for it")
    atomic_write(Path(job["file"]), json.dumps({"found": rows}))
    return {}


def _none(reason: str) -> list[dict[str, Any]]:
    return [{"name": name, "value": None, "note": reason} for name in UNITS]


def _job(scan: PreparedScan, folder: Path) -> Job:
    organs = scan.scan.extra.get("organs")
    organs = organs if isinstance(organs, str) and organs else None
    request: dict[str, Any] = {"scan": scan.folder.name, "version": VERSION, "organs": organs}
    if organs:
        path = scan.scan.image.parent / organs  # an absolute path stays as it is
        organs = str(path)
        request["look"] = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None
    return {
        "image": str(scan.scan.image.absolute()),
        "mask": str(scan.scan.mask.absolute()) if scan.scan.mask else None,
        "organs": organs,
        "file": result_path(folder, request),
    }
