"""DICOM series with a voxel pattern that tells where each voxel came from, and people who do not exist."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR, ENHANCED, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.2"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
NAME, BORN, ID, ACCESSION = "Muster^Erika", "19510203", "PID-4711", "ACC-0815"
T1 = {"SeriesDescription": "ax t1 vibe fs pv", "ScanningSequence": "GR", "RepetitionTime": 4.2, "EchoTime": 1.9}
T1 |= {"FlipAngle": 10}
T2 = {"SeriesDescription": "ax T2 HASTE", "ScanningSequence": "SE", "RepetitionTime": 1400, "EchoTime": 92}
SLICES, ROWS, COLUMNS = 11, 24, 20
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def pattern(slices: int = SLICES, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """(slices, rows, columns) int16, a value of its own for each voxel."""
    return np.arange(slices * rows * columns, dtype=np.int16).reshape(slices, rows, columns)


def write_series(
    folder: Path,
    tags: dict[str, Any],
    *,
    voxels: np.ndarray | None = None,
    spacing: tuple[float, float] = (2.0, 1.5),
    apart: float = 5.0,
    origin: Sequence[float] = (-100.0, -80.0, -30.0),
    orientation: Sequence[float] = AXIAL,
    study: str = "1.2.3.1",
    number: int = 1,
    leave_out: Collection[int] = (),
    packed: str | None = None,
    **more: Any,
) -> list[Path]:
    """Write a classic MR series, one file a slice, in a shuffled order of names. `spacing` is between rows and between
    columns, as PixelSpacing. `packed` is a transfer syntax whose data will be nonsense."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels = pattern() if voxels is None else voxels
    series = generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    written = []
    for place, picture in enumerate(voxels):
        if place in leave_out:
            continue
        data = _person(MR, packed or ExplicitVRLittleEndian)
        data.StudyInstanceUID, data.SeriesInstanceUID, data.SeriesNumber = study, series, number
        data.InstanceNumber = place + 1
        data.ImagePositionPatient = [float(one) for one in np.asarray(origin) + place * apart * normal]
        data.ImageOrientationPatient = list(orientation)
        data.PixelSpacing, data.SliceThickness = list(spacing), apart
        _say(data, {**tags, **more})
        _picture(data, picture)
        if packed:
            data.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(range(200))])
            data["PixelData"].is_undefined_length = True
        path = folder / f"IM{(place * 7) % len(voxels):04d}_{number}"
        data.save_as(path, enforce_file_format=True)
        written.append(path)
    return written


def write_enhanced(path: Path, tags: dict[str, Any], voxels: np.ndarray, *, repeat: int = 1) -> None:
    """Write one enhanced multi-frame object, `repeat` times through the same places."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = _person(ENHANCED, ExplicitVRLittleEndian)
    data.StudyInstanceUID, data.SeriesInstanceUID, data.SeriesNumber = "1.2.3.1", generate_uid(), 1
    data.InstanceNumber, data.SeriesDescription = 1, tags["SeriesDescription"]
    data.ImageType = ["ORIGINAL", "PRIMARY", "T1", "NONE"]
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=list(AXIAL))
    shared.PixelMeasuresSequence = _item(PixelSpacing=[2.0, 1.5], SliceThickness=5.0, SpacingBetweenSlices=5.0)
    shared.MRTimingAndRelatedParametersSequence = _item(
        RepetitionTime=tags["RepetitionTime"], FlipAngle=tags["FlipAngle"]
    )
    shared.MREchoSequence = _item(EffectiveEchoTime=tags["EchoTime"])
    data.EchoPulseSequence = "GRADIENT"
    data.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for turn in range(repeat):
        for place in range(len(voxels)):
            frame = Dataset()
            frame.PlanePositionSequence = _item(ImagePositionPatient=[-100.0, -80.0, -30.0 + 5.0 * place])
            frame.FrameContentSequence = _item(
                StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=[place + 1, turn + 1],
                TemporalPositionIndex=turn + 1,
            )  # fmt: skip
            frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    data.NumberOfFrames = len(frames)
    _picture(data, np.concatenate([voxels] * repeat))
    data.save_as(path, enforce_file_format=True)


def _item(**values: Any) -> Items:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Items([item])


def _person(kind: str, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = syntax
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    data.Modality, data.Manufacturer, data.ImageType = "MR", "SIEMENS", ["ORIGINAL", "PRIMARY", "M"]
    data.PatientName, data.PatientID, data.PatientBirthDate = NAME, ID, BORN
    data.PatientAge, data.PatientSex, data.AccessionNumber = "093Y", "F", ACCESSION
    data.StudyDate, data.AcquisitionTime, data.InstitutionName = "20240506", "131415", "Klinik am Musterberg"
    data.ImageComments = f"{NAME} before TIPS"
    data.FrameOfReferenceUID, data.MagneticFieldStrength = "1.2.3.9", 1.5
    return data


def _say(data: Dataset, tags: dict[str, Any]) -> None:
    for name, value in tags.items():
        setattr(data, name, value)


def _picture(data: Dataset, pixels: np.ndarray) -> None:
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelData = pixels.astype("<i2").tobytes()
