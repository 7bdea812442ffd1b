"""Simulated patients written as DICOM studies, as a hospital's inbox holds them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from dicom_phantoms import T1, T2, write_series

import cirrnb
from cirrnb.data.scan import Cohort

TAGS = {"T1W": T1, "T2W": T2}


def simulated(folder: Path, patients: int = 2, seed: int = 5, scale: str = "tiny") -> Cohort:
    """Simulated patients of a few slices each, as NIfTI."""
    return cirrnb.simulate_cohort(folder, patients, seed=seed, scale=scale, healthy=0, workers=1, progress=False)


def write_study(
    folder: Path, cohort: Cohort, place: int, *, sequences: Collection[str] = ("T1W", "T2W"), **tags: Any
) -> list[Path]:
    """The scans of a cohort's patient as DICOM series of one study of its own; `tags` are those of every file."""
    names = [scan.subject for scan in cohort.scans]
    subject = [name for name in dict.fromkeys(names) if names.count(name) == 2][place]  # some lack a sequence
    known: dict[str, Any] = {"study": f"1.2.826.0.1.{place + 1}", "PatientID": f"PID-{place}"}
    known |= {"PatientName": f"Patient^Number{place}", **tags}
    written = []
    for number, name in enumerate(sequences, 1):
        scan = next(one for one in cohort.scans if one.subject == subject and one.sequence == name)
        image = nib.as_closest_canonical(nib.load(scan.image))
        written += write_scan(folder / f"series{number}", image, TAGS[name], number=number, **known)
    return written


def write_scan(folder: Path, image: nib.Nifti1Image, says: dict[str, Any], **tags: Any) -> list[Path]:
    """A NIfTI image whose axes are RAS+ as a DICOM series."""
    values = np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)  # RAS to slices, rows, columns in LPS
    far = image.affine @ [image.shape[0] - 1, image.shape[1] - 1, 0, 1]
    across, down, apart = (float(one) for one in image.header.get_zooms()[:3])
    place = {"origin": (-far[0], -far[1], far[2]), "spacing": (down, across), "apart": apart}
    return write_series(folder, says, voxels=values.astype(np.int16), **place, **tags)
