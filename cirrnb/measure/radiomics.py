"""The radiomic features of one scan within its mask, computed by MIRP.

Definitions: Zwanenburg et al., *The Image Biomarker Standardization Initiative*, Radiology 2020;295:328. Software:
Zwanenburg & Loeck, *MIRP*, J. Open Source Software 2024;9(99):6413. Textures are taken slice by slice: MR slices of the
liver lie further apart than pixels, and a texture across them would mix two distances.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.mask_perturbation import moved
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.typed_paths import typed_path
from cirrnb.data.workers import Job, Outcome
from cirrnb.measure.masks import check_mask
from cirrnb.measure.measurement import measure_all, read_result, result_path

FAMILIES = {
    "morphology": "morph",
    "statistics": "stat",
    "intensity_histogram": "ih",
    "glcm": "cm",
    "glrlm": "rlm",
    "glszm": "szm",
    "ngtdm": "ngt",
    "ngldm": "ngl",
}
"""MIRP's name of each family, and how its features begin."""

SPATIAL = {
    "glcm": "2d_slice_merge",
    "glrlm": "2d_slice_merge",
    "glszm": "2d",
    "ngtdm": "2d",
    "ngldm": "2d",
}
"""The directions within a slice are merged, slices are averaged (IBSI: SUJT, and 8QNN where there is no direction)."""

LINKED = ("morph_com", "morph_integ_int", "morph_moran_i", "morph_geary_c")
"""Left out: they weigh the shape with intensities, the last two estimated from voxels drawn at random."""

_BEGINNINGS = tuple(f"{short}_" for short in FAMILIES.values())
_SETTING = re.compile(r"(_d\d+(\.\d+)?)?(_a\d+\.\d+)?(_2d(_s_mrg)?)?(_fbn_n\d+)?$")
"""What MIRP appends to a feature's name; the settings say it once for all."""


@dataclass(frozen=True)
class RadiomicsSettings:
    """How radiomic features are computed; the spacing within the slice is that of the preparation.

    Attributes
    ----------
    bins : fixed number of grey levels between the lowest and highest intensity in the mask: intensities of MR have no
        unit, so that bins of a fixed width would mean something else in every scan.
    outliers : intensities further from the mean than this many standard deviations are left out of everything but
        shape (Collewet et al., Magn. Reson. Imaging 2004;22:81); None keeps all.
    """

    bins: int = 32
    outliers: float | None = 3.0

    def __post_init__(self) -> None:
        if not 2 <= self.bins <= 256:
            raise ValueError(f"bins is from 2 to 256, not {self.bins}")
        if self.outliers is not None and not self.outliers > 0:
            raise ValueError(f"outliers is above 0 standard deviations, not {self.outliers}")


@dataclass(frozen=True)
class Radiomics:
    """What was found in one scan.

    Attributes
    ----------
    values : feature -> number; only what could be computed.
    reasons : feature family ("shape", "intensity and texture") -> why there is none.
    remark : what a reader has to know about the mask, or nothing.
    """

    values: dict[str, float]
    reasons: dict[str, str]
    remark: str = ""


def available() -> bool:
    """Whether MIRP is installed and can be loaded."""
    try:
        import mirp  # noqa: F401
    except ImportError:
        return False
    return True


def how_to_install() -> str:
    """What a user reads where MIRP is missing."""
    return 'Radiomics need MIRP, which is not installed: pip install "cirrnb[radiomics]" adds it.'


def recorded(settings: RadiomicsSettings) -> dict[str, Any]:
    """All that shapes a value, for a key and for a reader."""
    return {**asdict(settings), "spatial": SPATIAL, "families": sorted(FAMILIES), "mirp": version("mirp")}


def radiomics(
    image: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing: Iterable[float],
    settings: RadiomicsSettings | None = None,
) -> Radiomics:
    """First order, shape and texture within a mask.

    Parameters
    ----------
    image : (slices, rows, columns) intensities in any unit. mask : same shape.
    spacing : mm between slices, rows and columns.

    Returns
    -------
    Features by IBSI's abbreviations as MIRP writes them (`morph_sphericity`, `stat_mean`, `cm_joint_entr`), volumes in
    mm³, lengths in mm, first order in the image's own unit. A mask of fewer than `masks.FEWEST_VOXELS` voxels has
    none; one slice has no shape; constant intensities have no texture. Each comes with its reason.

    Raises
    ------
    InputError
        If MIRP is missing, or image and mask differ in shape.
    """
    if not available():
        raise InputError("radiomics", "no MIRP", "the package mirp", how_to_install())
    if image.shape != mask.shape or image.ndim != 3:
        shapes = f"an image of {image.shape} and a mask of {mask.shape}"
        raise InputError("radiomics", shapes, "the same three sides", "Use image and mask of one prepared scan.")
    checked = check_mask(mask)
    reasons: dict[str, str] = {}
    if checked.too_small:
        return Radiomics({}, dict.fromkeys(("shape", "intensity and texture"), checked.too_small))
    inside = np.asarray(image, dtype=np.float32)[mask]
    if checked.flat:
        reasons["shape"] = checked.flat
    inside = np.asarray(image, dtype=np.float32)[mask]
    if not np.isfinite(inside).all():
        reasons["intensity and texture"] = "intensities are not finite"
    elif np.ptp(inside) == 0:
        reasons["intensity and texture"] = "all intensities in the mask are equal"
    settings, values = settings or RadiomicsSettings(), dict[str, float]()
    steps = tuple(float(step) for step in spacing)
    if "shape" not in reasons:
        # MIRP takes most of its time for what links shape with intensities; with a constant there is no such link.
        values |= _computed(np.ones(mask.shape, np.float32), mask, steps, ["morphology"], settings)
        values = {name: value for name, value in values.items() if name not in LINKED}
    if "intensity and texture" not in reasons:
        values |= _computed(image, mask, steps, [name for name in FAMILIES if name != "morphology"], settings)
    return Radiomics(values, reasons, checked.remark)


def _computed(
    image: NDArray[np.floating],
    mask: NDArray[np.bool_],
    spacing: tuple[float, ...],
    families: list[str],
    settings: RadiomicsSettings,
) -> dict[str, float]:
    import mirp

    resegmentation: dict[str, Any] = {}
    if settings.outliers is not None and families != ["morphology"]:
        resegmentation = {"resegmentation_method": "sigma", "resegmentation_sigma": settings.outliers}
    with tempfile.TemporaryDirectory(prefix="cirrnb-radiomics-") as folder, _root_logger_kept():
        paths = [Path(folder) / name for name in ("image.nii", "mask.nii")]
        affine = np.diag([*spacing[::-1], 1.0])
        arrays: tuple[NDArray, ...] = (image.astype(np.float32), mask.astype(np.uint8))
        for path, array in zip(paths, arrays, strict=True):
            nib.save(nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine), path)
        tables = mirp.extract_features(
            image=str(paths[0]),
            mask=str(paths[1]),
            image_modality="mr",
            by_slice=False,
            base_feature_families=families,
            base_discretisation_method="fixed_bin_number",
            base_discretisation_n_bins=settings.bins,
            **{f"{family}_spatial_method": method for family, method in SPATIAL.items()},
            **resegmentation,
            write_features=False,
            export_features=True,
        )
    row = tables[0].iloc[0]
    named = {_SETTING.sub("", str(name)): value for name, value in row.items() if str(name).startswith(_BEGINNINGS)}
    return {name: float(value) for name, value in named.items() if np.isfinite(float(value))}


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """MIRP sends every library's messages to standard output unless somebody handles them already."""
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        yield
    finally:
        root.removeHandler(silent)


CHANGES = ("none", "larger", "smaller", "moved")
"""What can be done to a mask to see which features it upsets: one pixel more or less all around within the slice, or
moved by one pixel to the left and back."""


def cohort_radiomics(
    prepared: PreparedCohort,
    out: Path | str,
    settings: RadiomicsSettings | None = None,
    *,
    change: str = "none",
    workers: int | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Radiomic features of every prepared scan.

    Parameters
    ----------
    out : folder where each scan's features are kept, by what the scan, the settings and MIRP's version are. Safe to
        delete; a call that was stopped is continued by the next.
    change : one of `CHANGES`, made to the mask first.
    workers : processes at work; None takes one a processor, 1 works in this process.

    Returns
    -------
    features : one row a scan: subject, sequence, then one column a feature; NaN where the scan has none.
    reasons : subject, sequence, part ("shape", "intensity and texture"), reason; one row for each gap.

    Raises
    ------
    InputError
        If MIRP is missing.
    ValueError
        If there is no such change.
    """
    if not available():
        raise InputError("radiomics", "no MIRP", "the package mirp", how_to_install())
    if change not in CHANGES:
        raise ValueError(f"change is one of {CHANGES}, not {change!r}")
    folder = typed_path(out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    settings = settings or RadiomicsSettings()
    jobs = [_job(scan, settings, change, folder) for scan in prepared.scans]
    measure_all(jobs, run_job, workers, progress, "Radiomics")
    rows, gaps = [], []
    for scan, job in zip(prepared.scans, jobs, strict=True):
        result = read_result(job) or {
            "reasons": dict.fromkeys(("shape", "intensity and texture"), "could not be computed")
        }
        named = {"subject": scan.scan.subject, "sequence": scan.scan.sequence}
        rows.append({**named, **result.get("values", {})})
        gaps += [{**named, "part": part, "reason": reason} for part, reason in result["reasons"].items()]
    return pd.DataFrame(rows), pd.DataFrame(gaps, columns=["subject", "sequence", "part", "reason"])


def run_job(job: Job) -> Outcome:
    """The features of one scan into its file: what a worker does."""
    folder = Path(job["scan"])
    if not (folder / "mask.npy").exists():
        result: dict[str, Any] = {"reasons": dict.fromkeys(("shape", "intensity and texture"), "no liver mask")}
    else:
        image, mask = np.load(folder / "image.npy"), np.load(folder / "mask.npy").astype(bool)
        mask = _changed(mask, job["change"])
        try:
            result = asdict(radiomics(image, mask, job["spacing"], RadiomicsSettings(**job["settings"])))
        except (OSError, ArithmeticError, IndexError, RuntimeError, ValueError) as error:  # a mask that MIRP cannot use
            reason = f"MIRP stopped: {type(error).__name__}: {error}"
            result = {"reasons": dict.fromkeys(("shape", "intensity and texture"), reason)}
    atomic_write(Path(job["file"]), json.dumps(result))
    return {}


def _changed(mask: np.ndarray, change: str) -> np.ndarray:
    from scipy.ndimage import binary_dilation, binary_erosion, generate_binary_structure

    within = generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
    if change == "larger":
        return binary_dilation(mask, within)
    if change == "smaller":
        return binary_erosion(mask, within)
    return moved(mask, np.eye(4), np.array([0.0, 1.0, 1.0])) if change == "moved" else mask


def _job(scan: PreparedScan, settings: RadiomicsSettings, change: str, folder: Path) -> Job:
    request = {"scan": scan.folder.name, "settings": recorded(settings), "change": change}
    return {
        "scan": str(scan.folder),
        "spacing": list(scan.grid.spacing),
        "settings": asdict(settings),
        "change": change,
        "file": result_path(folder, request),
    }
