"""Files of other kinds under a NIfTI name: what they are, told by their first bytes, and the way out of each."""

from __future__ import annotations

from pathlib import Path

from cirrnb.data.errors import InputError

_CONVERT = "Convert it, for example from DICOM with dcm2niix or cirrnb import-dicom, or correct the path."
_NO_SCAN = "Pictures hold no mm and no grey values of the scanner. Ask for the scan in DICOM, then cirrnb import-dicom."
_KINDS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\xff\xd8\xff", "a JPEG picture", _NO_SCAN),
    (0, b"\x89PNG", "a PNG picture", _NO_SCAN),
    (0, b"GIF8", "a GIF picture", _NO_SCAN),
    (4, b"ftyp", "a picture or film of a phone (HEIC or MP4)", _NO_SCAN),
    (0, b"%PDF", "a PDF document", _NO_SCAN),
    (128, b"DICM", "a DICOM file", "Import it with its whole folder: cirrnb import-dicom FOLDER OUT (or dcm2niix)."),
    (0, b"PK\x03\x04", "a ZIP archive", "Unpack it first, and give what is in it."),
    (0, b"NRRD", "an NRRD file", "Convert it to NIfTI, for example by saving it as .nii.gz in 3D Slicer."),
    (0, b"<", "a web page or XML text", "Download the file again: this is a message, not the scan."),
    (0, b"version https://git-lfs", "a Git LFS pointer and not the file", "Fetch the file itself: git lfs pull."),
)
"""Where, which bytes, what it is, what to do."""


def kind_of(start: bytes) -> str | None:
    """What begins with these bytes, as "a JPEG picture", or None where nobody knows."""
    return next((kind for place, mark, kind, _ in _KINDS if start[place : place + len(mark)] == mark), None)


def not_nifti(path: Path, start: bytes) -> InputError:
    """What a file that begins with these bytes is instead of NIfTI."""
    expected = "NIfTI (.nii or .nii.gz)"
    if not start:
        return InputError(path, "an empty file", expected, _CONVERT)
    for place, mark, kind, remedy in _KINDS:
        if start[place : place + len(mark)] == mark:
            return InputError(path, f"{kind}, not NIfTI", expected, remedy)
    return InputError(path, "a file that is not NIfTI", expected, _CONVERT)
