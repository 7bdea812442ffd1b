"""A file's bytes: what kind of file they begin, and gzip unpacked within limits."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from types import TracebackType

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

BLOCK = 2**20
"""Bytes of a packed file taken at a time."""

MAX_MEMBERS = 20_000
"""Most gzip members of a file: bgzip begins one for each 64 kB, so that the largest scan has half as many."""

SAVE_AGAIN = "Copy or download the file again, or export it again from its source."
"""Remedy for a file that was damaged on its way."""


def kind_of(start: bytes) -> str | None:
    """The kind of a file that begins with these bytes, as "a JPEG picture", or None if it is unknown."""
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


class ByteStream:
    """A file's bytes in order, unpacked if it is gzip, under any name.

    zlib itself verifies gzip's checksum once the end is reached, and is faster than the gzip module, which
    passes small pieces through Python.
    """

    def __init__(self, path: Path):
        self._path, self.position, self._members = path, 0, 1
        try:
            self._file = path.open("rb")
            self.compressed = self._file.peek(2)[:2] == b"\x1f\x8b"
        except OSError as error:
            raise self._unreadable(error) from error
        self._unpacker = zlib.decompressobj(wbits=31)

    def __enter__(self) -> ByteStream:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only where the file ends."""
        try:
            data = self._unpack(size) if self.compressed else self._file.read(size)
        except OSError as error:
            raise self._unreadable(error) from error
        except zlib.error as error:
            raise InputError(
                self._path, f"damaged gzip data ({error})", "gzip data that unpacks", SAVE_AGAIN
            ) from error
        self.position += len(data)
        return data

    def finish(self) -> None:
        """Read on to gzip's checksum, so that damaged voxels are detected; a long tail is not read."""
        if self.compressed and not self._unpacker.eof and len(self.read(BLOCK)) < BLOCK and not self._unpacker.eof:
            raise InputError(self._path, "gzip data that is cut short", "gzip data up to its checksum", SAVE_AGAIN)

    def _unpack(self, size: int) -> bytes:
        pieces = io.BytesIO()
        while (missing := size - pieces.tell()) > 0:
            if self._unpacker.eof:  # gzip files may be several members one after the other
                rest = self._unpacker.unused_data or self._file.read(BLOCK)
                if not rest.startswith(b"\x1f\x8b"):
                    break
                self._members += 1
                if self._members > MAX_MEMBERS:
                    problem = f"gzip data in more than {MAX_MEMBERS} pieces"
                    raise InputError(self._path, problem, "one piece, or blocks of 64 kB", SAVE_AGAIN)
                self._unpacker = zlib.decompressobj(wbits=31)
            else:
                rest = self._unpacker.unconsumed_tail or self._file.read(BLOCK)
            pieces.write(self._unpacker.decompress(rest, missing))
            if not rest and not self._unpacker.eof:
                break
        return pieces.getvalue()

    def _unreadable(self, error: OSError) -> InputError:
        if isinstance(error, FileNotFoundError):
            return InputError(self._path, "no such file", "a NIfTI file", "Correct the path or restore the file.")
        return InputError(
            self._path,
            f"a file that cannot be opened ({error.strerror or error})",
            "a readable NIfTI file",
            "Check the file's rights and the disk.",
        )
