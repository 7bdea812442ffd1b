"""The DICOM files of a folder, each reduced to the few attributes that decide what it is and where it lies."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.nifti.file_bytes import kind_of

if TYPE_CHECKING:
    from pydicom import Dataset

_IDENTITY = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
_PERSON = ("PatientAge", "PatientSex", "StudyDate")
_WHOSE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality", "FrameOfReferenceUID")
_SAID = ("SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName", "BodyPartExamined", "ImageType")
_PHYSICS = (
    *("ScanningSequence", "EchoPulseSequence", "RepetitionTime", "EchoTime", "InversionTime", "FlipAngle"),
    *("AcquisitionContrast", "DiffusionBValue", "MagneticFieldStrength", "Manufacturer", "ContrastBolusAgent"),
)
_VOLUME = (
    *("TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber", "NumberOfFrames", "DerivationDescription"),
    *("AcquisitionTime", "ContentTime", "TriggerTime", "ContrastBolusStartTime"),
)
_PICTURE = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation"),
    *("RescaleSlope", "RescaleIntercept", "BurnedInAnnotation"),
)
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_WANTED = [*_IDENTITY, *_PERSON, *_WHOSE, *_SAID, *_PHYSICS, *_VOLUME, *_PICTURE, *_GROUPS]

_ALIASES = {"EffectiveEchoTime": "EchoTime", "FrameType": "ImageType", "InversionTimes": "InversionTime"}
"""Names of enhanced objects for what classic ones call otherwise."""

_ELEMENT = 8
"""Bytes that begin a data element, at least."""

_ECHO = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": "RM"}


@dataclass(frozen=True, eq=False)
class Instance:
    """One DICOM file.

    Attributes
    ----------
    path : where it lies.
    tags : attributes by their DICOM keyword, those of an enhanced object's first frame among them; absent where the
        file says nothing.
    positions : (frames, 3) centre of the first voxel of each frame in mm, LPS as in DICOM; no row where it has none.
    orientations : (frames, 6) directions of a row and of a column of each frame, LPS; no row where it has none.
    spacings : (frames, 2) mm between rows and between columns of each frame; no row where it has none.
    begin : byte at which the pictures begin, after the header.
    syntax : UID of the transfer syntax.
    short : bytes by which the file is too small for the pictures that it claims; 0 where it is large enough or packed.
    excess : bytes of pictures beyond those that it claims, likewise.
    """

    path: Path
    tags: Mapping[str, Any]
    positions: NDArray[np.float64]
    orientations: NDArray[np.float64]
    spacings: NDArray[np.float64]
    syntax: str
    begin: int
    short: int = 0
    excess: int = 0

    @property
    def person(self) -> tuple[str, ...]:
        """Identity of the patient, to separate patients; never written anywhere."""
        known = [str(self.tags.get(name, "")).strip() for name in _IDENTITY]
        return tuple(known[:2]) if known[0] else tuple(known[2:])

    @property
    def frames(self) -> int:
        return int(self.tags.get("NumberOfFrames") or 1)


@dataclass
class DicomFiles:
    """The DICOM files of a folder, and the skipped files by reason."""

    instances: list[Instance] = field(default_factory=list)
    skipped: dict[str, list[Path]] = field(default_factory=dict)

    def skip(self, reason: str, path: Path) -> None:
        self.skipped.setdefault(reason, []).append(path)


def find_instances(folder: Path) -> DicomFiles:
    """Every DICOM file with a picture under a folder, once; pixels are not read.

    Links are not followed. They, and files that are no DICOM, are damaged, repeat another or hold no picture, are
    counted in `skipped`.

    Raises
    ------
    InputError
        If there is no such folder, or no DICOM file with a picture in it.
    """
    if not folder.is_dir():
        problem = "a file" if folder.exists() else "no such folder"
        raise InputError(folder, problem, "a folder with DICOM files", "Give the folder that was exported or copied.")
    result = DicomFiles()
    read: dict[str, list[Instance]] = {}
    for path in _files(folder):
        outcome = _LINK if path.is_symlink() else read_instance(path)
        if isinstance(outcome, str):
            result.skip(outcome, path)
        else:
            read.setdefault(str(outcome.tags["SOPInstanceUID"]), []).append(outcome)
    for copies in read.values():
        for instance in _different(copies, result) if len(copies) > 1 else copies:
            result.instances.append(instance)
    if not result.instances:
        reasons = [f"{len(paths)} {reason}" for reason, paths in result.skipped.items()]
        raise InputError(
            folder,
            "no DICOM picture" + (f" ({'; '.join(reasons)})" if reasons else ", the folder is empty"),
            "MR pictures in DICOM, at any depth",
            _COPY if _LINK in result.skipped else "Give the folder that was exported or copied from the disc.",
        )
    return result


_LINK = "links, which are not followed"
_COPY = "Give the folder to which the links point, or copy it with the files they point to (cp -rL)."


def _different(copies: list[Instance], result: DicomFiles) -> Iterator[Instance]:
    """Those of equal SOPInstanceUID that are other pictures: some programs that remove names give all files one UID."""
    seen = set()
    for instance in copies:
        with instance.path.open("rb") as file:
            file.seek(instance.begin)
            content = hashlib.file_digest(file, "sha256").digest()
        picture = (str(instance.tags["SeriesInstanceUID"]), instance.positions.tobytes(), content)
        if picture in seen:
            result.skip("the same picture again", instance.path)
        else:
            seen.add(picture)
            yield instance


def _files(folder: Path) -> Iterator[Path]:
    """Files, links, also to folders, and pipes and devices; hidden ones are what systems leave behind."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in sorted([*names, *linked]):
            path = Path(place) / name
            shown = not name.startswith(".") and name.upper() != "DICOMDIR"
            if shown:
                yield path


def read_instance(path: Path) -> Instance | str:
    """One file, or the reason why it is skipped."""
    from pydicom import dcmread
    from pydicom.errors import BytesLengthException, InvalidDicomError

    if not path.is_file():
        return "no ordinary file"  # opening a pipe waits for somebody to write to it
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            start = file.read(132)
            headed = start[128:132] == b"DICM"
            if not headed and start[:2] not in (b"\x08\x00", b"\x00\x08", b"\x02\x00"):
                kind = kind_of(start)
                return f"not DICOM but {kind}" if kind else "not DICOM"
            file.seek(0)
            warnings.simplefilter("ignore")  # a value that breaks its format's rules is common and does no harm
            dataset = dcmread(file, stop_before_pixels=True, force=not headed, specific_tags=_WANTED)
            begin = file.tell()
            return _reduced(path, dataset, begin, file.read(12))
    except OSError as error:  # pydicom raises one without a number where a tag is cut short
        return "cannot be opened" if error.errno else "damaged DICOM"
    except (BytesLengthException, InvalidDicomError, NotImplementedError, RecursionError, struct.error, zlib.error):
        return "damaged DICOM"
    except (ArithmeticError, EOFError, TypeError, ValueError):  # TypeError: several values, or no whole number
        return "damaged DICOM"


def _reduced(path: Path, dataset: Dataset, begin: int, head: bytes) -> Instance | str:
    """`begin` is the byte after the header, `head` the twelve bytes there, which begin the pictures."""
    tags = {
        element.keyword: element.value for element in dataset if element.VR != "SQ" and element.value not in (None, "")
    }
    if "SeriesInstanceUID" not in tags or "SOPInstanceUID" not in tags:
        return "damaged DICOM"
    if not tags.get("Rows") or not tags.get("Columns"):
        return "DICOM without a picture"
    if min(int(tags["Rows"]), int(tags["Columns"]), int(tags.get("NumberOfFrames") or 1)) < 1:
        return "damaged DICOM"
    shared: dict[str, Any] = {}
    for group in dataset.get(_GROUPS[0]) or []:
        shared |= _flat(group)
    frames = [shared | _flat(group) for group in dataset.get(_GROUPS[1]) or []]
    if (echo := tags.get("EchoPulseSequence")) in _ECHO:
        tags["ScanningSequence"] = _ECHO[echo]
    for flat in (shared, *frames[:1]):
        tags |= {name: value for name, value in flat.items() if name in _WANTED}
    placed = [
        _each(frames or [tags], name, size)
        for name, size in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    ]
    syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", "") or "")
    claimed = _claimed(tags, syntax)
    short = max(0, claimed - (path.stat().st_size - begin - _ELEMENT)) if claimed else 0
    held = _length(head, dataset.original_encoding[1] is not False)
    excess = max(0, held - claimed) if claimed and held is not None else 0
    return Instance(path, tags, placed[0], placed[1], placed[2], syntax, begin, short, excess)


def _each(frames: Sequence[Mapping[str, Any]], name: str, size: int) -> NDArray[np.float64]:
    """(frames, size) values of an attribute; no row for a frame that has none, or not so many numbers."""
    rows = [np.atleast_1d(np.array(frame.get(name, ()), dtype=np.float64)) for frame in frames]
    return np.array([row for row in rows if row.shape == (size,)], dtype=np.float64).reshape(-1, size)


def _flat(group: Dataset) -> dict[str, Any]:
    """The attributes of an enhanced object's functional group, under the names of classic objects."""
    flat: dict[str, Any] = {}
    for element in group:
        if element.VR == "SQ" and element.value:
            for inner in element.value[0]:
                if inner.VR != "SQ" and inner.value not in (None, ""):
                    flat[_ALIASES.get(inner.keyword, inner.keyword)] = inner.value
    return flat


def _claimed(tags: Mapping[str, Any], syntax: str) -> int:
    """Bytes of the pictures that a file claims, with the byte that makes them even; 0 if they are packed."""
    from pydicom.uid import UID

    if syntax and (UID(syntax).is_compressed or syntax.endswith(".99")):
        return 0
    pixels = int(tags["Rows"]) * int(tags["Columns"]) * int(tags.get("NumberOfFrames") or 1)
    claimed = pixels * int(tags.get("SamplesPerPixel") or 1) * int(tags.get("BitsAllocated") or 16) // 8
    return claimed + claimed % 2


def _length(head: bytes, little: bool) -> int | None:
    """Bytes of the pictures, from their element's length; None without an element, or for one of unknown length."""
    order: Literal["little", "big"] = "little" if little else "big"
    if len(head) < 12 or int.from_bytes(head[:2], order) != 0x7FE0:
        return None
    length = int.from_bytes(head[8:12] if head[4:6] in (b"OB", b"OW") else head[4:8], order)
    return None if length == 0xFFFFFFFF else length
